// Where a target listens, and a connection to it.
#pragma once

#include <basalt/context.h>
#include <basalt/status.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/unique_fd.h"

namespace basalt::nvme {

inline constexpr uint16_t kIoPort = 4420, kDiscoveryPort = 8009;  // IANA's

struct TcpAddress {
  std::string host;  // a name, or an IPv4 or IPv6 address
  std::string port;

  // "host:port", "[fe80::1]:port", or without ":port".
  static Result<TcpAddress> parse(std::string_view text, uint16_t default_port);
  std::string to_string() const;
  friend bool operator==(const TcpAddress&, const TcpAddress&) = default;
};

// A connected socket that several may hold: its queue, which reads and writes, and its transport, which may end it.
class TcpSocket {
 public:
  // Non-blocking, without delay for small segments. Errors: not_found (no such host, nobody listens), timed_out,
  // permission_denied, io_error.
  static Result<std::shared_ptr<TcpSocket>> connect(const TcpAddress& address, Duration timeout);
  explicit TcpSocket(UniqueFd fd) : fd_(std::move(fd)) {}

  int fd() const { return fd_.get(); }
  // From any thread: reads and writes fail from here on, and whoever sleeps for them wakes. What was written before
  // still goes out.
  void hang_up() noexcept;
  // The same, and what the kernel has not sent yet is thrown away.
  void abort() noexcept;

 private:
  const UniqueFd fd_;
};

}  // namespace basalt::nvme
