// FileSystemImpl: a mounted file system; ties the rooms together.
//
// Owns the device, its claim, the blob store and what blobfs keeps in memory. Mounting and recovery are in
// mount.cc, everything else in file_system.cc.
// Threads: any.
#pragma once

#include <basalt/file_system.h>

#include "blobfs/async_reads.h"
#include "blobfs/background_scrub.h"
#include "blobfs/core.h"
#include "blobfs/file_handle.h"
#include "blobfs/log_writeback.h"
#include "blobfs/name_space.h"
#include "blobfs/open_inode.h"
#include "blobfs/tail_replay.h"

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace basalt::blobfs {

class FileSystemImpl final : public FileSystem {
 public:
  static Result<std::unique_ptr<FileSystemImpl>> mount(Context& context,
                                                       std::unique_ptr<Device> device,
                                                       const MountOptions& options);
  ~FileSystemImpl() override;

  Result<std::unique_ptr<File>> create(std::string_view path, FileKind kind,
                                       const CreateOptions& options) override;
  Result<std::unique_ptr<File>> open(std::string_view path, OpenMode mode) override;
  Status remove(std::string_view path) override;
  Status rename(std::string_view from, std::string_view to) override;
  Status link(std::string_view existing, std::string_view created) override;
  Status make_directory(std::string_view path) override;
  Status remove_directory(std::string_view path) override;
  Result<std::vector<DirectoryEntry>> list(std::string_view path) override;
  Result<FileInfo> stat(std::string_view path) override;
  Status truncate(std::string_view path, uint64_t size_bytes) override;
  Status lock(std::string_view path) override;
  Status unlock(std::string_view path) override;
  Status sync_directory(std::string_view path) override;
  Status sync_all() override;
  Status wait_reads(std::span<AsyncRead* const> reads, size_t min_done) override;
  void cancel_read(AsyncRead& read) override;
  Result<ScrubReport> scrub(const ScrubOptions& options) override;
  bool has_data_checksums() override { return store_->has_data_checksums(); }
  SpaceInfo space() override;
  FileSystemStats stats() override;
  const DeviceInfo& device_info() override { return device_->info(); }
  const std::vector<std::string>& recovery_notes() override { return notes_; }
  bool read_only() override { return options_.mode == OpenMode::read_only; }
  Status unmount() override;

 private:
  FileSystemImpl(Context& context, std::unique_ptr<Device> device, const MountOptions& options)
      : context_(context), device_(std::move(device)), options_(options) {}

  // mount.cc
  Status bring_up();
  // Ends a mount that failed; nothing more is written.
  std::unique_ptr<Device> give_up();
  Status open_store();
  Result<TailImage> load_tail(const TailBinding& binding);
  Status find_tails(const blob::StoreIdentity& identity);
  Status start_tail(const blob::StoreIdentity& identity);
  bool keeps_in_memory() const { return options_.flush_to == MountOptions::FlushTo::shared_memory; }
  Status replay_transactions();
  Status replay_chunks();
  Status replay_file(std::span<const KeptChunk> chunks);
  Status finish_recovery();
  void note(std::string sentence);

  // file_system.cc
  Status check_mounted();
  Status check_writable();
  Result<std::unique_ptr<File>> make_handle(InodeRef inode, OpenMode mode,
                                            FileHandle::Origin origin);
  Status sync_open_files();

  Context& context_;
  std::unique_ptr<Device> device_;
  const MountOptions options_;
  Claim claim_;
  std::unique_ptr<blob::BlobStore> store_;
  std::unique_ptr<SharedTail> tail_;
  PageCache cache_;
  std::unique_ptr<Core> core_;
  std::unique_ptr<AsyncReads> reads_;
  std::unique_ptr<InodeTable> inodes_;
  std::unique_ptr<NameSpace> names_;
  std::unique_ptr<LogWriteback> log_writeback_;  // once recovery has ended
  HandleCount handles_;
  std::unique_ptr<BackgroundScrub> background_scrub_;  // none, unless asked for
  std::vector<std::string> notes_;
  std::vector<TailImage> kept_;          // oldest first; during recovery
  std::vector<std::string> kept_paths_;  // their files, to remove
  TailId predecessor_{};                 // of the youngest kept tail
  std::optional<TailBinding> useless_;   // the last opening's tail, if it is not replayed
  bool tail_refused_ = false;            // the store cannot be built on what was kept

  std::atomic<bool> mounted_{false};
  Mutex locks_mutex_;
  std::set<std::string> locks_;  // advisory, by path
};

}  // namespace basalt::blobfs
