#include "bdev/device_base.h"

#include <algorithm>
#include <bit>

#include "base/check.h"
#include "base/try.h"
#include "bdev/channel_core.h"

namespace basalt {
namespace {

// What the core builds from reads and writes, and a flush that has nothing to do.
OpSet emulated_ops(const DeviceInfo& info) {
  OpSet ops;
  if (info.native.has(Op::read)) ops = ops | OpSet{Op::compare};
  if (info.native.has(Op::write)) ops = ops | OpSet{Op::write_zeroes};
  if (info.native.has(Op::read) && info.native.has(Op::write)) {
    ops = ops | OpSet{Op::compare_and_write, Op::copy};
  }
  if (!info.volatile_write_cache) ops = ops | OpSet{Op::flush};
  return ops;
}

std::unique_ptr<const DeviceInfo> complete_info(DeviceInfo info, const NativeLimits& limits) {
  BASALT_CHECK(
      std::has_single_bit(info.block_size) && info.block_size >= 512 && info.block_size <= 65536,
      "a device's block size is a power of two from 512 to 65536");
  BASALT_CHECK(info.block_count.value <= (~uint64_t{0} >> 1) / info.block_size,
               "a device has at most 2^63 - 1 bytes");
  BASALT_CHECK(!info.volatile_write_cache || info.native.has(Op::flush),
               "a device with a volatile write cache must be able to flush it");
  info.supported = limits.emulate ? info.native | emulated_ops(info) : info.native;
  return std::make_unique<const DeviceInfo>(std::move(info));
}

std::string_view name(ClaimMode mode) {
  switch (mode) {
    case ClaimMode::exclusive_writer: return "exclusive writer";
    case ClaimMode::shared_writer: return "shared writer";
    case ClaimMode::read_only: return "reader without writers";
  }
  return "unknown";
}

// Only equal modes go together, and an exclusive writer with nobody.
bool compatible(ClaimMode a, ClaimMode b) { return a == b && a != ClaimMode::exclusive_writer; }

}  // namespace

NativeLimits NativeLimits::from(const DeviceInfo& info) {
  NativeLimits limits;
  limits.max_transfer_blocks = info.max_transfer_blocks;
  limits.max_compare_and_write_blocks = info.max_compare_and_write_blocks;
  limits.max_iovecs = info.max_iovecs;
  limits.memory_alignment = info.memory_alignment;
  limits.needs_registered_memory = info.needs_registered_memory;
  limits.uses_registered_memory = info.needs_registered_memory;
  return limits;
}

DeviceBase::DeviceBase(Context& context, DeviceInfo info, NativeLimits limits)
    : context_(context), limits_(limits) {
  BASALT_CHECK(std::has_single_bit(limits.memory_alignment),
               "a device's memory alignment is a power of two");
  infos_.push_back(complete_info(std::move(info), limits_));
  info_.store(infos_.back().get(), std::memory_order_release);
  publish_capacity();
}

DeviceBase::~DeviceBase() {
  BASALT_CHECK(claims_.empty(), "a device is destroyed while it is claimed");
}

Result<std::unique_ptr<Channel>> DeviceBase::open_channel() {
  if (removed()) {
    return error(StatusCode::device_removed, info().uri + ": the device is gone");
  }
  BASALT_TRY_ASSIGN(std::unique_ptr<ChannelCore> channel, make_channel());
  if (Status status = channel->prepare(); !status.ok()) {
    return error(status.with_context(info().uri + ": open a channel"));
  }
  return std::unique_ptr<Channel>(std::move(channel));
}

Result<Claim> DeviceBase::claim(ClaimMode mode, std::string_view owner) {
  if (info().read_only && mode != ClaimMode::read_only) {
    return error(StatusCode::read_only, info().uri + ": opened for reading; \"" +
                                            std::string(owner) + "\" cannot claim it as " +
                                            std::string(name(mode)));
  }
  MutexLock lock(mutex_);
  for (const HeldClaim& held : claims_) {
    if (compatible(held.mode, mode)) continue;
    return error(StatusCode::busy, info().uri + ": \"" + held.owner + "\" holds it as " +
                                       std::string(name(held.mode)) + ", so \"" +
                                       std::string(owner) + "\" cannot claim it as " +
                                       std::string(name(mode)));
  }
  claims_.push_back({next_token_, mode, std::string(owner)});
  return Claim(*this, next_token_++);
}

void DeviceBase::release_claim(uint64_t token) {
  MutexLock lock(mutex_);
  std::erase_if(claims_, [&](const HeldClaim& held) { return held.token == token; });
}

void DeviceBase::add_listener(DeviceListener& listener) {
  MutexLock lock(listeners_mutex_);
  listeners_.push_back(&listener);
}

void DeviceBase::remove_listener(DeviceListener& listener) {
  MutexLock lock(listeners_mutex_);
  std::erase(listeners_, &listener);
}

void DeviceBase::tell(DeviceEvent event) {
  MutexLock lock(listeners_mutex_);
  for (DeviceListener* listener : listeners_) listener->on_event(*this, event);
}

void DeviceBase::publish_capacity() {
  capacity_.store(removed() ? 0 : info().block_count.value, std::memory_order_release);
}

void DeviceBase::change_info(DeviceInfo info, DeviceEvent event) {
  {
    MutexLock lock(mutex_);
    BASALT_CHECK(info.block_size == infos_.front()->block_size,
                 "an open device keeps its block size");
    infos_.push_back(complete_info(std::move(info), limits_));
    info_.store(infos_.back().get(), std::memory_order_release);
    publish_capacity();
  }
  tell(event);
}

void DeviceBase::set_removed() {
  {
    MutexLock lock(mutex_);
    removed_.store(true, std::memory_order_release);
    publish_capacity();
  }
  tell(DeviceEvent::removed);
}

void DeviceBase::set_returned() {
  {
    MutexLock lock(mutex_);
    removed_.store(false, std::memory_order_release);
    publish_capacity();
  }
  tell(DeviceEvent::returned);
}

}  // namespace basalt
