// FileSystem: directories and files on a device that Basalt owns, made for databases.
//
//   auto device = basalt::open_device(context, "file:/var/lib/db.img?size=64G");
//   basalt::FileSystem::format(context, **device, {});
//   auto fs = basalt::FileSystem::mount(context, std::move(*device), {});
//   auto wal = (*fs)->create("/db/000001.log", basalt::FileKind::log, {});
//   (*wal)->append(record);   // memory
//   (*wal)->flush();          // survives the death of this process
//   (*wal)->sync();           // survives power loss: one device write and one flush
//
// Durability. Names and sizes change atomically. A change of the name space (create, rename, link,
// remove, …) survives the death of the process when the call returns, and power loss once any later
// sync(), sync_directory() or sync_all() returns. sync() covers every byte written before it was
// called, and the file's own name. After a failed write every later sync() of that file fails.
//
// Paths are absolute, '/'-separated; "." and empty components are dropped, ".." is refused. A
// component is 1 … 255 bytes, a path at most 4096.
//
// Thread rules: every member of FileSystem and File may be called from any thread. Appends to one
// file are serialised by the caller; sync() and reads may run beside an append.
#pragma once

#include <basalt/context.h>
#include <basalt/device.h>
#include <basalt/status.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace basalt {

// How a file's bytes lie on the device. Chosen at creation, kept for life.
enum class FileKind : uint8_t {
  table,  // raw extents: large writes, random reads, positioned writes
  log,    // sealed blocks (docs/format/log.md): small synced appends; no positioned writes
};

struct CreateOptions {
  bool exclusive = false;  // already_exists if the name is taken; else the name gets a new file
  uint64_t preallocate_bytes = 0;  // contiguous space to reserve now, if there is any
  uint8_t lifetime = 0;            // expected life time, 0 unknown, 1 shortest … 5 longest
};

struct FileInfo {
  uint64_t size_bytes = 0;
  uint64_t allocated_bytes = 0;
  uint64_t file_id = 0;  // equal for two names of one file; never reused
  uint32_t link_count = 0;
  bool is_directory = false;
  FileKind kind = FileKind::table;
  Duration modified{};  // wall clock, since 1970-01-01 UTC
};

struct DirectoryEntry {
  std::string name;
  bool is_directory = false;
};

struct ReadRequest {
  uint64_t offset = 0;
  std::span<std::byte> buffer;
  // Set by read_batch(): bytes read (short only at the end of the file) or the error.
  size_t length = 0;
  Status status;
};

enum class Caching : uint8_t {
  normal,    // through the page cache
  uncached,  // straight from the device; does not disturb the cache
};

// An asynchronous read: owned by the caller and borrowed from start_read() until `done` is true.
// Completed only inside FileSystem::wait_reads()/cancel_read(), in the calling thread.
struct AsyncRead {
  uint64_t offset = 0;
  std::span<std::byte> buffer;
  size_t length = 0;
  Status status;
  bool done = false;
  void* impl = nullptr;
};

class File {
 public:
  virtual ~File() = default;  // closes; errors of that close are logged

  // Bytes read: short only at the end of the file, 0 at or beyond it.
  virtual Result<size_t> read(uint64_t offset, std::span<std::byte> buffer,
                              Caching caching = Caching::normal) = 0;
  // Reads all requests at device depth; returns when every one is done. Each has its own status.
  virtual void read_batch(std::span<ReadRequest> requests, Caching caching = Caching::normal) = 0;
  // Starts a read that overlaps with the caller; see AsyncRead.
  virtual void start_read(AsyncRead& read) = 0;
  // Starts reading ahead into the page cache; unsupported where there is none.
  virtual Status prefetch(uint64_t offset, size_t length) = 0;
  // Tells that the file will be read at random, scanned from front to back (readahead), or that scanned for the last
  // time: what such a scan has read is the first to leave the page cache when others need room.
  enum class Access : uint8_t { normal, random, sequential, last_pass };
  virtual void advise(Access access) = 0;

