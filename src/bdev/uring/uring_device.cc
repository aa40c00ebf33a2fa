// See uring_device.h. open_file_or_device() below is the whole life of an open, top to bottom.
#include "bdev/uring/uring_device.h"

#include <fcntl.h>

#include <algorithm>
#include <bit>
#include <sstream>

#include "base/check.h"
#include "base/try.h"
#include "bdev/host/host_errno.h"
#include "bdev/scheme_table.h"
#include "bdev/uring/file_limits.h"
#include "bdev/uring/ring_setup.h"
#include "bdev/uring/uring_channel.h"

namespace basalt {
namespace {

constexpr uint64_t kMostDepth = 4096;
// Larger commands gain nothing and keep others waiting.
constexpr uint32_t kLargestTransferBytes = uint64_t{16} << 20;
constexpr uint64_t kLargestZeroBytes = uint64_t{256} << 20;
constexpr uint64_t kLargestDiscardBytes = uint64_t{1} << 30;
constexpr uint32_t kMostIovecs = 1024;  // UIO_MAXIOV
constexpr size_t kZeroBytes = size_t{1} << 20;
// The kernel's own time limits rule: 30 s per attempt and a handful of attempts on SCSI and NVMe.
constexpr Duration kCompletionBound = std::chrono::seconds(300);

struct Keys {
  HostFileRequest request;
  bool direct = true;
  bool discard = true;
  std::optional<uint64_t> block_bytes;
  std::optional<uint64_t> atomic_bytes;
  unsigned depth = 0;
};

Result<Keys> read_keys(UriOptions& options, const Uri& uri, const DeviceOpenOptions& open_options) {
  if (!uri.children.empty()) {
    return error(StatusCode::invalid_argument,
                 uri.to_string() + ": takes a path, not a device; right is file:/path");
  }
  Keys keys;
  keys.request.path = uri.argument;
  keys.request.name = uri.to_string();
  keys.request.open = open_options;
  BASALT_TRY_ASSIGN(keys.request.size_bytes, options.take_size("size"));
  BASALT_TRY_ASSIGN(keys.request.grow, options.take_bool("grow", false));
  BASALT_TRY_ASSIGN(keys.request.reserve, options.take_bool("reserve", false));
  BASALT_TRY_ASSIGN(keys.request.shared_unsafe, options.take_bool("shared_unsafe", false));
  BASALT_TRY_ASSIGN(keys.direct, options.take_bool("direct", true));
  BASALT_TRY_ASSIGN(keys.discard, options.take_bool("discard", true));
  BASALT_TRY_ASSIGN(keys.block_bytes, options.take_size("block"));
  BASALT_TRY_ASSIGN(keys.atomic_bytes, options.take_size("atomic"));
  BASALT_TRY_ASSIGN(const uint64_t depth, options.take_number("depth", 128, 1, kMostDepth));
  BASALT_TRY(options.finish());
  keys.depth = static_cast<unsigned>(depth);
  keys.request.open_flags = keys.direct ? O_DIRECT : 0;
  if (keys.block_bytes &&
      (!std::has_single_bit(*keys.block_bytes) || *keys.block_bytes > kLargestFileBlock)) {
    return options.complain("block", "must be a power of two from 512 to 64K");
  }
  const uint64_t block = keys.block_bytes.value_or(512);
  if (keys.request.size_bytes &&
      (*keys.request.size_bytes == 0 || *keys.request.size_bytes % block != 0)) {
    return options.complain("size", "must be a multiple of the block, " + format_size(block));
  }
  return keys;
}

// The block size and what is atomic, as the file and the keys have it; `largest_write`: by one command, in bytes.
Status settle_blocks(const UriOptions& options, const Keys& keys, const FileLimits& limits,
                     uint64_t largest_write, DeviceInfo& info) {
  info.block_size = limits.block_bytes;
  if (keys.block_bytes) {
    if (*keys.block_bytes < limits.block_bytes) {
      return options
          .complain("block", "the file takes no less than " + format_size(limits.block_bytes))
          .value();
    }
    info.block_size = static_cast<uint32_t>(*keys.block_bytes);
  }
  if (keys.atomic_bytes) {
    const uint64_t bytes = *keys.atomic_bytes;
    if (!std::has_single_bit(bytes) || bytes < info.block_size || bytes > largest_write) {
      return options
          .complain("atomic", "must be a power of two, from the block, " +
                                  format_size(info.block_size) + ", to what is written at once, " +
                                  format_size(largest_write))
          .value();
    }
    const uint64_t blocks = bytes / info.block_size;
    info.atomic_write_blocks = static_cast<uint32_t>(blocks);
  }
  return {};
}

void log_line(Context& context, LogLevel level, const std::string& line) {
  context.log().log(level, "uring", line);
}

// What an operator may want to know about power loss, in the log of every open.
void log_promises(Context& context, const DeviceInfo& info, const FileLimits& limits) {
  std::ostringstream line;
  line << info.uri << ": " << info.block_count.value << " blocks of " << info.block_size
       << " B, write cache " << (info.volatile_write_cache ? "volatile" : "none");
  if (!info.persistent) line << ", in memory only: nothing survives a restart";
  log_line(context, LogLevel::info, line.str());
  const uint64_t atomic = uint64_t{info.atomic_write_blocks} * info.block_size;
  if (limits.physical_block_bytes != 0 && atomic > limits.physical_block_bytes) {
    log_line(context, LogLevel::warning,
             info.uri + ": " + std::to_string(atomic) +
                 " B are taken as atomic on power loss, as " +
                 "the URI says; the device below has physical blocks of " +
                 std::to_string(limits.physical_block_bytes) + " B");
  }
}

Result<std::unique_ptr<Device>> open_file_or_device(Context& context, const Uri& uri,
                                                    const DeviceOpenOptions& open_options) {
  UriOptions options(uri);
  BASALT_TRY_ASSIGN(const Keys keys, read_keys(options, uri, open_options));
  BASALT_TRY_ASSIGN(HostFile file, open_host_file(context.clock(), keys.request));
  BASALT_TRY_ASSIGN(const FileLimits limits,
                    probe_file_limits(file, keys.direct, keys.request.name));

  DeviceInfo info;
  info.uri = keys.request.name;
  const uint64_t largest_write = keys.direct ? limits.unsplit_bytes : kLargestTransferBytes;
  BASALT_TRY(settle_blocks(options, keys, limits, largest_write, info));
  info.block_count = BlockCount{file.size_bytes() / info.block_size};
  if (info.block_count.value == 0) {
    return error(StatusCode::invalid_argument,
                 keys.request.name + ": holds " + std::to_string(file.size_bytes()) +
                     " B, less than one block of " + std::to_string(info.block_size) +
                     " B; size= with grow=1 extends a file");
  }
  info.read_only = open_options.mode == OpenMode::read_only;
  info.volatile_write_cache = limits.volatile_write_cache;
  info.persistent = file.persistent();
  info.max_transfer_blocks = static_cast<uint32_t>(largest_write / info.block_size);
  info.max_iovecs = kMostIovecs;
  info.memory_alignment = limits.memory_alignment;
  info.optimal_io_blocks = limits.optimal_bytes / info.block_size;
  info.completion_bound = kCompletionBound;
  info.native = {Op::read, Op::write, Op::flush, Op::write_zeroes};
  if (keys.discard && limits.can_discard) info.native = info.native | OpSet{Op::discard};

  // A ring now, so that a system without io_uring is told of here and not by every channel.
  BASALT_TRY_ASSIGN(const auto probe, Ring::create(file.fd(), 8, 0));
  UringSettings settings;
  settings.depth = keys.depth;
  settings.ring_discard =
      file.is_block_device() && !info.read_only && probe_ring_discard(*probe->get());

  NativeLimits native = NativeLimits::from(info);
  native.fua = true;
  native.uses_registered_memory = true;
  native.max_write_zeroes_blocks = kLargestZeroBytes / info.block_size;
  native.max_discard_blocks = kLargestDiscardBytes / info.block_size;
  log_promises(context, info, limits);
  return std::make_unique<UringDevice>(context, std::move(info), native, std::move(file), settings);
}

}  // namespace

UringDevice::UringDevice(Context& context, DeviceInfo info, NativeLimits limits, HostFile file,
                         UringSettings settings)
    : DeviceBase(context, std::move(info), limits),
      file_(std::move(file)),
      settings_(settings),
      pinned_budget_bytes_(locked_memory_budget()) {
  // Never written, so all of it is the kernel's one page of zeros.
  void* zeros = mmap(nullptr, kZeroBytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  BASALT_CHECK(zeros != MAP_FAILED, "address space for a mapping of zeros");
  zeros_ = {static_cast<std::byte*>(zeros), kZeroBytes};
}

UringDevice::~UringDevice() { munmap(zeros_.data(), zeros_.size()); }

Result<std::unique_ptr<ChannelCore>> UringDevice::make_channel() {
  BASALT_TRY_ASSIGN(auto ring, Ring::create(fd(), UringChannel::ring_entries(settings_.depth),
                                            MemoryMap::kMaxRegions));
  return std::make_unique<UringChannel>(*this, std::move(ring));
}

bool UringDevice::take_pinned(size_t bytes) {
  const uint64_t before = pinned_bytes_.fetch_add(bytes, std::memory_order_relaxed);
  if (bytes <= pinned_budget_bytes_ && before <= pinned_budget_bytes_ - bytes) return true;
  give_pinned(bytes);
  return false;
}

void UringDevice::note_unregistered_region(int error_number, size_t bytes) {
  if (unregistered_regions_.fetch_add(1, std::memory_order_relaxed) != 0) return;
  log_line(context(), LogLevel::debug,
           info().uri + ": " + std::to_string(bytes) + " B of memory are not registered with the " +
               "ring (" + std::string(errno_status(error_number, "io_uring").message()) +
               "), so I/O to them takes the ordinary way; ulimit -l limits it");
}

void UringDevice::note_failure(const Io& command, int error_number) {
  if (failure_logged_.exchange(true, std::memory_order_relaxed)) return;
  const std::string what = info().uri + ": " + std::string(to_string(command.op)) + " of " +
                           std::to_string(command.block_count.value) + " blocks at block " +
                           std::to_string(command.lba.value);
  log_line(
      context(), LogLevel::error,
      std::string(errno_status(error_number, what).message()) + "; later failures are not logged");
}

void register_uring_scheme(Context& context) {
  context.schemes().add("file", "file:/path?size=64G", open_file_or_device);
  context.schemes().add("uring", "uring:/dev/sdb", open_file_or_device);
}

}  // namespace basalt
