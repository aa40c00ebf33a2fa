// Where the target listens, and the socket that does.
#pragma once

#include <basalt/status.h>

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/unique_fd.h"
#include "reactor/reactor.h"

namespace basalt::nvmf {

struct ListenAddress {
  std::string host;  // an IPv4 or IPv6 address
  std::string port;

  // "10.0.0.1:4420", "[fe80::1]:4420".
  std::string to_string() const;
  // The other way round; whether there is such an address shows when it is used. Errors: invalid_argument.
  static Result<ListenAddress> parse(std::string_view text);
  // All of the machine's addresses, "0.0.0.0" or "::".
  bool is_any() const { return host == "0.0.0.0" || host == "::"; }
  bool is_ipv6() const { return host.find(':') != std::string::npos; }
  friend bool operator==(const ListenAddress&, const ListenAddress&) = default;
};

// What begins a connection that comes in there.
enum class Security : uint8_t { none, tls };

// Of this side of a bound or connected socket.
ListenAddress local_address(int fd);

class TcpListener final : Reactor::Handler {
 public:
  // From the reactor's thread: a connection, non-blocking, and "address:port" of who connected.
  using Accepted = std::function<void(UniqueFd fd, std::string peer)>;

  // Port "0": any. Errors: invalid_argument (not an address), busy (taken), permission_denied, no_space.
  static Result<std::shared_ptr<TcpListener>> open(Reactor& reactor, const ListenAddress& address,
                                                   Security security, Accepted accepted);
  // From any thread but the reactor's.
  ~TcpListener();

  const ListenAddress& address() const { return address_; }
  Security security() const { return security_; }

 private:
  TcpListener(Reactor& reactor, ListenAddress address, Security security, UniqueFd fd,
              Accepted accepted);
  void on_ready(uint32_t events) noexcept override;

  Reactor& reactor_;
  const ListenAddress address_;
  const Security security_;
  const UniqueFd fd_;
  const Accepted accepted_;
  Reactor::Watch watch_;
  Reactor::Timer pause_;  // when there were no descriptors
};

}  // namespace basalt::nvmf
