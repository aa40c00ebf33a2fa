// See socket.h.
#include "nvme/tcp/socket.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstring>

#include "base/try.h"

namespace basalt::nvme {

namespace {

using std::chrono::steady_clock;

int milliseconds_left(steady_clock::time_point end) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - steady_clock::now());
  return static_cast<int>(std::max<int64_t>(left.count(), 0));
}

Status connect_error(const std::string& where, int number) {
  switch (number) {
    case ECONNREFUSED:
      return {StatusCode::not_found, where + ": connection refused; no target listens there"};
    case ETIMEDOUT:
      return {StatusCode::timed_out,
              where + ": no answer; is the address right, and does a firewall let it through?"};
    case EHOSTUNREACH:
    case ENETUNREACH: return {StatusCode::not_found, where + ": no route there"};
    case EACCES:
    case EPERM: return {StatusCode::permission_denied, where + ": " + std::strerror(number)};
    case EMFILE:
    case ENFILE:
      return {StatusCode::no_space, where + ": " + std::strerror(number) +
                                        "; raise the limit of open files or open fewer queues"};
    default: return {StatusCode::io_error, where + ": connect: " + std::strerror(number)};
  }
}

Result<UniqueFd> connect_one(const addrinfo& info, const std::string& where,
                             steady_clock::time_point end) {
  UniqueFd fd(::socket(info.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP));
  if (!fd) return error(connect_error(where, errno));
  const int on = 1;
  ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (::connect(fd.get(), info.ai_addr, info.ai_addrlen) == 0) return fd;
  if (errno != EINPROGRESS) return error(connect_error(where, errno));
  pollfd entry{fd.get(), POLLOUT, 0};
  int ready;
  do {
    ready = ::poll(&entry, 1, milliseconds_left(end));
  } while (ready < 0 && errno == EINTR);
  if (ready == 0) return error(connect_error(where, ETIMEDOUT));
  int number = 0;
  socklen_t bytes = sizeof number;
  ::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &number, &bytes);
  if (number != 0) return error(connect_error(where, number));
  return fd;
}

}  // namespace

Result<TcpAddress> TcpAddress::parse(std::string_view text, uint16_t default_port) {
  const auto wrong = [&](const char* what) {
    return error(StatusCode::invalid_argument,
                 "\"" + std::string(text) + "\": " + what +
                     "; expected HOST or HOST:PORT, as 10.0.0.1:4420 or [fe80::1]:4420");
  };
  TcpAddress address;
  std::string_view port;
  if (text.starts_with('[')) {
    const size_t end = text.find(']');
    if (end == std::string_view::npos) return wrong("no ] after the address");
    address.host = text.substr(1, end - 1);
    port = text.substr(end + 1);
    if (!port.empty() && port.front() != ':')
      return wrong("something else than :PORT behind the ]");
  } else {
    const size_t colon = text.find(':');
    if (colon != text.rfind(':')) return wrong("an IPv6 address stands in brackets");
    address.host = text.substr(0, colon);
    if (colon != std::string_view::npos) port = text.substr(colon);
  }
  if (address.host.empty()) return wrong("no host");
  uint16_t number = default_port;
  if (!port.empty()) {
    port.remove_prefix(1);
    const auto [stopped, failed] = std::from_chars(port.data(), port.data() + port.size(), number);
    if (failed != std::errc() || stopped != port.data() + port.size() || number == 0) {
      return wrong("a port is a number from 1 to 65535");
    }
  }
  address.port = std::to_string(number);
  return address;
}

std::string TcpAddress::to_string() const {
  return (host.find(':') == std::string::npos ? host : "[" + host + "]") + ":" + port;
}

Result<std::shared_ptr<TcpSocket>> TcpSocket::connect(const TcpAddress& address, Duration timeout) {
  const std::string where = address.to_string();
  const auto end = steady_clock::now() + timeout;
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV;
  addrinfo* found = nullptr;
  if (const int failed = ::getaddrinfo(address.host.c_str(), address.port.c_str(), &hints, &found);
      failed != 0) {
    return error(StatusCode::not_found, where + ": " + ::gai_strerror(failed));
  }
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> all(found, &::freeaddrinfo);
  Status last(StatusCode::not_found, where + ": no address");
  for (const addrinfo* info = found; info != nullptr; info = info->ai_next) {
    Result<UniqueFd> fd = connect_one(*info, where, end);
    if (fd) return std::make_shared<TcpSocket>(std::move(*fd));
    last = fd.error();
  }
  return error(std::move(last));
}

Status TcpSocket::secure(const auth::TlsPsk& psk, Duration timeout) {
  auto made = TlsStream::connect(fd(), psk, timeout);
  if (!made) {
    hang_up();  // so that nothing goes out in the clear instead
    return made.error();
  }
  tls_ = std::move(*made);
  return {};
}

namespace {
msghdr message_of(std::span<const iovec> pieces) {
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(pieces.data());
  message.msg_iovlen = pieces.size();
  return message;
}
}  // namespace

ssize_t TcpSocket::send(std::span<const iovec> pieces) noexcept {
  if (tls_ != nullptr) return tls_->send(pieces);
  const msghdr message = message_of(pieces);
  return ::sendmsg(fd(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

ssize_t TcpSocket::receive(std::span<const iovec> pieces) noexcept {
  if (tls_ != nullptr) return tls_->receive(pieces);
  msghdr message = message_of(pieces);
  return ::recvmsg(fd(), &message, MSG_DONTWAIT);
}

std::string TcpSocket::error_text(int number) const {
  return tls_ != nullptr && number == EPROTO ? tls_->failure() : std::strerror(number);
}

void TcpSocket::abort() noexcept {
  sockaddr nowhere{};
  nowhere.sa_family = AF_UNSPEC;
  if (::connect(fd_.get(), &nowhere, sizeof nowhere) != 0) hang_up();
}

void TcpSocket::hang_up() noexcept { ::shutdown(fd_.get(), SHUT_RDWR); }

}  // namespace basalt::nvme
