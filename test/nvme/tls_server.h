// TlsServer: the other end of a TlsStream, by OpenSSL's blocking calls.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <memory>

#include "wire/nvme/auth/tls_key.h"

namespace basalt::nvme {

class TlsServer {
 public:
  // Takes a client's handshake on a blocking socket; it has to name `psk`. Null: it was refused. The calling thread, which
  // is to be the only one, gets no SIGPIPE any more.
  static std::unique_ptr<TlsServer> accept(int fd, const auth::TlsPsk& psk);
  ~TlsServer();

  // As recv() and send().
  ssize_t receive(void* into, size_t bytes);
  ssize_t send(const void* from, size_t bytes);
  // Both sides' keys are replaced (RFC 8446, §4.6.3).
  void update_keys();

 private:
  struct Session;
  explicit TlsServer(std::unique_ptr<Session> session);
  std::unique_ptr<Session> session_;
};

}  // namespace basalt::nvme
