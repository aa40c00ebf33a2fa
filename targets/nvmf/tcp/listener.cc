// See listener.h.
#include "targets/nvmf/tcp/listener.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "base/try.h"

namespace basalt::nvmf {

namespace {

constexpr int kBacklog = 512;
constexpr int kAcceptedAtOnce = 16;

ListenAddress describe(const sockaddr* address, socklen_t bytes) {
  std::array<char, NI_MAXHOST> host{};
  std::array<char, NI_MAXSERV> port{};
  ::getnameinfo(address, bytes, host.data(), host.size(), port.data(), port.size(),
                NI_NUMERICHOST | NI_NUMERICSERV);
  return {host.data(), port.data()};
}

Status listen_error(const ListenAddress& address, const char* call) {
  StatusCode code = StatusCode::io_error;
  const char* advice = "";
  switch (errno) {
    case EADDRINUSE:
      code = StatusCode::busy;
      advice = "; another program listens there";
      break;
    case EADDRNOTAVAIL:
      code = StatusCode::invalid_argument;
      advice = "; this machine has no such address";
      break;
    case EACCES: code = StatusCode::permission_denied; break;
    case EMFILE:
      code = StatusCode::no_space;
      advice = "; raise the limit of open files";
      break;
    default: break;
  }
  return {code,
          "listen on " + address.to_string() + ": " + call + ": " + std::strerror(errno) + advice};
}

}  // namespace

std::string ListenAddress::to_string() const {
  return (is_ipv6() ? "[" + host + "]" : host) + ":" + port;
}

Result<ListenAddress> ListenAddress::parse(std::string_view text) {
  const size_t colon = text.rfind(':');
  std::string_view host = text.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  if (colon != std::string_view::npos && !host.empty() && colon + 1 < text.size()) {
    return ListenAddress{std::string(host), std::string(text.substr(colon + 1))};
  }
  return error(
      StatusCode::invalid_argument,
      "\"" + std::string(text) + "\": expected ADDRESS:PORT, as 10.0.0.1:4420 or [::1]:4420");
}

ListenAddress local_address(int fd) {
  sockaddr_storage address{};
  socklen_t bytes = sizeof address;
  ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &bytes);
  return describe(reinterpret_cast<sockaddr*>(&address), bytes);
}

Result<std::shared_ptr<TcpListener>> TcpListener::open(Reactor& reactor,
                                                       const ListenAddress& address,
                                                       Security security, Accepted accepted) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE;
  addrinfo* found = nullptr;
  if (const int failed = ::getaddrinfo(address.host.c_str(), address.port.c_str(), &hints, &found);
      failed != 0) {
    return error(StatusCode::invalid_argument,
                 "listen on " + address.to_string() + ": " + ::gai_strerror(failed) +
                     "; expected an IPv4 or IPv6 address of this machine and a port number");
  }
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> info(found, &::freeaddrinfo);
  UniqueFd fd(::socket(info->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP));
  if (!fd) return error(listen_error(address, "socket"));
  const int on = 1;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (::bind(fd.get(), info->ai_addr, info->ai_addrlen) != 0) {
    return error(listen_error(address, "bind"));
  }
  if (::listen(fd.get(), kBacklog) != 0) return error(listen_error(address, "listen"));
  ListenAddress bound = local_address(fd.get());
  std::shared_ptr<TcpListener> listener(
      new TcpListener(reactor, std::move(bound), security, std::move(fd), std::move(accepted)));
  Status watched;
  reactor.run(
      [&] { watched = reactor.watch(listener->watch_, listener->fd_.get(), EPOLLIN, *listener); });
  if (!watched.ok()) return error(std::move(watched));
  return listener;
}

TcpListener::TcpListener(Reactor& reactor, ListenAddress address, Security security, UniqueFd fd,
                         Accepted accepted)
    : reactor_(reactor),
      address_(std::move(address)),
      security_(security),
      fd_(std::move(fd)),
      accepted_(std::move(accepted)) {
  pause_.expired = [this] { reactor_.rewatch(watch_, EPOLLIN); };
}

TcpListener::~TcpListener() {
  reactor_.run([this] {
    reactor_.unwatch(watch_);
    reactor_.cancel(pause_);
  });
}

void TcpListener::on_ready(uint32_t) noexcept {
  for (int i = 0; i < kAcceptedAtOnce; ++i) {
    sockaddr_storage from{};
    socklen_t bytes = sizeof from;
    UniqueFd fd(::accept4(fd_.get(), reinterpret_cast<sockaddr*>(&from), &bytes,
                          SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!fd) {
      if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
        // It stays ready: look again when somebody may have left.
        reactor_.rewatch(watch_, 0);
        reactor_.set(pause_, std::chrono::milliseconds(100));
      }
      return;
    }
    const int on = 1;
    ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    accepted_(std::move(fd), describe(reinterpret_cast<sockaddr*>(&from), bytes).to_string());
  }
}

}  // namespace basalt::nvmf