  virtual Status append(std::span<const std::byte> bytes) = 0;
  // Table files only; may extend the file.
  virtual Status write(uint64_t offset, std::span<const std::byte> bytes) = 0;
  // What was written before survives the death of the process.
  virtual Status flush() = 0;
  // What was written before survives power loss, with the size and name that make it readable.
  virtual Status sync() = 0;
  // Starts writing [offset, offset+length) to the device without waiting for it.
  virtual Status start_writeback(uint64_t offset, uint64_t length) = 0;
  virtual Status truncate(uint64_t size_bytes) = 0;
  // Reserves space for [offset, offset+length) without changing the size.
  virtual Status allocate(uint64_t offset, uint64_t length) = 0;
  // Makes [offset, offset+length) read as zeros and frees whole clusters in it. Table files only.
  virtual Status punch(uint64_t offset, uint64_t length) = 0;
  // Bytes a reader sees now. Never waits for I/O on a file opened for writing.
  virtual uint64_t size() = 0;
  virtual FileKind kind() const = 0;
  virtual uint64_t file_id() const = 0;
  // Writes what is buffered, trims preallocated space and reports any error of the file so far; what nobody has synced of a
  // log may stay in shared memory for some seconds. The object answers invalid_argument to everything afterwards.
  virtual Status close() = 0;
};

struct FormatOptions {
  bool force = false;              // overwrite a device that holds something known
  uint32_t cluster_bytes = 65536;  // allocation unit; a power of two, 16 KiB … 1 MiB
  uint64_t journal_bytes = 0;      // 0: by the device's size
  uint64_t metadata_bytes = 0;     // per copy; 0: by the device's size
  std::string label;               // at most 63 bytes, for people
  // Table files get a CRC-32C of every 4 KiB, verified whenever these are read from the device: corruption
  // instead of wrong bytes. Logs have their own.
  bool data_checksums = false;
};

struct MountOptions {
  OpenMode mode = OpenMode::read_write;
  uint64_t cache_bytes = uint64_t{64} << 20;  // page cache; 0: none
  uint64_t metadata_cache_bytes = uint64_t{64} << 20;
  // Where flush() keeps bytes: shared memory (default), or the device where that is not allowed.
  enum class FlushTo : uint8_t { shared_memory, device } flush_to = FlushTo::shared_memory;
  // Shared memory that keeps what was flushed and is not on the device; taken as it is needed, at first 32 MiB.
  uint64_t tail_bytes = uint64_t{128} << 20;
  bool discard = false;  // tell the device about freed space, in the background …
  uint64_t discard_bytes_per_second = uint64_t{1} << 30;  // … no faster than this; 0: no limit
  uint32_t atomic_write_bytes = 0;  // trust the device this far; 0: one logical block
  // Reads all files again and again in the background, this fast, a day apart; damage is logged and counted
  // (see scrub()). 0: not at all.
  uint64_t scrub_bytes_per_second = 0;
};

struct SpaceInfo {
  uint64_t capacity_bytes = 0;  // of data clusters
  uint64_t free_bytes = 0;      // allocatable now
  uint64_t metadata_capacity_bytes = 0;
  uint64_t metadata_free_bytes = 0;
};

// Everything a report or a test wants to count; monotonic since mount.
struct FileSystemStats {
  uint64_t device_reads = 0, device_writes = 0, device_flushes = 0;
  uint64_t device_read_bytes = 0, device_written_bytes = 0;
  uint64_t journal_commits = 0, journal_bytes = 0, transactions = 0, checkpoints = 0;
  uint64_t log_syncs = 0, log_blocks_written = 0;
  uint64_t cache_hits = 0, cache_misses = 0;
  uint64_t damaged_copies_used = 0;  // metadata read from the second copy because the first was bad
  uint64_t scrubbed_bytes = 0, scrub_damages = 0;  // by the background scrub
};

struct CheckReport {
  std::vector<std::string> problems;  // what is broken, and what cannot be read because of it
  std::vector<std::string> notes;     // recoverable oddities: a damaged copy whose twin is good
  std::vector<std::string> repairs;   // by repair(): which copy was rewritten, and from what
  uint64_t blobs = 0, files = 0, directories = 0, metadata_pages = 0, log_blocks = 0;
  bool clean() const { return problems.empty(); }
};

// A damaged stretch of a file. Length 0: the file or directory could not be opened at all, or (path "metadata")
// no copy of a page of metadata is good.
struct ScrubDamage {
  std::string path;
  uint64_t offset = 0, length = 0;
  Status status;  // corruption, or the device's error
};
// "/db/7.sst: bytes [8192, 12288): corruption: …"
std::string to_string(const ScrubDamage& damage);

