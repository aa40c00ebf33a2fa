// See vfio_user_server.h. It trusts its client, which is ours, only as far as a test needs to find the client's
// mistakes: sizes, indexes and counts are checked and answered with EINVAL.
#include "nvme/vfio_user_server.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/check.h"
#include "wire/nvme/registers.h"

namespace basalt::nvme {
using namespace vfio_user;
using Fate = VfioUserServerOptions::Fate;
namespace {

constexpr size_t kMsixOffset = 0x40;

template <typename T>
bool read_fixed(std::span<const std::byte> payload, T& value) {
  if (payload.size() < sizeof value) return false;
  std::memcpy(&value, payload.data(), sizeof value);
  return true;
}

void append(std::vector<std::byte>& out, std::span<const std::byte> bytes) {
  const size_t before = out.size();
  out.resize(before + bytes.size());
  std::copy(bytes.begin(), bytes.end(), out.begin() + static_cast<ptrdiff_t>(before));
}
template <typename T>
void append_struct(std::vector<std::byte>& out, const T& value) {
  append(out, bytes_of(value));
}

}  // namespace

Result<std::unique_ptr<VfioUserServer>> VfioUserServer::create(std::string_view socket_path,
                                                               ServedDevice& device,
                                                               VfioUserServerOptions options) {
  std::unique_ptr<VfioUserServer> server(
      new VfioUserServer(std::string(socket_path), device, std::move(options)));
  sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
  if (socket_path.size() >= sizeof address.sun_path) {
    return error(StatusCode::invalid_argument, server->path_ + ": too long");
  }
  socket_path.copy(address.sun_path, socket_path.size());
  unlink(server->path_.c_str());
  server->wake_ = UniqueFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  server->listener_ = UniqueFd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!server->listener_ || !server->wake_ ||
      bind(server->listener_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) !=
          0 ||
      listen(server->listener_.get(), 1) != 0) {
    return error(StatusCode::io_error, server->path_ + ": " + std::strerror(errno));
  }
  server->thread_ = Thread("vfio-user", [raw = server.get()] { raw->run(); });
  return server;
}

VfioUserServer::VfioUserServer(std::string path, ServedDevice& device,
                               VfioUserServerOptions options)
    : path_(std::move(path)), device_(device), options_(std::move(options)) {
  reset_config();
}

VfioUserServer::~VfioUserServer() {
  stop_ = true;
  hang_up();
  if (thread_.joinable()) thread_.join();
  unlink(path_.c_str());
}

void VfioUserServer::hang_up() {
  hang_up_ = true;
  eventfd_write(wake_.get(), 1);
}

unsigned VfioUserServer::requests(vfio_user::Command command) const {
  MutexLock lock(mutex_);
  const auto at = requests_.find(command);
  return at == requests_.end() ? 0 : at->second;
}

std::vector<Header> VfioUserServer::answers() const {
  MutexLock lock(mutex_);
  return answers_;
}

// ---- The thread

void VfioUserServer::run() {
  while (!stop_) {
    if (!wait_readable(listener_.get())) continue;
    const UniqueFd client(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!client) continue;
    serve(client.get());
    forget_client();
  }
}

void VfioUserServer::serve(int client) {
  Request request;
  while (receive(client, request)) {
    if ((request.header.flags & kTypeMask) == kTypeReply) {
      MutexLock lock(mutex_);
      answers_.push_back(request.header);
    } else {
      {
        MutexLock lock(mutex_);
        ++requests_[static_cast<vfio_user::Command>(uint16_t{request.header.command})];
      }
      if (!reply(client, request)) return;
    }
    request = {};
  }
}

// False when somebody wants the client to be left.
bool VfioUserServer::wait_readable(int fd) {
  for (;;) {
    std::array<pollfd, 2> ready{{{.fd = fd, .events = POLLIN, .revents = 0},
                                 {.fd = wake_.get(), .events = POLLIN, .revents = 0}}};
    if (poll(ready.data(), ready.size(), -1) < 0) continue;
    if (ready[1].revents != 0) {
      eventfd_t count = 0;
      eventfd_read(wake_.get(), &count);
    }
    if (hang_up_.exchange(false)) return false;
    if (ready[0].revents != 0) return true;
  }
}

