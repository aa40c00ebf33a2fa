#include "test/bdev/limited_device.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <random>

#include "base/try.h"
#include "bdev/io_cursor.h"
#include "bdev/native.h"
#include "bdev/scheme_table.h"
#include "mem/memory_map.h"
#include "test/zeroed_memory.h"

namespace basalt {
namespace {

class LimitedDevice final : public DeviceBase {
 public:
  static Result<std::unique_ptr<Device>> open(Context& context, const Uri& uri,
                                              const DeviceOpenOptions& options);
  LimitedDevice(Context& context, DeviceInfo info, NativeLimits limits, unsigned slots)
      : DeviceBase(context, info, limits),
        slots_(slots),
        memory_(info.block_count.value * info.block_size),
        durable_(info.volatile_write_cache ? memory_.span().size() : 0) {}

  StatusCode carry_out(Io& command);
  void check_limits(const Io& command);
  void resize(uint64_t block_count) {
    DeviceInfo changed = info();
    changed.block_count = BlockCount{block_count};
    change_info(std::move(changed), DeviceEvent::resized);
  }
  void remove() { set_removed(); }
  void bring_back() { set_returned(); }

  const unsigned slots_;
  std::array<std::atomic<uint64_t>, kOpCount> seen_{};
  mutable Mutex mutex_;  // protects what follows
  const ZeroedMemory memory_;
  const ZeroedMemory durable_;       // empty: all of memory_ is
  size_t dirty_begin_ = ~size_t{0};  // what is not durable lies between these
  size_t dirty_end_ = 0;

 private:
  void make_durable() {
    if (const auto durable = durable_.span(); !durable.empty() && dirty_begin_ < dirty_end_) {
      const size_t bytes = dirty_end_ - dirty_begin_;
      std::ranges::copy(memory_.span().subspan(dirty_begin_, bytes),
                        durable.subspan(dirty_begin_).begin());
    }
    dirty_begin_ = ~size_t{0};
    dirty_end_ = 0;
  }
  Result<std::unique_ptr<ChannelCore>> make_channel() override;
};

class LimitedChannel final : public NativeChannel<LimitedChannel> {
 public:
  explicit LimitedChannel(LimitedDevice& device) : NativeChannel(device), device_(device) {
    started_.reserve(device.slots_);
  }

  bool start(Io& command) noexcept {
    if (started_.size() == device_.slots_) return false;
    device_.check_limits(command);
    command.channel_word = 0;
    started_.push_back(&command);
    return true;
  }
  void kick() noexcept { sent_ = started_.size(); }
  void reap() noexcept {
    for (size_t left = sent_; left != 0; --left) {
      if (random_() % 3 == 0) continue;  // not finished yet
      const size_t which = random_() % sent_;
      Io& command = *started_[which];
      started_.erase(started_.begin() + static_cast<ptrdiff_t>(which));
      --sent_;
      const bool canceled = command.channel_word != 0;
      complete(command, canceled ? StatusCode::canceled : device_.carry_out(command));
      if (sent_ == 0) break;
    }
  }
  void native_cancel(Io& command) noexcept { command.channel_word = 1; }

