// The memory is one private mapping: untouched blocks read as zeroes and cost nothing, and
// discarding gives whole pages back. Commands are carried out in reap(), by the thread that polls.
// Two channels may work at once; commands in flight on the same blocks are unordered, as on any
// device.
#include "bdev/ram/ram_device.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>

#include "base/try.h"
#include "bdev/block_copy.h"
#include "bdev/native.h"
#include "bdev/scheme_table.h"
#include "bdev/sized_uri.h"

namespace basalt {
namespace {

class RamDevice final : public DeviceBase {
 public:
  static Result<std::unique_ptr<Device>> open(Context& context, const Uri& uri,
                                              const DeviceOpenOptions& options);
  RamDevice(Context& context, DeviceInfo info, std::span<std::byte> memory)
      : DeviceBase(context, std::move(info), NativeLimits{}), memory_(memory) {}
  ~RamDevice() override { munmap(memory_.data(), memory_.size()); }

  std::span<std::byte> blocks(Lba lba, BlockCount count) const {
    const uint32_t size = info().block_size;
    return memory_.subspan(lba.value * size, count.value * size);
  }
  void clear(std::span<std::byte> bytes) noexcept;

 private:
  Result<std::unique_ptr<ChannelCore>> make_channel() override;

  const std::span<std::byte> memory_;
};

class RamChannel final : public NativeChannel<RamChannel> {
 public:
  explicit RamChannel(RamDevice& device) : NativeChannel(device), device_(device) {}

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
  StatusCode carry_out(Io& command) noexcept;

  RamDevice& device_;
  IoList queue_;
};

StatusCode RamChannel::carry_out(Io& command) noexcept {
  if (command.op == Op::flush) return StatusCode::ok;
  const std::span<std::byte> blocks = device_.blocks(command.lba, command.block_count);
  switch (command.op) {
    case Op::read: read_blocks(blocks, command.data); return StatusCode::ok;
    case Op::write: write_blocks(command.data, blocks); return StatusCode::ok;
    case Op::compare:
      return same(command.data, {}, blocks) ? StatusCode::ok : StatusCode::miscompare;
    case Op::copy: {
      const auto from = device_.blocks(command.copy_source, command.block_count);
      copy_to_shared<std::memory_order_relaxed>(blocks.data(), from.data(), from.size());
      return StatusCode::ok;
    }
    case Op::write_zeroes:
      if (command.flags.no_deallocate) {
        std::memset(blocks.data(), 0, blocks.size());
      } else {
        device_.clear(blocks);
      }
      return StatusCode::ok;
    case Op::discard: device_.clear(blocks); return StatusCode::ok;
    default: return StatusCode::unsupported;
  }
}

// Zeroes the bytes; gives whole pages back to the system where that is worth a system call.
void RamDevice::clear(std::span<std::byte> bytes) noexcept {
  constexpr uintptr_t kPage = 4096;
  constexpr size_t kWorthwhile = size_t{64} << 10;
  const auto begin = reinterpret_cast<uintptr_t>(bytes.data());
  const uintptr_t first = (begin + kPage - 1) & ~(kPage - 1);
  const uintptr_t end = (begin + bytes.size()) & ~(kPage - 1);
  const bool pages = end > first && end - first >= kWorthwhile &&
                     madvise(bytes.data() + (first - begin), end - first, MADV_DONTNEED) == 0;
  if (!pages) {
    std::memset(bytes.data(), 0, bytes.size());
    return;
  }
  std::memset(bytes.data(), 0, first - begin);
  std::memset(bytes.data() + (end - begin), 0, begin + bytes.size() - end);
}

Result<std::unique_ptr<ChannelCore>> RamDevice::make_channel() {
  return std::make_unique<RamChannel>(*this);
}

Result<std::unique_ptr<Device>> RamDevice::open(Context& context, const Uri& uri,
                                                const DeviceOpenOptions& options) {
  BASALT_TRY_ASSIGN(const Geometry geometry, parse_sized_uri(uri));
  const size_t bytes = geometry.block_count.value * geometry.block_size;
  void* base = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED) {
    return error(StatusCode::no_space, uri.to_string() + ": cannot map " + std::to_string(bytes) +
                                           " B of memory: " + std::strerror(errno));
  }
  DeviceInfo info;
  info.uri = uri.to_string();
  info.block_size = geometry.block_size;
  info.block_count = geometry.block_count;
  info.read_only = options.mode == OpenMode::read_only;
  info.persistent = false;
  info.native = {Op::read,  Op::write,   Op::write_zeroes, Op::discard,
                 Op::flush, Op::compare, Op::copy};
  return std::make_unique<RamDevice>(context, std::move(info),
                                     std::span(static_cast<std::byte*>(base), bytes));
}

}  // namespace

void register_ram_scheme(Context& context) {
  context.schemes().add("ram", "ram:4G", &RamDevice::open);
}

}  // namespace basalt
