// Goal: whatever a controller sends on a connection, a host's queue answers with completions of commands it has, or ends
// the connection with a sentence; it writes into the buffers of commands that wait for data, and nowhere else.
// Method: a queue on one end of a socket pair, reads and writes of several sizes outstanding; the input's first byte
// chooses the digests, the rest arrives in portions whose lengths the input chooses.
#include <sys/socket.h>

#include <array>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <vector>

#include "nvme/commands.h"
#include "nvme/tcp/tcp_queue.h"

namespace {

using namespace basalt::nvme;
using basalt::UniqueFd;

void require(bool condition) {
  if (!condition) std::abort();
}

struct Owner final : TcpQueue::Owner {
  void connection_failed(const TcpQueueShape&, const std::string& why) noexcept override {
    require(!why.empty() && !failed);
    failed = true;
  }
  bool failed = false;
};

constexpr uint16_t kDepth = 5;

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  int ends[2];
  require(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) == 0);
  const UniqueFd peer(ends[1]);
  Owner owner;
  const auto socket = std::make_shared<TcpSocket>(UniqueFd(ends[0]));
  const auto events = std::move(*TcpEvents::create());
  require(events->add(socket->fd()).ok());
  TcpQueue queue({.id = 1,
                  .depth = kDepth,
                  .capsule_data = 4096,
                  .terms = {.header_digest = (data[0] & 1) != 0,
                            .data_digest = (data[0] & 2) != 0,
                            .host_data_alignment = 4,
                            .max_host_data = 4096}},
                 socket, *events, owner);
  queue.serve();
  std::array<std::vector<std::byte>, kDepth> memory;
  std::array<iovec, 2 * kDepth> pieces{};
  std::array<Request, kDepth> requests;
  std::array<bool, kDepth> outstanding{};
  for (uint16_t slot = 0; slot < kDepth; ++slot) {
    memory[slot].resize(size_t{4096} << slot);  // so that a byte outside is found
    pieces[2 * slot] = {memory[slot].data(), 1000};
    pieces[2 * slot + 1] = {memory[slot].data() + 1000, memory[slot].size() - 1000};
    requests[slot].command = slot % 2 == 0 ? read_command(1, 0, 8) : write_command(1, 0, 8);
    requests[slot].data = {&pieces[2 * slot], 2};
    require(queue.post(slot, static_cast<uint16_t>(8 + slot), requests[slot]) ==
            basalt::StatusCode::ok);
    outstanding[slot] = true;
  }
  queue.ring();
  std::array<std::byte, 65536> sink;
  for (size_t at = 1; at < size && !owner.failed;) {
    const size_t length = std::min<size_t>(size - at, data[at] % 97 + size_t{1});
    if (::send(peer.get(), data + at, length, MSG_NOSIGNAL) < 0) break;
    at += length;
    std::array<Completion, 3> completions;
    const unsigned count = queue.reap(completions);
    for (unsigned i = 0; i < count; ++i) {
      const uint16_t cid = completions[i].cid;
      if (cid < 8 || cid >= 8 + kDepth) continue;  // the queue pair's to ignore
      if (outstanding[cid - 8u]) {
        outstanding[cid - 8u] = false;
        std::vector<std::byte>().swap(memory[cid - 8u]);  // its owner has it back
      }
    }
    queue.ring();
    while (::recv(peer.get(), sink.data(), sink.size(), 0) > 0) {
    }
  }
  return 0;
}