bool VfioUserServer::receive_bytes(int client, std::span<std::byte> out,
                                   std::vector<UniqueFd>& fds) {
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(kMaxSentFds * sizeof(int))> control;
  for (size_t received = 0; received < out.size();) {
    if (!wait_readable(client)) return false;
    iovec part{.iov_base = out.data() + received, .iov_len = out.size() - received};
    msghdr in{};
    in.msg_iov = &part;
    in.msg_iovlen = 1;
    in.msg_control = control.data();
    in.msg_controllen = control.size();
    const ssize_t n = recvmsg(client, &in, MSG_CMSG_CLOEXEC);
    if (n <= 0) return false;
    received += static_cast<size_t>(n);
    for (cmsghdr* at = CMSG_FIRSTHDR(&in); at != nullptr; at = CMSG_NXTHDR(&in, at)) {
      for (size_t i = 0; i < (at->cmsg_len - CMSG_LEN(0)) / sizeof(int); ++i) {
        int fd = -1;
        std::memcpy(&fd, CMSG_DATA(at) + i * sizeof fd, sizeof fd);
        fds.emplace_back(fd);
      }
    }
  }
  return true;
}

bool VfioUserServer::receive(int client, Request& request) {
  std::array<std::byte, sizeof(Header)> head;
  if (!receive_bytes(client, head, request.fds)) return false;
  std::memcpy(&request.header, head.data(), sizeof request.header);
  if (request.header.message_bytes < sizeof(Header) ||
      request.header.message_bytes > kMaxMessageBytes) {
    return false;
  }
  request.payload.resize(request.header.message_bytes - sizeof(Header));
  return receive_bytes(client, request.payload, request.fds);
}

// False: the connection is over.
bool VfioUserServer::reply(int client, Request& request) {
  const auto command = static_cast<vfio_user::Command>(uint16_t{request.header.command});
  Payload payload;
  int fd = -1;
  const int failed = handle(request, payload, fd);
  if (failed != 0) payload.clear();
  const Header header{.message_id = request.header.message_id,
                      .command = request.header.command,
                      .message_bytes = static_cast<uint32_t>(sizeof(Header) + payload.size()),
                      .flags = failed != 0 ? kTypeReply | kError : kTypeReply,
                      .error = static_cast<uint32_t>(failed)};
  std::vector<std::byte> message;
  append_struct(message, header);
  append(message, std::span<const std::byte>(payload));
  const Fate fate = options_.spoil ? options_.spoil(command, message) : Fate::send;
  if (fate != Fate::send) return fate == Fate::hold_back;
  iovec part{.iov_base = message.data(), .iov_len = message.size()};
  msghdr out{};
  out.msg_iov = &part;
  out.msg_iovlen = 1;
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(int))> control{};
  if (fd >= 0 && failed == 0) {
    out.msg_control = control.data();
    out.msg_controllen = control.size();
    cmsghdr* rights = CMSG_FIRSTHDR(&out);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof fd);
    std::memcpy(CMSG_DATA(rights), &fd, sizeof fd);
  }
  return sendmsg(client, &out, MSG_NOSIGNAL) == static_cast<ssize_t>(message.size());
}

// As the specification asks when a client has gone: its memory and eventfds are let go of.
void VfioUserServer::forget_client() {
  for (auto& [vector, fd] : interrupts_) device_.set_interrupt(vector, -1);
  interrupts_.clear();
  for (const auto& [iova, mapping] : mappings_) {
    const Status status = device_.unmap(iova, mapping.bytes);
    BASALT_CHECK(status.ok(), "the device does not know what was mapped for it");
    munmap(mapping.base, mapping.bytes);
  }
  mappings_.clear();
}

// ---- Requests

