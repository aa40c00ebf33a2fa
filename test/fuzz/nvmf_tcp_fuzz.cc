// Goal: whatever a host sends on a connection, the target answers, or ends the connection; it keeps nothing of it.
// Method: a target with a small device in memory, one end of a socket pair as the connection. The input's first byte
// chooses how far a proper host has come before (nothing, the connection request, a controller that is ready, an I/O queue)
// and the digests; the rest is sent as it is.
#include <basalt/devices.h>
#include <sys/socket.h>

#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string_view>
#include <vector>

#include "base/sync.h"
#include "reactor/reactor.h"
#include "targets/nvmf/target.h"
#include "wire/nvme/fabrics.h"
#include "wire/nvme/tcp_pdu.h"

namespace {

using namespace basalt;
using nvme::Command;

constexpr const char* kNqn = "nqn.2014-08.org.example:disk";

void require(bool condition) {
  if (!condition) std::abort();
}

struct Quiet final : LogSink {
  void log(LogLevel, std::string_view, std::string_view) override {}
};

struct World {
  World() {
    ContextOptions options;
    options.log = &quiet;
    context = std::move(*Context::create(options));
    register_standard_schemes(*context);
    reactor = std::move(*Reactor::create(context->clock(), {}));
    target = std::make_unique<nvmf::Target>(*context, std::vector<Reactor*>{reactor.get()},
                                            nvmf::TargetOptions{});
    require(target->create_subsystem({.nqn = kNqn, .allow_any_host = true}).ok());
    require(target->find_subsystem(kNqn)->add_listener("fuzz").ok());
    require(target->add_namespace(kNqn, std::move(*open_device(*context, "ram:1M"))).has_value());
  }
  Quiet quiet;
  std::unique_ptr<Context> context;
  std::unique_ptr<Reactor> reactor;
  std::unique_ptr<nvmf::Target> target;
};

class Host {
 public:
  explicit Host(World& world) {
    int ends[2];
    require(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) == 0);
    world.target->serve(UniqueFd(ends[1]), "fuzz", "fuzz");
    fd_ = UniqueFd(ends[0]);
  }
  void send(const void* data, size_t bytes) {
    const auto* at = static_cast<const uint8_t*>(data);
    while (bytes > 0) {
      const ssize_t sent = ::send(fd_.get(), at, bytes, MSG_NOSIGNAL);
      if (sent < 0 && errno != EAGAIN) return;  // the target has ended it
      if (sent < 0) {
        read_some();
        continue;
      }
      at += sent;
      bytes -= static_cast<size_t>(sent);
    }
  }
  void open(uint8_t digests) {
    nvme::tcp::ConnectionRequest request{};
    request.header = {.type = 0, .flags = 0, .header_bytes = 128, .data_offset = 0, .bytes = 128};
    request.digests = digests;
    send(&request, sizeof request);
  }
  void run(const Command& command, const void* data = nullptr, uint32_t bytes = 0) {
    nvme::tcp::CommandPdu pdu{};
    pdu.header = {.type = 4,
                  .flags = 0,
                  .header_bytes = 72,
                  .data_offset = static_cast<uint8_t>(bytes > 0 ? 72 : 0),
                  .bytes = 72 + bytes};
    pdu.command = command;
    nvme::SglDescriptor sgl{};
    sgl.length = bytes;
    sgl.type = static_cast<uint8_t>(nvme::SglType::in_capsule_data_block);
    std::memcpy(static_cast<void*>(&pdu.command.data), &sgl, sizeof sgl);
    send(&pdu, sizeof pdu);
    if (bytes > 0) send(data, bytes);
  }
  uint16_t connect(uint16_t queue_id, uint16_t controller) {
    nvme::ConnectData data{};
    data.controller_id = controller;
    std::strcpy(data.subsystem_nqn, kNqn);
    std::strcpy(data.host_nqn, "nqn.2014-08.org.example:host");
    run(nvme::connect_command(queue_id, 8, 0), &data, sizeof data);
    return await_result();
  }
  // The lower half of the result of the last response among what comes, once one has.
  uint16_t await_result() {
    nvme::tcp::ResponsePdu response{};
    for (size_t have = 0; have < sizeof response || response.header.type != 5;) {
      nvme::tcp::PduHeader header;
      receive(&header, sizeof header);
      std::vector<uint8_t> rest(header.bytes - sizeof header);
      receive(rest.data(), rest.size());
      response.header = header;
      have = header.bytes;
      if (header.type == 5) {
        std::memcpy(static_cast<void*>(&response.completion), rest.data(),
                    sizeof response.completion);
      }
    }
    return static_cast<uint16_t>(response.completion.result & 0xffff);
  }
  // Says that no more comes, and reads until the target has ended it too.
  void finish() {
    ::shutdown(fd_.get(), SHUT_WR);
    while (read_some()) {
    }
  }

 private:
  void receive(void* into, size_t bytes) {
    auto* at = static_cast<uint8_t*>(into);
    while (bytes > 0) {
      const ssize_t got = ::recv(fd_.get(), at, bytes, 0);
      require(got != 0);
      if (got < 0) {
        yield_thread();
        continue;
      }
      at += got;
      bytes -= static_cast<size_t>(got);
    }
  }
  bool read_some() {
    std::array<uint8_t, 16384> buffer;
    const ssize_t got = ::recv(fd_.get(), buffer.data(), buffer.size(), 0);
    if (got < 0 && errno == EAGAIN) yield_thread();
    return got > 0 || (got < 0 && errno == EAGAIN);
  }
  UniqueFd fd_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1) return 0;
  static World* const world = new World;
  {
    Host admin(*world), io(*world);
    Host* speaks = &admin;
    const unsigned stage = data[0] & 3;
    if (stage > 0) admin.open(stage == 1 ? data[0] >> 2 & 3 : 0);
    if (stage > 1) {
      const uint16_t controller = admin.connect(0, nvme::kAnyController);
      admin.run(nvme::property_set_command(nvme::Register::configuration,
                                           nvme::kEnable | nvme::kEntrySizes));
      admin.await_result();
      if (stage > 2) {
        io.open(0);
        io.connect(1, controller);
        speaks = &io;
      }
    }
    speaks->send(data + 1, size - 1);
    speaks->finish();
    admin.finish();
    io.finish();
  }
  while (world->target->connection_count() > 0) yield_thread();
  require(world->target->find_subsystem(kNqn)->controllers().empty());
  return 0;
}
