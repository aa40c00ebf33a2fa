// See tls_stream.h.
#include "wire/nvme/tls/tls_stream.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>

#include "base/try.h"
#include "wire/nvme/tls/offered_identities.h"

namespace basalt::nvme {

namespace {

using std::chrono::steady_clock;

// Of those a client offers; one does not have many, and each takes a key derivation.
constexpr size_t kMostIdentities = 8;
// Records without data that one call takes, as those that replace keys.
constexpr int kMostOtherRecords = 8;
constexpr size_t kRecordBytes = 16 * 1024;  // of TLS 1.3 (RFC 8446, §5.1)

template <class T, void (*Free)(T*)>
struct Freed {
  void operator()(T* value) const { Free(value); }
};
using ContextPointer = std::unique_ptr<SSL_CTX, Freed<SSL_CTX, SSL_CTX_free>>;
using SslPointer = std::unique_ptr<SSL, Freed<SSL, SSL_free>>;
using SessionPointer = std::unique_ptr<SSL_SESSION, Freed<SSL_SESSION, SSL_SESSION_free>>;

// OpenSSL's own socket BIO writes without MSG_NOSIGNAL, and the signals are the process's.
int bio_write(BIO* bio, const char* data, int bytes) {
  BIO_clear_retry_flags(bio);
  const auto fd = static_cast<int>(reinterpret_cast<intptr_t>(BIO_get_data(bio)));
  const ssize_t n = ::send(fd, data, static_cast<size_t>(bytes), MSG_NOSIGNAL | MSG_DONTWAIT);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) BIO_set_retry_write(bio);
  return static_cast<int>(n);
}

int bio_read(BIO* bio, char* data, int bytes) {
  BIO_clear_retry_flags(bio);
  const auto fd = static_cast<int>(reinterpret_cast<intptr_t>(BIO_get_data(bio)));
  const ssize_t n = ::recv(fd, data, static_cast<size_t>(bytes), MSG_DONTWAIT);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) BIO_set_retry_read(bio);
  if (n == 0) BIO_set_flags(bio, BIO_FLAGS_IN_EOF);
  return static_cast<int>(n);
}

long bio_control(BIO* bio, int command, long, void*) {
  if (command == BIO_CTRL_EOF) return BIO_test_flags(bio, BIO_FLAGS_IN_EOF) != 0 ? 1 : 0;
  return command == BIO_CTRL_FLUSH ? 1 : 0;
}

const BIO_METHOD* socket_method() {
  static const BIO_METHOD* const method = [] {
    BIO_METHOD* made = BIO_meth_new(BIO_TYPE_SOURCE_SINK | BIO_get_new_index(), "socket");
    if (made != nullptr) {
      BIO_meth_set_write(made, &bio_write);
      BIO_meth_set_read(made, &bio_read);
      BIO_meth_set_ctrl(made, &bio_control);
    }
    return made;
  }();
  return method;
}

// And leaves nothing for others on this thread who use OpenSSL.
std::string openssl_reason() {
  const char* const reason = ERR_reason_error_string(ERR_peek_last_error());
  ERR_clear_error();
  return reason != nullptr ? reason : "no reason given";
}

}  // namespace

struct TlsStream::Session {
  SslPointer ssl;
  SessionPointer psk;    // the key in use, as OpenSSL has it
  std::string identity;  // and its name
  // The server's.
  FindKey find_key;
  Status no_key;  // why find_key has none

  static int offer(SSL* ssl, const EVP_MD*, const unsigned char** id, size_t* id_bytes,
                   SSL_SESSION** session) {
    auto* const self = static_cast<Session*>(SSL_get_app_data(ssl));
    SSL_SESSION_up_ref(self->psk.get());
    *id = reinterpret_cast<const unsigned char*>(self->identity.data());
    *id_bytes = self->identity.size();
    *session = self->psk.get();
    return 1;
  }

