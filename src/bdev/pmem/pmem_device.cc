// The file is mapped whole; its last part is the write journal (docs/format/pmem.md). Commands are
// carried out in reap(), by the thread that polls, like memory.
// On persistent memory a write goes through the journal and is durable, and atomic, when it is
// done. On any other file system reads come from the mapping, but writes are pwrite(2) and a flush
// is fdatasync(2), carried out by the polling thread: the kernel may write a mapped page out while
// a copy to it is half done, and never does so within a pwrite. The page cache keeps both views the
// same.
#include "bdev/pmem/pmem_device.h"

#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cerrno>
#include <sstream>

#include "base/try.h"
#include "bdev/host/host_errno.h"
#include "bdev/host/host_file.h"
#include "bdev/native.h"
#include "bdev/pmem/pmem_mapping.h"
#include "bdev/pmem/write_journal.h"
#include "bdev/scheme_table.h"
#include "bdev/uri.h"

namespace basalt {
namespace {

constexpr uint64_t kLargestBlock = 65536;
constexpr uint32_t kMostIovecs = 1024;  // UIO_MAXIOV
constexpr uint64_t kLargestTransferBytes = uint64_t{16} << 20;

// What write_zeroes writes from.
alignas(4096) const std::byte kZeros[WriteJournal::kAtomicBytes] = {};

class PmemDevice final : public DeviceBase {
 public:
  static Result<std::unique_ptr<Device>> open(Context& context, const Uri& uri,
                                              const DeviceOpenOptions& options);
  PmemDevice(Context& context, DeviceInfo info, NativeLimits limits, HostFile file,
             std::unique_ptr<PmemMapping> mapping)
      : DeviceBase(context, std::move(info), limits),
        file_(std::move(file)),
        mapping_(std::move(mapping)),
        journal_(mapping_->bytes(), *mapping_) {}

  int fd() const { return file_.fd(); }
  bool is_pmem() const { return mapping_->is_pmem(); }
  std::span<const std::byte> bytes() const { return mapping_->bytes(); }
  WriteJournal& journal() { return journal_; }

 private:
  Result<std::unique_ptr<ChannelCore>> make_channel() override;

  HostFile file_;
  std::unique_ptr<PmemMapping> mapping_;
  WriteJournal journal_;
  std::atomic<unsigned> next_lane_{0};
};

class PmemChannel final : public NativeChannel<PmemChannel> {
 public:
  PmemChannel(PmemDevice& device, unsigned lane)
      : NativeChannel(device), device_(device), lane_(lane) {}

  bool start(Io& command) noexcept {
    command.channel_word = 0;
    queue_.push_back(command);
    return true;
  }
  void reap() noexcept {
    // What done() submits meanwhile is for the next poll.
    const Io* last = queue_.empty() ? nullptr : queue_.back();
    for (Io* command = nullptr; command != last;) {
      command = queue_.pop_front();
      complete(*command, command->channel_word == 0 ? carry_out(*command) : StatusCode::canceled);
    }
  }
  void native_cancel(Io& command) noexcept { command.channel_word = 1; }

 private:
  StatusCode carry_out(const Io& command) noexcept;
  StatusCode write(uint64_t offset, std::span<const iovec> vectors, size_t bytes,
                   bool fua) noexcept;
  StatusCode write_zeroes(uint64_t offset, uint64_t bytes, bool fua) noexcept;
  StatusCode write_piece(uint64_t offset, std::span<const iovec> vectors, bool fua) noexcept;