 private:
  LimitedDevice& device_;
  std::vector<Io*> started_;
  size_t sent_ = 0;
  std::mt19937 random_{12345};
};

void LimitedDevice::check_limits(const Io& command) {
  const NativeLimits& limit = limits();
  const auto within = [](uint64_t value, uint64_t most) { return most == 0 || value <= most; };
  ++seen_[static_cast<size_t>(command.op)];
  EXPECT_TRUE(info().native.has(command.op)) << to_string(command.op);
  if (command.op == Op::flush) return;
  EXPECT_LE(command.lba.value + command.block_count.value, info().block_count.value);
  EXPECT_GT(command.block_count.value, 0u);
  if (command.op == Op::write_zeroes) {
    EXPECT_TRUE(within(command.block_count.value, limit.max_write_zeroes_blocks));
    return;
  }
  if (command.op == Op::discard) {
    EXPECT_TRUE(within(command.block_count.value, limit.max_discard_blocks));
    return;
  }
  EXPECT_TRUE(within(command.block_count.value, limit.max_transfer_blocks));
  if (command.op == Op::copy) return;
  EXPECT_TRUE(within(command.data.size(), limit.max_iovecs));
  if (command.op != Op::read) {
    EXPECT_TRUE(!command.flags.fua || limit.fua || !info().volatile_write_cache);
  }
  uint64_t bytes = 0;
  for (const iovec& vector : command.data) {
    EXPECT_EQ(reinterpret_cast<uintptr_t>(vector.iov_base) % limit.memory_alignment, 0u);
    EXPECT_EQ(vector.iov_len % std::min(limit.memory_alignment, info().block_size), 0u);
    if (limit.needs_registered_memory) {
      EXPECT_NE(context().memory().find(vector.iov_base, vector.iov_len), MemoryMap::kNotFound);
    }
    bytes += vector.iov_len;
  }
  const uint64_t copies = command.op == Op::compare_and_write ? 2 : 1;
  EXPECT_EQ(bytes, command.block_count.value * info().block_size * copies);
}

StatusCode LimitedDevice::carry_out(Io& command) {
  MutexLock lock(mutex_);
  if (command.op == Op::flush) {
    make_durable();
    return StatusCode::ok;
  }
  const size_t size = command.block_count.value * info().block_size;
  const auto blocks_of = [&](Lba lba) {
    return memory_.span().subspan(lba.value * info().block_size, size);
  };
  const std::span<std::byte> blocks = blocks_of(command.lba);
  switch (command.op) {
    case Op::read: scatter(blocks, command.data, {}); return StatusCode::ok;
    case Op::write: gather(command.data, {}, blocks); break;
    case Op::write_zeroes: std::ranges::fill(blocks, std::byte{0}); break;
    case Op::discard: std::ranges::fill(blocks, std::byte{0xDD}); break;
    case Op::copy: std::ranges::copy(blocks_of(command.copy_source), blocks.begin()); break;
    case Op::compare:
      return same(command.data, {}, blocks) ? StatusCode::ok : StatusCode::miscompare;
    case Op::compare_and_write: {
      if (!same(command.data, {}, blocks)) return StatusCode::miscompare;
      IoCursor second;
      second.skip(command.data, size);
      gather(command.data, second, blocks);
      break;
    }
    default: return StatusCode::unsupported;
  }
  const size_t begin = command.lba.value * info().block_size;
  if (const auto durable = durable_.span(); command.flags.fua && !durable.empty()) {
    std::ranges::copy(blocks, durable.subspan(begin).begin());
  } else {
    dirty_begin_ = std::min(dirty_begin_, begin);
    dirty_end_ = std::max(dirty_end_, begin + size);
  }
  return StatusCode::ok;
}

Result<std::unique_ptr<ChannelCore>> LimitedDevice::make_channel() {
  return std::make_unique<LimitedChannel>(*this);
}

Result<std::unique_ptr<Device>> LimitedDevice::open(Context& context, const Uri& uri,
                                                    const DeviceOpenOptions& open_options) {
  UriOptions options(uri);
  constexpr uint64_t kMost = ~uint32_t{0};
  BASALT_TRY_ASSIGN(const uint64_t bytes, parse_size(uri.argument));
  BASALT_TRY_ASSIGN(const uint64_t block, options.take_size("block", 512));
  BASALT_TRY_ASSIGN(const uint64_t align, options.take_size("align", 1));
  BASALT_TRY_ASSIGN(const uint64_t transfer, options.take_number("transfer", 0, 0, kMost));
  BASALT_TRY_ASSIGN(const uint64_t zeroes, options.take_number("zeroes", 0, 0, kMost));
  BASALT_TRY_ASSIGN(const uint64_t vectors, options.take_number("vectors", 0, 0, kMost));
  BASALT_TRY_ASSIGN(const uint64_t slots, options.take_number("slots", 4, 1, 1000));
  BASALT_TRY_ASSIGN(const bool cache, options.take_bool("cache", true));
  BASALT_TRY_ASSIGN(const bool fua, options.take_bool("fua", false));
  BASALT_TRY_ASSIGN(const bool registered, options.take_bool("registered", false));
  BASALT_TRY_ASSIGN(const size_t ops, options.take_choice("ops", {"few", "all"}, 0));
  BASALT_TRY(options.finish());
  DeviceInfo info;
  info.uri = uri.to_string();
  info.block_size = static_cast<uint32_t>(block);
  info.block_count = BlockCount{bytes / block};
  info.read_only = open_options.mode == OpenMode::read_only;
  info.volatile_write_cache = cache;
  info.persistent = false;
  info.max_transfer_blocks = static_cast<uint32_t>(transfer);
  info.max_iovecs = static_cast<uint32_t>(vectors);
  info.memory_alignment = static_cast<uint32_t>(align);
  info.needs_registered_memory = registered;
  info.native = {Op::read, Op::write, Op::flush};
  if (ops == 1) {
    info.native = info.native | OpSet{Op::write_zeroes, Op::discard, Op::compare,
                                      Op::compare_and_write, Op::copy};
  }
  NativeLimits limits = NativeLimits::from(info);
  limits.max_write_zeroes_blocks = limits.max_discard_blocks = zeroes;
  limits.fua = fua;
  return std::make_unique<LimitedDevice>(context, std::move(info), limits,
                                         static_cast<unsigned>(slots));
}

LimitedDevice& limited(Device& device) { return dynamic_cast<LimitedDevice&>(device); }

}  // namespace

void register_limited_scheme(Context& context) {
  context.schemes().add("limited", "limited:64M?transfer=8", &LimitedDevice::open);
}

std::vector<std::byte> durable_blocks(const Device& device, uint64_t lba, uint64_t count) {
  const auto& self = dynamic_cast<const LimitedDevice&>(device);
  const size_t size = self.info().block_size;
  const MutexLock lock(self.mutex_);
  const auto blocks = self.durable_.span().subspan(lba * size, count * size);
  return {blocks.begin(), blocks.end()};
}

uint64_t commands_seen(const Device& device, Op op) {
  return dynamic_cast<const LimitedDevice&>(device).seen_[static_cast<size_t>(op)];
}

void resize_limited(Device& device, uint64_t block_count) { limited(device).resize(block_count); }
void remove_limited(Device& device) { limited(device).remove(); }
void return_limited(Device& device) { limited(device).bring_back(); }

}  // namespace basalt
