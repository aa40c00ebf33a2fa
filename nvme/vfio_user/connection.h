// Connection: one socket to a vfio-user server, and one request at a time on it.
//
// A request goes out with its file descriptors (SCM_RIGHTS), and call() waits for the reply with its id, up
// to a deadline. What the server asks meanwhile (DMA_READ, DMA_WRITE) is answered with EOPNOTSUPP: all DMA
// memory is shared by descriptor, so a server that asks has no use for this client. After a timeout or a
// malformed reply nobody knows what the server has done or where its next message starts, so the connection
// is given up then: shut down, and device_removed ever after. A reply that says "error" leaves it as it is.
// Thread rules: one thread at a time, its owner's lock sees to that; removal_fd() is anybody's.
// vfio-user specification 0.9, "Protocol Specification", Header.
#pragma once

#include <basalt/context.h>
#include <basalt/status.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/unique_fd.h"
#include "nvme/vfio_user/protocol.h"

namespace basalt::nvme::vfio_user {

struct Reply {
  std::vector<std::byte> payload;  // what follows the header
  std::vector<UniqueFd> fds;
};

class Connection {
 public:
  // Errors: not_found (no such socket, nobody listens), invalid_argument (no socket, path too long),
  // permission_denied, timed_out (the server's queue of clients stays full).
  static Result<std::unique_ptr<Connection>> connect(std::string_view path, Duration timeout);
  ~Connection() = default;
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // Sends the request and waits for its reply. Errors: timed_out, corruption (a malformed reply),
  // device_removed (the peer has closed, or the connection was given up), and what the server's errno means.
  // Messages start with the socket's path.
  Result<Reply> call(Command command, std::span<const std::byte> payload, std::span<const int> fds,
                     Duration timeout);
  // The connection is of no more use: the server broke the protocol in a way its caller found out.
  Status give_up(Status why);

  const std::string& path() const { return path_; }
  // Readable once the peer has gone or the connection was given up. An epoll that waits for the hang-up alone,
  // because the socket itself is readable with every message too.
  int removal_fd() const { return removal_.get(); }

 private:
  Connection(std::string path, UniqueFd socket, UniqueFd removal)
      : path_(std::move(path)), socket_(std::move(socket)), removal_(std::move(removal)) {}
  Status send(const Header& header, std::span<const std::byte> payload, std::span<const int> fds,
              Duration deadline);
  Result<Reply> wait_for_reply(uint16_t message_id, Command command, Duration deadline,
                               Status& refused);
  Status receive(std::span<std::byte> out, std::vector<UniqueFd>& fds, Duration deadline);
  Status wait_until_ready(short events, Duration deadline);

  const std::string path_;
  const UniqueFd socket_;
  const UniqueFd removal_;
  uint16_t next_id_ = 1;
  Status given_up_;  // not ok: why
};

}  // namespace basalt::nvme::vfio_user
