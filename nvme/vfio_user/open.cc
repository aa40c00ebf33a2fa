// VfioUserFunction::open(): from a socket to a function that is known to be an NVMe controller.
//
// The order is the specification's: VERSION first, then what the device is, its regions and its interrupts.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "base/try.h"
#include "nvme/system_error.h"
#include "nvme/vfio_user/vfio_user_function.h"

namespace basalt::nvme {
using namespace vfio_user;
namespace {

constexpr uint64_t kClassOffset = 0x08;  // in configuration space
constexpr uint32_t kNvmeClass = 0x01'08'02;

}  // namespace

Result<std::unique_ptr<PciFunction>> VfioUserFunction::open(std::string_view socket_path,
                                                            const VfioUserOptions& options) {
  if (options.timeout < std::chrono::milliseconds(1) ||
      options.reset_timeout < std::chrono::milliseconds(1)) {
    return error(StatusCode::invalid_argument,
                 std::string(socket_path) + ": timeouts must be at least 1 ms");
  }
  BASALT_TRY_ASSIGN(auto connection, Connection::connect(socket_path, options.timeout));
  std::unique_ptr<VfioUserFunction> function(new VfioUserFunction(std::move(connection), options));
  MutexLock lock(function->mutex_);
  BASALT_TRY(function->negotiate());
  BASALT_TRY(function->read_device_info());
  UniqueFd config_file;  // never mapped
  BASALT_TRY_ASSIGN(function->config_, function->read_region_info(kConfigSpace, config_file));
  BASALT_TRY(function->check_class());
  UniqueFd bar0_file;
  BASALT_TRY_ASSIGN(function->bar0_, function->read_region_info(kBar0, bar0_file));
  BASALT_TRY(function->map_doorbells(bar0_file));
  BASALT_TRY(function->read_interrupt_info());
  BASALT_TRY(function->set_command_bits(kMemorySpace, 0));
  lock.unlock();
  return function;
}

Status VfioUserFunction::negotiate() {
  const std::vector<std::byte> request = version_request();
  BASALT_TRY_ASSIGN(const Reply reply, call(Command::version, request));
  BASALT_TRY_ASSIGN(negotiated_, accept(parse_version(reply.payload)));
  if (negotiated_.max_data_bytes < sizeof(uint64_t)) {
    return Status(StatusCode::unsupported, name() + ": the server takes " +
                                               std::to_string(negotiated_.max_data_bytes) +
                                               " B at once; a register has up to 8 B");
  }
  return {};
}

Status VfioUserFunction::read_device_info() {
  const DeviceInfo request{.argument_bytes = sizeof(DeviceInfo),
                           .flags = 0u,
                           .region_count = 0u,
                           .interrupt_index_count = 0u};
  BASALT_TRY_ASSIGN(const Reply reply, call(Command::device_get_info, bytes_of(request)));
  BASALT_TRY_ASSIGN(const DeviceInfo info, accept(parse_device_info(reply.payload)));
  if ((info.flags & kDeviceIsPci) == 0) {
    return Status(StatusCode::unsupported, name() + ": the server's device is not a PCI device");
  }
  resets_ = (info.flags & kDeviceResets) != 0;
  return {};
}

// Asks once more, for all of it, when the list of areas did not fit.
Result<Region> VfioUserFunction::read_region_info(uint32_t index, UniqueFd& file) {
  constexpr Command kCommand = Command::device_get_region_info;
  Region region;
  region.needed_bytes = kFirstRegionInfoBytes;
  for (int round = 0; round < 2 && region.needed_bytes != 0; ++round) {
    const uint32_t asked_bytes = region.needed_bytes;
    const RegionInfo request{.argument_bytes = asked_bytes,
                             .flags = 0u,
                             .index = index,
                             .capability_offset = 0u,
                             .bytes = 0u,
                             .file_offset = 0u};
    BASALT_TRY_ASSIGN(Reply reply, call(kCommand, bytes_of(request)));
    BASALT_TRY_ASSIGN(region, accept(parse_region_info(reply.payload, index, asked_bytes)));
    if (!reply.fds.empty()) file = std::move(reply.fds.front());
  }
  const std::string what = name() + ": region " + std::to_string(index);
  if (region.needed_bytes != 0) {
    return error(connection_->give_up(
        Status(StatusCode::corruption, what + ": its description grows while it is read")));
  }
  const uint64_t least = index == kBar0 ? kFirstDoorbell + 8 : kConfigHeaderBytes;
  constexpr uint32_t kBoth = kRegionReadable | kRegionWritable;
  if (region.bytes < least || (region.flags & kBoth) != kBoth) {
    return error(StatusCode::unsupported,
                 what + " has " + std::to_string(region.bytes) + " B and flags " +
                     hex(region.flags) + "; an NVMe controller's can be read and written (flags " +
                     "0x3) and has at least " + std::to_string(least) + " B");
  }
  return region;
}

Status VfioUserFunction::check_class() {
  le32 value;
  BASALT_TRY(read_region(kConfigSpace, kClassOffset, std::as_writable_bytes(std::span(&value, 1))));
  if (value >> 8 == kNvmeClass) return {};
  return Status(StatusCode::unsupported, name() + ": a PCI device of class " + hex(value >> 8) +
                                             " is served there; an NVMe controller has class " +
                                             hex(kNvmeClass));
}

// Maps BAR 0 from the first doorbell up to where the server shares no more. Not shared from there on: the
// doorbells are written by messages.
Status VfioUserFunction::map_doorbells(const UniqueFd& file) {
  const uint64_t end = shared_end(bar0_, kFirstDoorbell);
  if (!options_.map_doorbells || end == kFirstDoorbell) return {};
  const uint64_t offset = bar0_.file_offset + kFirstDoorbell;
  const std::string what = name() + ": BAR 0's doorbells";
  if (!file) {
    return connection_->give_up(Status(
        StatusCode::corruption, what + " are said to be shared, but no file came with that"));
  }
  if (offset % static_cast<uint64_t>(sysconf(_SC_PAGESIZE)) != 0) return {};
  // The seal before the size: after it the size can only grow. A file without seals refuses.
  fcntl(file.get(), F_ADD_SEALS, F_SEAL_SHRINK);
  struct stat info {};
  if (fstat(file.get(), &info) != 0) {
    return system_error(what + ": fstat", errno);
  }
  const uint64_t needed = bar0_.file_offset + end;
  if (!S_ISREG(info.st_mode) || static_cast<uint64_t>(info.st_size) < needed) {
    return connection_->give_up(Status(
        StatusCode::corruption, what + " are shared in a file of " + std::to_string(info.st_size) +
                                    " B, and would need a regular file of at least " +
                                    std::to_string(needed) + " B; touching them would fault"));
  }
  void* base = mmap(nullptr, end - kFirstDoorbell, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(),
                    static_cast<off_t>(offset));
  if (base == MAP_FAILED) {
    return system_error(what + ": map " + std::to_string(end - kFirstDoorbell) + " B", errno);
  }
  doorbells_ = {static_cast<volatile std::byte*>(base), end - kFirstDoorbell};
  return {};
}

Status VfioUserFunction::read_interrupt_info() {
  constexpr Command kCommand = Command::device_get_irq_info;
  const InterruptInfo request{
      .argument_bytes = sizeof(InterruptInfo), .flags = 0u, .index = uint32_t{kMsix}, .count = 0u};
  BASALT_TRY_ASSIGN(const Reply reply, call(kCommand, bytes_of(request)));
  BASALT_TRY_ASSIGN(const InterruptInfo info, accept(parse_interrupt_info(reply.payload, kMsix)));
  if ((info.flags & kInterruptEventFd) == 0 || negotiated_.max_message_fds == 0) return {};
  interrupt_count_ = info.count;
  if ((info.flags & kInterruptsSetTogether) != 0) {  // all of them have to fit one message
    interrupt_count_ = std::min(interrupt_count_, negotiated_.max_message_fds);
  }
  return {};
}

}  // namespace basalt::nvme