  PmemDevice& device_;
  const unsigned lane_;
  IoList queue_;
};

StatusCode PmemChannel::carry_out(const Io& command) noexcept {
  const uint64_t offset = command.lba.value << block_shift();
  const uint64_t bytes = command.block_count.value << block_shift();
  switch (command.op) {
    case Op::read: scatter(device_.bytes().subspan(offset, bytes), command.data, {}); break;
    case Op::compare: {
      const bool equal = same(command.data, {}, device_.bytes().subspan(offset, bytes));
      return equal ? StatusCode::ok : StatusCode::miscompare;
    }
    case Op::write: return write(offset, command.data, bytes, command.flags.fua);
    case Op::write_zeroes: return write_zeroes(offset, bytes, command.flags.fua);
    case Op::flush:
      if (!device_.is_pmem() && fdatasync(device_.fd()) != 0) return status_code_from_errno(errno);
      break;
    default: return StatusCode::unsupported;
  }
  return StatusCode::ok;
}

StatusCode PmemChannel::write(uint64_t offset, std::span<const iovec> vectors, size_t bytes,
                              bool fua) noexcept {
  if (!device_.is_pmem()) return write_piece(offset, vectors, fua);
  device_.journal().write(lane_, offset, vectors, bytes);
  return StatusCode::ok;
}

StatusCode PmemChannel::write_zeroes(uint64_t offset, uint64_t bytes, bool fua) noexcept {
  StatusCode status = StatusCode::ok;
  while (bytes != 0 && status == StatusCode::ok) {
    const size_t piece = std::min<uint64_t>(bytes, sizeof kZeros);
    const iovec zeros{const_cast<std::byte*>(kZeros), piece};
    status = write(offset, {&zeros, 1}, piece, fua);
    offset += piece;
    bytes -= piece;
  }
  return status;
}

// All the vectors, through the page cache; continued where the system stops short.
StatusCode PmemChannel::write_piece(uint64_t offset, std::span<const iovec> vectors,
                                    bool fua) noexcept {
  const int flags = fua ? RWF_DSYNC : 0;
  size_t skip = 0;  // of the first vector, already written
  while (!vectors.empty()) {
    const iovec first{static_cast<std::byte*>(vectors[0].iov_base) + skip,
                      vectors[0].iov_len - skip};
    const ssize_t result =
        skip == 0 ? pwritev2(device_.fd(), vectors.data(), static_cast<int>(vectors.size()),
                             static_cast<off_t>(offset), flags)
                  : pwritev2(device_.fd(), &first, 1, static_cast<off_t>(offset), flags);
    if (result < 0 && errno == EINTR) continue;
    if (result < 0) return status_code_from_errno(errno);
    offset += static_cast<uint64_t>(result);
    skip += static_cast<size_t>(result);
    while (!vectors.empty() && skip >= vectors[0].iov_len) {
      skip -= vectors[0].iov_len;
      vectors = vectors.subspan(1);
    }
    if (result == 0 && !vectors.empty()) return StatusCode::io_error;
  }
  return StatusCode::ok;
}

Result<std::unique_ptr<ChannelCore>> PmemDevice::make_channel() {
  return std::make_unique<PmemChannel>(*this, next_lane_.fetch_add(1, std::memory_order_relaxed));
}

struct Keys {
  HostFileRequest request;
  uint32_t block_bytes = 512;
  std::optional<uint64_t> atomic_bytes;
};

Result<Keys> read_keys(UriOptions& options, const Uri& uri, const DeviceOpenOptions& open_options) {
  if (!uri.children.empty()) {
    return error(StatusCode::invalid_argument,
                 uri.to_string() + ": takes a path, not a device; right is pmem:/path");
  }
  Keys keys;
  keys.request.path = uri.argument;
  keys.request.name = uri.to_string();
  keys.request.open = open_options;
  keys.request.block_devices = false;
  // A store to a hole for which there is no space is a SIGBUS, so there are no holes.
  keys.request.reserve = true;
  BASALT_TRY_ASSIGN(keys.request.size_bytes, options.take_size("size"));
  BASALT_TRY_ASSIGN(keys.request.shared_unsafe, options.take_bool("shared_unsafe", false));
  BASALT_TRY_ASSIGN(const uint64_t block, options.take_size("block", 512));
  BASALT_TRY_ASSIGN(keys.atomic_bytes, options.take_size("atomic"));
  BASALT_TRY(options.finish());
  if (!std::has_single_bit(block) || block < 512 || block > kLargestBlock) {
    return options.complain("block", "must be a power of two from 512 to 64K");
  }
  keys.block_bytes = static_cast<uint32_t>(block);
  if (keys.request.size_bytes && (*keys.request.size_bytes <= pmem_format::kJournalBytes ||
                                  *keys.request.size_bytes % pmem_format::kPageBytes != 0)) {
    return options.complain("size", "must be a multiple of 4K, and more than the " +
                                        std::to_string(pmem_format::kJournalBytes) +
                                        " B of the write journal");
  }
  return keys;
}

// How many blocks a power failure leaves whole.
Result<uint32_t> settle_atomic(const UriOptions& options, const Keys& keys, bool is_pmem) {
  const uint64_t journaled = is_pmem ? WriteJournal::kAtomicBytes : 0;
  const uint64_t bytes =
      keys.atomic_bytes.value_or(std::max<uint64_t>(journaled, keys.block_bytes));
  if (!std::has_single_bit(bytes) || bytes < keys.block_bytes) {
    return options.complain("atomic", "must be a power of two and at least the block, " +
                                          format_size(keys.block_bytes));
  }
  if (is_pmem && bytes > journaled) {
    return options.complain(
        "atomic", "the write journal makes no more than " + format_size(journaled) + " atomic");
  }
  return static_cast<uint32_t>(std::min<uint64_t>(bytes / keys.block_bytes, UINT32_MAX));
}

// Brings the journal into order: a new file gets one, an interrupted write is completed.
Status prepare_journal(Context& context, const HostFile& file, PmemMapping& mapping, bool read_only,
                       const std::string& name) {
  WriteJournal journal(mapping.bytes(), mapping);
  if (file.is_new()) {
    journal.format();
    return {};
  }
  BASALT_TRY(journal.check(name));
  const unsigned pending = journal.pending();
  if (pending == 0) return {};
  if (read_only) {
    return Status(StatusCode::read_only,
                  name + ": a crash interrupted " + std::to_string(pending) +
                      " writes, which the next open for writing completes; open it so once");
  }
  journal.recover();
  context.log().log(
      LogLevel::info, "pmem",
      name + ": completed " + std::to_string(pending) + " writes that a crash had interrupted");
  return {};
}

Result<std::unique_ptr<Device>> PmemDevice::open(Context& context, const Uri& uri,
                                                 const DeviceOpenOptions& open_options) {
  UriOptions options(uri);
  BASALT_TRY_ASSIGN(const Keys keys, read_keys(options, uri, open_options));
  const std::string& name = keys.request.name;
  const bool read_only = open_options.mode == OpenMode::read_only;
  BASALT_TRY_ASSIGN(HostFile file, open_host_file(context.clock(), keys.request));
  const uint64_t device_bytes = WriteJournal::device_bytes(file.size_bytes());
  if (device_bytes < keys.block_bytes) {
    return error(StatusCode::invalid_argument,
                 name + ": holds " + std::to_string(file.size_bytes()) +
                     " B; the write journal alone takes " +
                     std::to_string(pmem_format::kJournalBytes) + " B");
  }
  BASALT_TRY_ASSIGN(auto mapping, PmemMapping::map(file.fd(), file.size_bytes(), read_only, name));
  BASALT_TRY_ASSIGN(const uint32_t atomic_blocks, settle_atomic(options, keys, mapping->is_pmem()));
  BASALT_TRY(prepare_journal(context, file, *mapping, read_only, name));

  DeviceInfo info;
  info.uri = name;
  info.block_size = keys.block_bytes;
  info.block_count = BlockCount{device_bytes / keys.block_bytes};
  info.read_only = read_only;
  info.volatile_write_cache = !mapping->is_pmem();
  info.persistent = file.persistent();
  info.atomic_write_blocks = atomic_blocks;
  info.max_transfer_blocks = static_cast<uint32_t>(kLargestTransferBytes / info.block_size);
  info.max_iovecs = kMostIovecs;
  info.optimal_io_blocks = std::max<uint32_t>(1, 4096 / info.block_size);
  info.native = {Op::read, Op::write, Op::write_zeroes, Op::flush, Op::compare};
  NativeLimits limits = NativeLimits::from(info);
  limits.fua = true;
  limits.max_write_zeroes_blocks = kLargestTransferBytes / info.block_size;

  std::ostringstream line;
  line << name << ": "
       << (mapping->is_pmem() ? "persistent memory; writes are durable when done"
                              : "not persistent memory: a mapped file, volatile until flushed");
  context.log().log(LogLevel::info, "pmem", line.str());
  return std::make_unique<PmemDevice>(context, std::move(info), limits, std::move(file),
                                      std::move(mapping));
}

}  // namespace

void register_pmem_scheme(Context& context) {
  context.schemes().add("pmem", "pmem:/mnt/pmem0/db?size=64G", &PmemDevice::open);
}

}  // namespace basalt