  // Before the cipher suite is chosen, which has to be the key's.
  static int look_for_key(SSL* ssl, int* alert, void*) {
    auto* const self = static_cast<Session*>(SSL_get_app_data(ssl));
    if (self->psk != nullptr) return SSL_CLIENT_HELLO_SUCCESS;  // the client's second try
    const unsigned char* extension = nullptr;
    size_t bytes = 0;
    *alert = SSL_AD_HANDSHAKE_FAILURE;
    if (SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_psk, &extension, &bytes) != 1) {
      self->no_key = {StatusCode::permission_denied, "the host offers no key"};
      return SSL_CLIENT_HELLO_ERROR;
    }
    const auto identities = offered_identities({extension, bytes});
    if (!identities || identities->empty()) {
      *alert = SSL_AD_DECODE_ERROR;
      self->no_key = {StatusCode::invalid_argument, "the keys the host offers are not well formed"};
      return SSL_CLIENT_HELLO_ERROR;
    }
    *alert = SSL_AD_UNKNOWN_PSK_IDENTITY;
    size_t looked_at = 0;
    for (const std::string_view identity : *identities) {
      if (++looked_at > kMostIdentities) break;
      const Result<auth::TlsPsk> key = self->find_key(identity);
      if (!key) {
        self->no_key = key.error();
        continue;
      }
      return self->set_key(*key) ? SSL_CLIENT_HELLO_SUCCESS : SSL_CLIENT_HELLO_ERROR;
    }
    return SSL_CLIENT_HELLO_ERROR;
  }

  static int use(SSL* ssl, const unsigned char* id, size_t bytes, SSL_SESSION** session) {
    auto* const self = static_cast<Session*>(SSL_get_app_data(ssl));
    *session = nullptr;
    if (std::string_view(reinterpret_cast<const char*>(id), bytes) != self->identity) return 1;
    SSL_SESSION_up_ref(self->psk.get());
    *session = self->psk.get();
    return 1;
  }

  bool set_key(const auth::TlsPsk& given) {
    const bool small = given.hash == auth::Hash::sha256;
    const std::array<unsigned char, 2> suite{0x13, static_cast<unsigned char>(small ? 0x01 : 0x02)};
    identity = given.identity;
    psk.reset(SSL_SESSION_new());
    const SSL_CIPHER* const cipher = SSL_CIPHER_find(ssl.get(), suite.data());
    return psk != nullptr && cipher != nullptr &&
           SSL_set_ciphersuites(ssl.get(),
                                small ? "TLS_AES_128_GCM_SHA256" : "TLS_AES_256_GCM_SHA384") == 1 &&
           SSL_SESSION_set1_master_key(psk.get(), given.key.data(), given.key.size()) == 1 &&
           SSL_SESSION_set_cipher(psk.get(), cipher) == 1 &&
           SSL_SESSION_set_protocol_version(psk.get(), TLS1_3_VERSION) == 1;
  }

  // What all connections of a side have in common; making it takes longer than a connection.
  static ContextPointer make_context(const SSL_METHOD* method) {
    ContextPointer context(SSL_CTX_new(method));
    if (context == nullptr || SSL_CTX_set_min_proto_version(context.get(), TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_ciphersuites(context.get(), "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256") !=
            1) {
      return nullptr;
    }
    SSL_CTX_set_session_cache_mode(context.get(), SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(context.get(), 0);  // a key is all it takes to come again
    return context;
  }

  static SSL_CTX* client_context() {
    static const ContextPointer context = make_context(TLS_client_method());
    return context.get();
  }

  static SSL_CTX* server_context() {
    static const ContextPointer context = [] {
      ContextPointer made = make_context(TLS_server_method());
      if (made != nullptr) SSL_CTX_set_client_hello_cb(made.get(), &Session::look_for_key, nullptr);
      return made;
    }();
    return context.get();
  }

  bool prepare(int fd, SSL_CTX* context) {
    if (context != nullptr) ssl.reset(SSL_new(context));
    if (ssl == nullptr) return false;
    SSL_set_app_data(ssl.get(), this);
    SSL_set_mode(ssl.get(), SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    // A peer that sends records without data, and nothing else, is not to keep the reader.
    SSL_clear_mode(ssl.get(), SSL_MODE_AUTO_RETRY);
    SSL_set_read_ahead(ssl.get(), 1);
    SSL_clear_options(ssl.get(), SSL_OP_ALLOW_NO_DHE_KEX);
    // An end without a close_notify is an end: whole PDUs have been counted, and what is not answered is not done.
    SSL_set_options(ssl.get(), SSL_OP_IGNORE_UNEXPECTED_EOF);
    BIO* const bio = socket_method() == nullptr ? nullptr : BIO_new(socket_method());
    if (bio == nullptr) return false;
    BIO_set_data(bio, reinterpret_cast<void*>(static_cast<intptr_t>(fd)));
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl.get(), bio, bio);
    return true;
  }

  bool prepare_client(int fd, const auth::TlsPsk& given) {
    if (!prepare(fd, client_context()) || !set_key(given)) return false;
    SSL_set_verify(ssl.get(), SSL_VERIFY_PEER, nullptr);  // no certificate passes
    SSL_set_psk_use_session_callback(ssl.get(), &Session::offer);
    return true;
  }

  bool prepare_server(int fd, FindKey find) {
    if (!prepare(fd, server_context()) ||
        SSL_set1_groups_list(ssl.get(), "X25519:P-256:P-384") != 1) {  // quick ones
      return false;
    }
    find_key = std::move(find);
    SSL_set_psk_find_session_callback(ssl.get(), &Session::use);
    return true;
  }
};

TlsStream::TlsStream()
    : session_(std::make_unique<Session>()), record_(std::make_unique<std::byte[]>(kRecordBytes)) {}

TlsStream::~TlsStream() = default;

Result<std::unique_ptr<TlsStream>> TlsStream::connect(int fd, const auth::TlsPsk& psk,
                                                      Duration timeout) {
  const auto end = steady_clock::now() + timeout;
  std::unique_ptr<TlsStream> stream(new TlsStream);
  ERR_clear_error();
  if (!stream->session_->prepare_client(fd, psk)) {
    return error(StatusCode::io_error, "TLS: OpenSSL: " + openssl_reason());
  }
  SSL* const ssl = stream->session_->ssl.get();
  for (int done; (done = SSL_connect(ssl)) != 1;) {
    const int number = errno;
    const int code = SSL_get_error(ssl, done);
    if (code == SSL_ERROR_SSL) {
      return error(StatusCode::permission_denied, "TLS handshake: " + openssl_reason() +
                                                      "; does the target do TLS on this port, with "
                                                      "this key for this host and this subsystem?");
    }
    if (code != SSL_ERROR_WANT_READ && code != SSL_ERROR_WANT_WRITE) {
      // Perhaps because it does not know the key, perhaps because it is just going down.
      const bool told = code == SSL_ERROR_SYSCALL && done < 0 && number != 0;
      return error(StatusCode::io_error,
                   std::string("TLS handshake: ") +
                       (told ? std::strerror(number) : "the peer has closed the connection") +
                       "; does the target do TLS on this port?");
    }
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - steady_clock::now());
    if (left.count() <= 0) {
      return error(StatusCode::timed_out,
                   "TLS handshake: no answer; does the target do TLS on this port?");
    }
    pollfd entry{fd, static_cast<short>(code == SSL_ERROR_WANT_WRITE ? POLLOUT : POLLIN), 0};
    ::poll(&entry, 1, static_cast<int>(left.count()));
    ERR_clear_error();
  }
  if (SSL_session_reused(ssl) != 1) {
    return error(StatusCode::permission_denied, "TLS handshake: the peer did not use the key");
  }
  return stream;
}