int VfioUserServer::handle(Request& request, Payload& out, int& fd) {
  switch (static_cast<vfio_user::Command>(uint16_t{request.header.command})) {
    case vfio_user::Command::version: {
      Version version;
      if (!read_fixed(request.payload, version) || version.major != kMajor) return EINVAL;
      const std::string json = "{\"capabilities\":" + options_.capabilities + "}";
      append_struct(out, version);
      append(out, std::as_bytes(std::span(json.c_str(), json.size() + 1)));
      return 0;
    }
    case vfio_user::Command::dma_map: return dma_map(request);
    case vfio_user::Command::dma_unmap: return dma_unmap(request, out);
    case vfio_user::Command::device_get_info: {
      DeviceInfo info;
      if (!read_fixed(request.payload, info) || info.argument_bytes < sizeof info) return EINVAL;
      append_struct(out, DeviceInfo{.argument_bytes = sizeof(DeviceInfo),
                                    .flags = kDeviceIsPci | (options_.resets ? kDeviceResets : 0),
                                    .region_count = 9u,
                                    .interrupt_index_count = 5u});
      return 0;
    }
    case vfio_user::Command::device_get_region_info: return region_info(request, out, fd);
    case vfio_user::Command::device_get_irq_info: {
      InterruptInfo info;
      if (!read_fixed(request.payload, info) || info.argument_bytes < sizeof info) return EINVAL;
      const uint32_t together = options_.interrupts_set_together ? kInterruptsSetTogether : 0;
      append_struct(out, InterruptInfo{.argument_bytes = sizeof(InterruptInfo),
                                       .flags = kInterruptEventFd | together,
                                       .index = info.index,
                                       .count = info.index == kMsix ? device_.interrupt_count()
                                                                    : uint32_t{0}});
      return 0;
    }
    case vfio_user::Command::device_set_irqs: return set_interrupts(request);
    case vfio_user::Command::region_read: return access_region(request, false, out);
    case vfio_user::Command::region_write: return access_region(request, true, out);
    case vfio_user::Command::device_reset:
      if (!options_.resets) return ENOTTY;
      if (!request.payload.empty()) return EINVAL;
      reset_config();
      device_.reset();
      return 0;
    default: return ENOSYS;
  }
}

int VfioUserServer::dma_map(const Request& request) {
  DmaMap map;
  if (!read_fixed(request.payload, map) || map.argument_bytes != sizeof map) return EINVAL;
  if (request.fds.size() != 1 || map.flags != (kDmaReadable | kDmaWritable)) return EINVAL;
  void* base = mmap(nullptr, map.bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
                    request.fds.front().get(), static_cast<off_t>(uint64_t{map.file_offset}));
  if (base == MAP_FAILED) return errno;
  const std::span<std::byte> memory(static_cast<std::byte*>(base), map.bytes);
  const Status status = device_.map(map.address, memory);
  if (!status.ok()) {
    munmap(base, map.bytes);
    return status.code() == StatusCode::already_exists ? EEXIST : EINVAL;
  }
  mappings_[map.address] = {memory.data(), memory.size()};
  return 0;
}

int VfioUserServer::dma_unmap(const Request& request, Payload& out) {
  DmaUnmap unmap;
  if (!read_fixed(request.payload, unmap) || unmap.argument_bytes < sizeof unmap) return EINVAL;
  const auto at = mappings_.find(unmap.address);
  if (at == mappings_.end() || at->second.bytes != unmap.bytes) return ENOENT;
  if (!device_.unmap(unmap.address, unmap.bytes).ok()) return EBUSY;
  munmap(at->second.base, at->second.bytes);
  mappings_.erase(at);
  append_struct(out, unmap);
  return 0;
}

int VfioUserServer::region_info(const Request& request, Payload& out, int& fd) {
  RegionInfo asked;
  if (!read_fixed(request.payload, asked) || asked.argument_bytes < sizeof asked) return EINVAL;
  RegionInfo info{.argument_bytes = sizeof(RegionInfo),
                  .flags = 0u,
                  .index = asked.index,
                  .capability_offset = 0u,
                  .bytes = 0u,
                  .file_offset = 0u};
  if (asked.index == kConfigSpace) {
    info.bytes = config_.size();
    info.flags = kRegionReadable | kRegionWritable;
  }
  if (asked.index != kBar0) {
    append_struct(out, info);
    return asked.index < 9 ? 0 : EINVAL;
  }
  info.bytes = device_.bar0_bytes();
  info.flags = kRegionReadable | kRegionWritable;
  if (device_.doorbell_fd() < 0) {
    append_struct(out, info);
    return 0;
  }
  info.flags = info.flags | kRegionShared | kRegionCapabilities;
  info.argument_bytes = sizeof info + sizeof(SparseAreas) + sizeof(SparseAreas::Area);
  const bool fits = asked.argument_bytes >= info.argument_bytes;
  if (fits) info.capability_offset = uint32_t{sizeof info};
  append_struct(out, info);
  if (!fits) return 0;
  append_struct(out, SparseAreas{.header = {.id = kSparseAreas, .version = uint16_t{1}, .next = 0u},
                                 .area_count = 1u,
                                 .reserved = 0u});
  append_struct(out, SparseAreas::Area{.offset = uint64_t{kFirstDoorbell},
                                       .bytes = device_.bar0_bytes() - kFirstDoorbell});
  if (!options_.without_files) fd = device_.doorbell_fd();
  return 0;
}