struct ScrubReport {
  uint64_t metadata_bytes = 0;  // both copies
  uint64_t damaged_copies =
      0;  // of metadata, whose other copy is good; rewritten if mounted for writing
  uint64_t files = 0;
  uint64_t bytes_read = 0;
  uint64_t bytes_verified = 0;  // of those: logs, and tables with checksums
  std::vector<ScrubDamage> damages;
  bool complete = false;
};

struct ScrubOptions {
  uint64_t bytes_per_second = 0;  // 0: no limit
  // Called after at most 1 MiB each; false ends the scrub.
  std::function<bool(const ScrubReport& so_far)> keep_going{};
};

class FileSystem {
 public:
  // Makes an empty store. already_exists, naming what is there, when the device holds a Basalt store
  // or a signature known to libblkid-like probing, unless force.
  static Status format(Context& context, Device& device, const FormatOptions& options);
  // Mounts the store on `device`; recovers as needed. Takes the device's exclusive writer claim.
  static Result<std::unique_ptr<FileSystem>> mount(Context& context, std::unique_ptr<Device> device,
                                                   const MountOptions& options);
  // Verifies every structure of an unmounted store; fails only if it cannot read at all.
  static Result<CheckReport> check(Context& context, Device& device,
                                   void (*progress)(double fraction) = nullptr);
  // check(), and rewrites every damaged copy of a metadata page or superblock whose twin is good; where the
  // store cannot be opened for want of its page map or its free space alone, makes these anew from the rest.
  // Nothing else is written. `problems` are what remains. Losing power meanwhile leaves the store no worse:
  // do it again. Takes the device's exclusive writer claim: busy while the store is mounted, read_only on a
  // device opened for reading.
  static Result<CheckReport> repair(Context& context, Device& device,
                                    void (*progress)(double fraction) = nullptr);
  // Writes the metadata of an unmounted store, one structure a line, for people.
  static Status dump(Context& context, Device& device, std::string& out);

  virtual ~FileSystem() = default;  // unmounts; every File must be closed

  virtual Result<std::unique_ptr<File>> create(std::string_view path, FileKind kind,
                                               const CreateOptions& options) = 0;
  virtual Result<std::unique_ptr<File>> open(std::string_view path, OpenMode mode) = 0;
  virtual Status remove(std::string_view path) = 0;  // a file; open handles go on
  virtual Status rename(std::string_view from,
                        std::string_view to) = 0;  // replaces a file; moves trees
  virtual Status link(std::string_view existing, std::string_view created) = 0;
  virtual Status make_directory(std::string_view path) = 0;
  virtual Status remove_directory(std::string_view path) = 0;  // not_empty unless empty
  virtual Result<std::vector<DirectoryEntry>> list(std::string_view path) = 0;
  virtual Result<FileInfo> stat(std::string_view path) = 0;
  virtual Status truncate(std::string_view path, uint64_t size_bytes) = 0;
  // Advisory, exclusive, by name, within this mount; busy if held. Released by unlock or unmount.
  virtual Status lock(std::string_view path) = 0;
  virtual Status unlock(std::string_view path) = 0;
  // Every earlier change of the name space is durable.
  virtual Status sync_directory(std::string_view path) = 0;
  // Every earlier change of anything is durable.
  virtual Status sync_all() = 0;
  // Completes started reads until at least `min_done` of `reads` are done.
  virtual Status wait_reads(std::span<AsyncRead* const> reads, size_t min_done) = 0;
  // Returns when the read is done, with `canceled` if it could be stopped.
  virtual void cancel_read(AsyncRead& read) = 0;
  // Reads both copies of the metadata and every file from the device, past the page cache, and tells what is
  // damaged: logs and tables with checksums are verified, other tables only read. Files may be used meanwhile.
  virtual Result<ScrubReport> scrub(const ScrubOptions& options) = 0;
  // Whether table files have checksums (FormatOptions::data_checksums).
  virtual bool has_data_checksums() = 0;
  virtual SpaceInfo space() = 0;
  virtual FileSystemStats stats() = 0;
  virtual const DeviceInfo& device_info() = 0;
  // Sentences about what recovery met, empty when nothing unusual ("superblock 0 damaged, …").
  virtual const std::vector<std::string>& recovery_notes() = 0;
  virtual bool read_only() = 0;
  // Writes a checkpoint and unmounts; returns the first error. Files must be closed before.
  virtual Status unmount() = 0;
};

}  // namespace basalt