Result<std::unique_ptr<TlsStream>> TlsStream::accept(int fd, FindKey find_key) {
  std::unique_ptr<TlsStream> stream(new TlsStream);
  ERR_clear_error();
  if (!stream->session_->prepare_server(fd, std::move(find_key))) {
    return error(StatusCode::io_error, "TLS: OpenSSL: " + openssl_reason());
  }
  return stream;
}

Result<TlsStream::Handshake> TlsStream::shake_hands() {
  SSL* const ssl = session_->ssl.get();
  ERR_clear_error();
  errno = 0;
  const int done = SSL_accept(ssl);
  const int number = errno;
  if (done == 1) {
    if (SSL_session_reused(ssl) == 1) return Handshake::done;
    return error(StatusCode::permission_denied, "TLS handshake: the host did not use a key");
  }
  switch (SSL_get_error(ssl, done)) {
    case SSL_ERROR_WANT_READ: return Handshake::waits;
    case SSL_ERROR_SSL: break;
    default:
      ERR_clear_error();
      return error(StatusCode::io_error, std::string("TLS handshake: ") +
                                             (number != 0 ? std::strerror(number)
                                                          : "the host has closed the connection"));
  }
  const std::string reason = openssl_reason();
  if (!session_->no_key.ok()) return error(session_->no_key.with_context("TLS handshake"));
  if (session_->psk == nullptr) {
    return error(StatusCode::invalid_argument,
                 "TLS handshake: " + reason + "; does the host do TLS on this port?");
  }
  return error(StatusCode::permission_denied, "TLS handshake: " + reason +
                                                  "; has the host another key of the name \"" +
                                                  session_->identity + "\"?");
}

