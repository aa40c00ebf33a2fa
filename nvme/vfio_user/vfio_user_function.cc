// What a VfioUserFunction does once it is open (open.cc): registers, DMA, interrupts, power.
#include "nvme/vfio_user/vfio_user_function.h"

#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <iterator>
#include <system_error>

#include "base/try.h"

namespace basalt::nvme {
using namespace vfio_user;
namespace {

// Configuration space.
constexpr uint64_t kCommandOffset = 0x04, kStatusOffset = 0x06, kCapabilitiesOffset = 0x34;
constexpr uint16_t kBusMaster = 1 << 2;
constexpr uint16_t kHasCapabilities = 1 << 4;
constexpr uint8_t kMsixCapability = 0x11;
constexpr uint16_t kMsixEnable = 1 << 15, kMsixMaskAll = 1 << 14;

}  // namespace

VfioUserFunction::~VfioUserFunction() {
  if (!doorbells_.empty()) {
    munmap(const_cast<std::byte*>(doorbells_.data()), doorbells_.size());
  }
}

// ---- Requests

Result<Reply> VfioUserFunction::call(Command command, std::span<const std::byte> payload,
                                     std::span<const int> fds) {
  return connection_->call(command, payload, fds, options_.timeout);
}

Status VfioUserFunction::tell(Command command, std::span<const std::byte> payload,
                              std::span<const int> fds) {
  const Result<Reply> reply = call(command, payload, fds);
  return reply ? Status() : reply.error();
}

Status VfioUserFunction::read_region(uint32_t index, uint64_t offset, std::span<std::byte> out) {
  const RegionAccess request{
      .offset = offset, .index = index, .bytes = static_cast<uint32_t>(out.size())};
  BASALT_TRY_ASSIGN(const Reply reply, call(Command::region_read, bytes_of(request)));
  BASALT_TRY_ASSIGN(const auto data,
                    accept(parse_region_access(reply.payload, Command::region_read, request)));
  std::copy(data.begin(), data.end(), out.begin());
  return {};
}

Status VfioUserFunction::write_region(uint32_t index, uint64_t offset,
                                      std::span<const std::byte> data) {
  const RegionAccess request{
      .offset = offset, .index = index, .bytes = static_cast<uint32_t>(data.size())};
  std::array<std::byte, sizeof request + sizeof(uint64_t)> payload;
  std::memcpy(payload.data(), &request, sizeof request);
  std::copy(data.begin(), data.end(), payload.begin() + sizeof request);
  BASALT_TRY_ASSIGN(const Reply reply,
                    call(Command::region_write,
                         std::span<const std::byte>(payload).first(sizeof request + data.size())));
  const auto done = accept(parse_region_access(reply.payload, Command::region_write, request));
  return done ? Status() : done.error();
}

// ---- BAR 0

Status VfioUserFunction::check_offset(uint32_t offset, uint32_t bytes) const {
  if (offset % bytes == 0 && bar0_.bytes >= bytes && offset <= bar0_.bytes - bytes) return {};
  return Status(StatusCode::out_of_range,
                name() + ": register " + hex(offset) + " (" + std::to_string(bytes) +
                    " B) is not aligned or beyond BAR 0's " + std::to_string(bar0_.bytes) + " B");
}

// Where the register is in shared memory; null: it is the server's to answer.
template <typename T>
volatile T* VfioUserFunction::shared_register(uint32_t offset) {
  if (offset < kFirstDoorbell || offset - kFirstDoorbell >= doorbells_.size()) return nullptr;
  if (doorbells_.size() - (offset - kFirstDoorbell) < sizeof(T)) return nullptr;
  return reinterpret_cast<volatile T*>(doorbells_.data() + (offset - kFirstDoorbell));
}

template <typename T>
Result<T> VfioUserFunction::read(uint32_t offset) {
  BASALT_TRY(check_offset(offset, sizeof(T)));
  if (const volatile T* shared = shared_register<T>(offset)) return T{*shared};
  le<T> value;
  MutexLock lock(mutex_);
  BASALT_TRY(read_region(kBar0, offset, std::as_writable_bytes(std::span(&value, 1))));
  return T{value};
}

template <typename T>
Status VfioUserFunction::write(uint32_t offset, T value) {
  BASALT_TRY(check_offset(offset, sizeof(T)));
  if (volatile T* shared = shared_register<T>(offset)) {
    *shared = value;
    return {};
  }
  const le<T> wire(value);
  MutexLock lock(mutex_);
  return write_region(kBar0, offset, bytes_of(wire));
}

Result<uint32_t> VfioUserFunction::read32(uint32_t offset) { return read<uint32_t>(offset); }
Result<uint64_t> VfioUserFunction::read64(uint32_t offset) { return read<uint64_t>(offset); }
Status VfioUserFunction::write32(uint32_t offset, uint32_t value) { return write(offset, value); }
Status VfioUserFunction::write64(uint32_t offset, uint64_t value) { return write(offset, value); }

// ---- DMA

Result<uint64_t> VfioUserFunction::map_dma(const DmaMemory& memory) {
  const auto address = reinterpret_cast<uintptr_t>(memory.bytes.data());
  const uint64_t bytes = memory.bytes.size();
  const std::string what = name() + ": map " + std::to_string(bytes) + " B at " + hex(address);
  if (memory.fd < 0 || negotiated_.max_message_fds == 0) {
    return error(
        StatusCode::unsupported,
        what + (memory.fd < 0 ? ": another process can reach only memory that has a file behind "
                                "it, such as an Arena's"
                              : ": the server takes no file descriptors"));
  }
  const uint64_t page = negotiated_.smallest_page();
  if (bytes == 0 || address % page != 0 || bytes % page != 0 || memory.fd_offset % page != 0) {
    return error(StatusCode::invalid_argument, what + ", at " + std::to_string(memory.fd_offset) +
                                                   " of its file: whole pages of " +
                                                   std::to_string(page) + " B are needed");
  }
  if (address + bytes < address || memory.fd_offset + bytes < memory.fd_offset) {
    return error(StatusCode::invalid_argument, what + ": beyond the last address");
  }
  struct stat info {};
  if (fstat(memory.fd, &info) != 0) {
    return error(StatusCode::invalid_argument,
                 what + ": its file: " + std::system_category().message(errno));
  }
  if (S_ISREG(info.st_mode) && static_cast<uint64_t>(info.st_size) < memory.fd_offset + bytes) {
    return error(StatusCode::invalid_argument, what + ": its file ends at " +
                                                   std::to_string(info.st_size) +
                                                   " B; the server would fault beyond that");
  }
  const DmaMap request{.argument_bytes = sizeof(DmaMap),
                       .flags = kDmaReadable | kDmaWritable,
                       .file_offset = memory.fd_offset,
                       .address = uint64_t{address},
                       .bytes = bytes};
  MutexLock lock(mutex_);
  // Looked up here, because not every server minds: libvfio-user takes the same memory twice as once.
  const auto next = mapped_.lower_bound(address);
  const bool overlaps =
      (next != mapped_.end() && next->first - address < bytes) ||
      (next != mapped_.begin() && address - std::prev(next)->first < std::prev(next)->second);
  if (overlaps) {
    return error(StatusCode::already_exists, what + ": overlaps what is mapped already");
  }
  if (mapped_.size() >= negotiated_.max_dma_maps) {
    return error(StatusCode::no_space, what + ": the server takes no more than " +
                                           std::to_string(negotiated_.max_dma_maps) +
                                           " pieces of memory; use fewer and larger ones");
  }
  BASALT_TRY(tell(Command::dma_map, bytes_of(request), std::span(&memory.fd, 1)));
  mapped_.emplace(address, bytes);
  return uint64_t{address};
}

Status VfioUserFunction::unmap_dma(uint64_t address, size_t bytes) {
  const DmaUnmap request{.argument_bytes = sizeof(DmaUnmap),
                         .flags = 0u,
                         .address = address,
                         .bytes = uint64_t{bytes}};
  MutexLock lock(mutex_);
  const auto at = mapped_.find(address);
  if (at == mapped_.end() || at->second != bytes) {
    return Status(StatusCode::not_found, name() + ": unmap " + std::to_string(bytes) + " B at " +
                                             hex(address) + ": nothing was mapped like that");
  }
  BASALT_TRY(tell(Command::dma_unmap, bytes_of(request)));  // the reply may repeat the request
  mapped_.erase(at);
  return {};
}

// ---- Interrupts and power

Status VfioUserFunction::set_interrupts(std::span<const int> event_fds) {
  if (event_fds.size() > interrupt_count_) {
    return Status(StatusCode::invalid_argument, name() + ": " + std::to_string(event_fds.size()) +
                                                    " interrupts are asked for; there are " +
                                                    std::to_string(interrupt_count_));
  }
  MutexLock lock(mutex_);
  BASALT_TRY(turn_interrupts_off());
  if (event_fds.empty()) return {};
  interrupts_on_ = true;  // from the first that may be
  Status status;
  for (size_t first = 0; first < event_fds.size() && status.ok();) {
    const size_t count = std::min<size_t>(event_fds.size() - first, negotiated_.max_message_fds);
    const InterruptSet request{.argument_bytes = sizeof(InterruptSet),
                               .flags = kSetEventFds | kSetTrigger,
                               .index = uint32_t{kMsix},
                               .first = static_cast<uint32_t>(first),
                               .count = static_cast<uint32_t>(count)};
    status = tell(Command::device_set_irqs, bytes_of(request), event_fds.subspan(first, count));
    first += count;
  }
  if (status.ok()) status = enable_msix(true);
  // What failed is what there is to tell, whether or not turning the others off works.
  if (!status.ok()) static_cast<void>(turn_interrupts_off());
  return status;
}

Status VfioUserFunction::turn_interrupts_off() {
  if (!interrupts_on_) return {};
  BASALT_TRY(enable_msix(false));
  const InterruptSet request{.argument_bytes = sizeof(InterruptSet),
                             .flags = kSetNoData | kSetTrigger,
                             .index = uint32_t{kMsix},
                             .first = 0u,
                             .count = 0u};
  BASALT_TRY(tell(Command::device_set_irqs, bytes_of(request)));
  interrupts_on_ = false;
  return {};
}

// Sets MSI-X's enable bit. A server without the capability goes by DEVICE_SET_IRQS alone, as most do anyway.
Status VfioUserFunction::enable_msix(bool on) {
  le16 status;
  BASALT_TRY(
      read_region(kConfigSpace, kStatusOffset, std::as_writable_bytes(std::span(&status, 1))));
  if ((status & kHasCapabilities) == 0) return {};
  le<uint8_t> at;
  BASALT_TRY(
      read_region(kConfigSpace, kCapabilitiesOffset, std::as_writable_bytes(std::span(&at, 1))));
  // 48 capabilities are all that fit; a list that goes in circles ends here.
  for (int i = 0; i < 48 && (at & 0xfc) >= kConfigHeaderBytes; ++i) {
    std::array<le<uint8_t>, 4> head;  // id, next, control
    const uint64_t offset = at & 0xfc;
    if (offset + sizeof head > config_.bytes) break;
    BASALT_TRY(read_region(kConfigSpace, offset, std::as_writable_bytes(std::span(head))));
    at = head[1];
    if (head[0] != kMsixCapability) continue;
    const unsigned control = head[2] | head[3] << 8;
    const le16 changed(static_cast<uint16_t>(on ? (control | kMsixEnable) & ~kMsixMaskAll
                                                : control & ~kMsixEnable));
    return write_region(kConfigSpace, offset + 2, bytes_of(changed));
  }
  return {};
}

Status VfioUserFunction::set_command_bits(uint16_t on, uint16_t off) {
  le16 command;
  BASALT_TRY(
      read_region(kConfigSpace, kCommandOffset, std::as_writable_bytes(std::span(&command, 1))));
  const le16 changed(static_cast<uint16_t>((command | on) & ~off));
  return write_region(kConfigSpace, kCommandOffset, bytes_of(changed));
}

Status VfioUserFunction::set_bus_master(bool on) {
  MutexLock lock(mutex_);
  return set_command_bits(on ? kMemorySpace | kBusMaster : kMemorySpace, on ? 0 : kBusMaster);
}

Status VfioUserFunction::reset() {
  if (!resets_) return Status(StatusCode::unsupported, name() + ": the server has no reset");
  MutexLock lock(mutex_);
  BASALT_TRY(turn_interrupts_off());
  const auto done = connection_->call(Command::device_reset, {}, {}, options_.reset_timeout);
  if (!done) return done.error();
  return set_command_bits(kMemorySpace, 0);  // a reset turns it off
}

}  // namespace basalt::nvme
