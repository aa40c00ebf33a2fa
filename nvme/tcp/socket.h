// Where a target listens, and a connection to it, in the clear or through TLS.
#pragma once

#include <basalt/context.h>
#include <basalt/status.h>

#include <sys/types.h>
#include <sys/uio.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/unique_fd.h"
#include "wire/nvme/tls/tls_stream.h"

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

  // From here on all that is sent and received goes through TLS. Once, before anything has been. Errors: TlsStream's.
  Status secure(const auth::TlsPsk& psk, Duration timeout);

  bool secured() const { return tls_ != nullptr; }

  // As sendmsg() and recvmsg() without waiting and without SIGPIPE. One thread at a time.
  ssize_t send(std::span<const iovec> pieces) noexcept;
  ssize_t receive(std::span<const iovec> pieces) noexcept;
  // receive() has something although fd() may not say so.
  bool has_more() const noexcept { return tls_ != nullptr && tls_->has_more(); }
  // What went wrong with the send() or receive() that has left `number` in errno.
  std::string error_text(int number) const;

  int fd() const { return fd_.get(); }
  // From any thread: reads and writes fail from here on, and whoever sleeps for them wakes. What was written before
  // still goes out.
  void hang_up() noexcept;
  // The same, and what the kernel has not sent yet is thrown away.
  void abort() noexcept;

 private:
  const UniqueFd fd_;
  std::unique_ptr<TlsStream> tls_;  // null: in the clear
};

}  // namespace basalt::nvme