const std::string& TlsStream::identity() const { return session_->identity; }

ssize_t TlsStream::fail(int code) noexcept {
  if (code == SSL_ERROR_WANT_READ || code == SSL_ERROR_WANT_WRITE) {
    errno = EAGAIN;
    return -1;
  }
  if (code == SSL_ERROR_SYSCALL && errno != 0) return -1;
  if (failure_.empty()) failure_ = "TLS: " + openssl_reason();
  errno = EPROTO;
  return -1;
}

ssize_t TlsStream::send(std::span<const iovec> pieces) noexcept {
  const void* data = pieces.front().iov_base;
  size_t bytes = std::min(pieces.front().iov_len, kRecordBytes);
  if (pieces.size() > 1 && bytes < kRecordBytes) {
    bytes = 0;
    for (const iovec& piece : pieces) {
      const size_t count = std::min(piece.iov_len, kRecordBytes - bytes);
      std::memcpy(record_.get() + bytes, piece.iov_base, count);
      bytes += count;
    }
    data = record_.get();
  }
  SSL* const ssl = session_->ssl.get();
  ERR_clear_error();
  size_t sent = 0;
  errno = 0;
  if (SSL_write_ex(ssl, data, bytes, &sent) == 1) return static_cast<ssize_t>(sent);
  return fail(SSL_get_error(ssl, 0));
}

ssize_t TlsStream::receive(std::span<const iovec> pieces) noexcept {
  SSL* const ssl = session_->ssl.get();
  size_t total = 0;
  int others = 0;
  for (const iovec& piece : pieces) {
    for (size_t filled = 0; filled < piece.iov_len;) {
      size_t got = 0;
      ERR_clear_error();
      errno = 0;
      if (SSL_read_ex(ssl, static_cast<std::byte*>(piece.iov_base) + filled, piece.iov_len - filled,
                      &got) != 1) {
        const int code = SSL_get_error(ssl, 0);
        // Not for want of anything to read.
        if (code == SSL_ERROR_WANT_READ && BIO_should_retry(SSL_get_rbio(ssl)) == 0 &&
            ++others <= kMostOtherRecords) {
          continue;
        }
        // What is wrong will be so next time too, but OpenSSL tells the reason only now.
        const ssize_t failed = code == SSL_ERROR_ZERO_RETURN ? 0 : fail(code);
        return total > 0 ? static_cast<ssize_t>(total) : failed;
      }
      filled += got;
      total += got;
    }
  }
  return static_cast<ssize_t>(total);
}

bool TlsStream::has_more() const noexcept { return SSL_has_pending(session_->ssl.get()) == 1; }

}  // namespace basalt::nvme
