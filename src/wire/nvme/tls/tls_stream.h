// TlsStream: TLS 1.3 over a connected socket, by a key both ends have (OpenSSL).
//
// NVM Express TCP transport specification 1.0, §3.6.1: TLS begins with the connection, before its first PDU; the cipher
// suite is the key's; the exchange is (EC)DHE with the PSK, never the PSK alone. There are no certificates: a peer that
// would rather show one is refused, and so is one that has none of the keys. The descriptor stays the caller's, who waits
// for it with poll() or epoll: what has been read from it and not been asked for is told by has_more().
//
// Threads: one at a time.
#pragma once

#include <basalt/context.h>
#include <basalt/status.h>
#include <sys/types.h>
#include <sys/uio.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "wire/nvme/auth/tls_key.h"

namespace basalt::nvme {

class TlsStream {
 public:
  // The client's side of the handshake. `fd` is non-blocking and outlives the stream. Errors: permission_denied (the
  // peer refuses in TLS's own words, or is not who has the key), timed_out, io_error (it has gone).
  static Result<std::unique_ptr<TlsStream>> connect(int fd, const auth::TlsPsk& psk,
                                                    Duration timeout);

  // The server's side, which a client's first bytes begin; shake_hands() goes on with it. `find_key` is asked for the key
  // of each identity the client offers, until it has one; an error it gives is the handshake's, if it has none. Errors:
  // io_error.
  using FindKey = std::function<Result<auth::TlsPsk>(std::string_view identity)>;
  static Result<std::unique_ptr<TlsStream>> accept(int fd, FindKey find_key);
  enum class Handshake : bool { waits, done };
  // Waits: for the descriptor to be readable. Whatever is sent is little enough to find room. Errors: permission_denied
  // (no key, or not the right one), invalid_argument (not TLS, or not as it is wanted here), io_error (the client has gone).
  Result<Handshake> shake_hands();

  ~TlsStream();

  // As sendmsg() and recvmsg() on a non-blocking socket, with errno: EAGAIN as there, EPROTO for what failure() tells.
  // After a send() that failed with EAGAIN the next one begins with the same bytes. Up to 16 KiB go out at once.
  ssize_t send(std::span<const iovec> pieces) noexcept;
  ssize_t receive(std::span<const iovec> pieces) noexcept;
  // Something was read from the socket that receive() has not given out.
  bool has_more() const noexcept;
  const std::string& failure() const { return failure_; }
  // Of the key that is in use, once the handshake is done.
  const std::string& identity() const;

 private:
  struct Session;
  TlsStream();
  ssize_t fail(int code) noexcept;

  const std::unique_ptr<Session> session_;
  const std::unique_ptr<std::byte[]> record_;  // pieces, put together
  std::string failure_;
};

}  // namespace basalt::nvme
