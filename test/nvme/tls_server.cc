// See tls_server.h.
#include "nvme/tls_server.h"

#include <openssl/ssl.h>
#include <signal.h>

#include <cstring>
#include <utility>

namespace basalt::nvme {

struct TlsServer::Session {
  auth::TlsPsk psk;
  SSL_CTX* context = nullptr;
  SSL* ssl = nullptr;

  ~Session() {
    SSL_free(ssl);
    SSL_CTX_free(context);
  }

  static int find(SSL* ssl, const unsigned char* identity, size_t bytes, SSL_SESSION** found) {
    const auto* const self = static_cast<Session*>(SSL_get_app_data(ssl));
    *found = nullptr;
    if (bytes != self->psk.identity.size() ||
        std::memcmp(identity, self->psk.identity.data(), bytes) != 0) {
      return 1;  // and there is no certificate instead
    }
    const bool small = self->psk.hash == auth::Hash::sha256;
    const unsigned char suite[] = {0x13, static_cast<unsigned char>(small ? 0x01 : 0x02)};
    SSL_SESSION* const session = SSL_SESSION_new();
    SSL_SESSION_set1_master_key(session, self->psk.key.data(), self->psk.key.size());
    SSL_SESSION_set_cipher(session, SSL_CIPHER_find(ssl, suite));
    SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION);
    *found = session;
    return 1;
  }
};

std::unique_ptr<TlsServer> TlsServer::accept(int fd, const auth::TlsPsk& psk) {
  sigset_t pipe;
  sigemptyset(&pipe);
  sigaddset(&pipe, SIGPIPE);
  pthread_sigmask(SIG_BLOCK, &pipe, nullptr);
  auto session = std::make_unique<Session>();
  session->psk = psk;
  session->context = SSL_CTX_new(TLS_server_method());
  SSL_CTX_set_min_proto_version(session->context, TLS1_3_VERSION);
  session->ssl = SSL_new(session->context);
  SSL_set_app_data(session->ssl, session.get());
  SSL_set_psk_find_session_callback(session->ssl, &Session::find);
  SSL_set_fd(session->ssl, fd);
  if (SSL_accept(session->ssl) != 1) return nullptr;
  return std::unique_ptr<TlsServer>(new TlsServer(std::move(session)));
}

TlsServer::TlsServer(std::unique_ptr<Session> session) : session_(std::move(session)) {}
TlsServer::~TlsServer() = default;

ssize_t TlsServer::receive(void* into, size_t bytes) {
  return SSL_read(session_->ssl, into, static_cast<int>(bytes));
}

ssize_t TlsServer::send(const void* from, size_t bytes) {
  return SSL_write(session_->ssl, from, static_cast<int>(bytes));
}

void TlsServer::update_keys() { SSL_key_update(session_->ssl, SSL_KEY_UPDATE_REQUESTED); }

}  // namespace basalt::nvme