int VfioUserServer::set_interrupts(Request& request) {
  InterruptSet set;
  if (!read_fixed(request.payload, set) || set.argument_bytes != sizeof set) return EINVAL;
  if (set.index != kMsix || set.first >= device_.interrupt_count() ||
      set.count > device_.interrupt_count() - set.first) {
    return EINVAL;
  }
  if (set.flags == (kSetNoData | kSetTrigger) && set.count == 0 && set.first == 0) {
    for (auto& [vector, fd] : interrupts_) device_.set_interrupt(vector, -1);
    interrupts_.clear();
    return 0;
  }
  if (set.flags != (kSetEventFds | kSetTrigger) || set.count != request.fds.size()) return EINVAL;
  for (uint32_t i = 0; i < set.count; ++i) {
    const auto vector = static_cast<uint16_t>(set.first + i);
    device_.set_interrupt(vector, request.fds[i].get());
    interrupts_[vector] = std::move(request.fds[i]);
  }
  return 0;
}

int VfioUserServer::access_region(const Request& request, bool write, Payload& out) {
  RegionAccess access;
  if (!read_fixed(request.payload, access) || access.bytes == 0 || access.bytes > 4096) {
    return EINVAL;
  }
  std::vector<std::byte> data(access.bytes);
  if (request.payload.size() != sizeof access + (write ? data.size() : 0)) return EINVAL;
  if (write)
    std::copy(request.payload.begin() + sizeof access, request.payload.end(), data.begin());
  int failed = EINVAL;
  if (access.index == kBar0) failed = access_register(access.offset, data, write);
  if (access.index == kConfigSpace) failed = access_config(access.offset, data, write);
  append_struct(out, access);
  if (!write) append(out, std::span<const std::byte>(data));
  return failed;
}

int VfioUserServer::access_register(uint64_t offset, std::span<std::byte> data, bool write) {
  const auto bytes = static_cast<uint32_t>(data.size());
  if ((bytes != 4 && bytes != 8) || offset % bytes != 0) return EINVAL;
  if (offset > device_.bar0_bytes() || bytes > device_.bar0_bytes() - offset) return EINVAL;
  le64 value;
  if (write) {
    std::memcpy(&value, data.data(), bytes);
    device_.write_register(static_cast<uint32_t>(offset), bytes, value);
  } else {
    value = device_.read_register(static_cast<uint32_t>(offset), bytes);
    std::memcpy(data.data(), &value, bytes);
  }
  return 0;
}

int VfioUserServer::access_config(uint64_t offset, std::span<std::byte> data, bool write) {
  if (offset > config_.size() || data.size() > config_.size() - offset) return EINVAL;
  const auto at = config_.begin() + static_cast<ptrdiff_t>(offset);
  if (!write) {
    std::copy_n(at, data.size(), data.begin());
    return 0;
  }
  const auto master = [&] { return (config_[4] & std::byte{4}) != std::byte{0}; };
  const bool before = master();
  std::copy(data.begin(), data.end(), at);
  if (master() != before) device_.set_bus_master(master());
  return 0;
}

// PCI 3.0 §6.1: a type 0 header, and MSI-X when there are vectors.
void VfioUserServer::reset_config() {
  config_.fill(std::byte{0});
  const auto put = [&](size_t offset, uint64_t value, size_t bytes) {
    const le64 wire(value);
    std::memcpy(config_.data() + offset, &wire, bytes);
  };
  put(0x00, 0x1234, 2);
  put(0x02, 0x0001, 2);
  put(0x08, uint64_t{options_.pci_class} << 8 | 1, 4);
  if (device_.interrupt_count() == 0) return;
  put(0x06, 0x10, 2);
  put(0x34, kMsixOffset, 1);
  put(kMsixOffset, 0x11, 1);
  put(kMsixOffset + 2, device_.interrupt_count() - 1u, 2);
}

}  // namespace basalt::nvme
