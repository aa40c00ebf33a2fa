// See namespace.h.
#include "targets/nvmf/namespace.h"

#include <algorithm>
#include <span>
#include <string>

#include "targets/nvmf/subsystem.h"

namespace basalt::nvmf {

namespace {

// FNV-1a, 128 bits.
std::array<uint8_t, 16> hash(std::string_view text) {
  __extension__ using Word = unsigned __int128;
  constexpr Word kPrime = Word{1} << 88 | 0x13b;
  Word value = Word{0x6c62272e07bb0142} << 64 | 0x62b821756295c58d;
  for (const char c : text) value = (value ^ static_cast<uint8_t>(c)) * kPrime;
  std::array<uint8_t, 16> bytes;
  for (unsigned i = 0; i < 16; ++i) bytes[i] = static_cast<uint8_t>(value >> (120 - 8 * i));
  return bytes;
}

}  // namespace

NamespaceIds make_namespace_ids(std::string_view nqn, const Namespace& space,
                                RandomSource& random) {
  NamespaceIds ids;
  const DeviceInfo& info = space.device->info();
  uint8_t version = 0x80;  // of the maker's own kind; RFC 9562, §5.8
  if (info.persistent) {
    ids.uuid = hash(std::string(nqn) + '\0' + std::to_string(space.nsid) + '\0' + info.uri);
  } else {
    version = 0x40;  // by chance; §5.4
    random.fill(std::as_writable_bytes(std::span(ids.uuid)));
  }
  ids.uuid[6] = static_cast<uint8_t>((ids.uuid[6] & 0x0f) | version);
  ids.uuid[8] = static_cast<uint8_t>((ids.uuid[8] & 0x3f) | 0x80);
  ids.nguid = ids.uuid;
  return ids;
}

DeviceWatch::DeviceWatch(std::weak_ptr<Subsystem> subsystem, std::shared_ptr<Device> device)
    : subsystem_(std::move(subsystem)), device_(std::move(device)) {
  device_->add_listener(*this);
}

DeviceWatch::~DeviceWatch() { device_->remove_listener(*this); }

void DeviceWatch::on_event(Device& device, DeviceEvent event) {
  if (event != DeviceEvent::resized && event != DeviceEvent::limits_changed) return;
  if (const auto subsystem = subsystem_.lock()) subsystem->device_changed(device);
}

Status flush_device(Device& device) {
  if (device.info().read_only || !device.info().volatile_write_cache) return {};
  const std::string what = "flush of " + device.info().uri;
  const auto channel = device.open_channel();
  if (!channel) return channel.error().with_context(what);
  Io io;
  io.op = Op::flush;
  const StatusCode code = run(**channel, io);
  if (code == StatusCode::ok) return {};
  return {code, what + ": what hosts have written and not flushed may not survive power loss"};
}

OpSet common_operations(const NamespaceTable& table) {
  OpSet common{Op::compare, Op::discard, Op::write_zeroes, Op::copy, Op::compare_and_write};
  for (const auto& space : table) {
    if (space != nullptr) common = common & space->device->info().supported;
  }
  return common;
}

bool has_volatile_cache(const NamespaceTable& table) {
  return std::any_of(table.begin(), table.end(), [](const auto& space) {
    return space != nullptr && space->device->info().volatile_write_cache;
  });
}

uint32_t common_atomic_blocks(const NamespaceTable& table) {
  uint32_t blocks = 0;
  for (const auto& space : table) {
    if (space == nullptr) continue;
    const uint32_t its = std::min(space->device->info().atomic_write_blocks, 1u << 16);
    blocks = blocks == 0 ? its : std::min(blocks, its);
  }
  return std::max(blocks, 1u);
}

}  // namespace basalt::nvmf
