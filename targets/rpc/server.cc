// See server.h.
#include "targets/rpc/server.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <list>
#include <utility>
#include <vector>

#include "targets/rpc/json_stream.h"

namespace basalt::rpc {

namespace {

// A client that has not read its answer in so long is let go.
constexpr std::chrono::seconds kSendTime{5};
constexpr int kPauseWithoutDescriptorsMs = 100;

Status socket_error(const std::string& path, const char* call) {
  const StatusCode code =
      errno == EACCES || errno == EPERM ? StatusCode::permission_denied : StatusCode::io_error;
  return {code, path + ": " + call + ": " + std::strerror(errno)};
}

bool send_all(int fd, std::string_view text) {
  const auto end = std::chrono::steady_clock::now() + kSendTime;
  while (!text.empty()) {
    const ssize_t sent = ::send(fd, text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent >= 0) {
      text.remove_prefix(static_cast<size_t>(sent));
      continue;
    }
    if (errno == EINTR) continue;
    if (errno != EAGAIN) return false;
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(end - std::chrono::steady_clock::now());
    pollfd room{fd, POLLOUT, 0};
    if (left.count() <= 0 || ::poll(&room, 1, static_cast<int>(left.count())) == 0) return false;
  }
  return true;
}

}  // namespace

struct RpcServer::Connection {
  UniqueFd fd;
  JsonStream stream;
};

Result<std::unique_ptr<RpcServer>> RpcServer::create(const std::string& path,
                                                     const Dispatcher& dispatcher, LogSink& log) {
  sockaddr_un address{};
  if (path.empty() || path.size() >= sizeof address.sun_path) {
    return error(StatusCode::invalid_argument, "\"" + path + "\": a socket's path has 1 to " +
                                                   std::to_string(sizeof address.sun_path - 1) +
                                                   " bytes");
  }
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.c_str(), path.size());
  const auto* const where = reinterpret_cast<const sockaddr*>(&address);
  const auto make = [] { return UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)); };
  {
    const UniqueFd probe = make();
    if (::connect(probe.get(), where, sizeof address) == 0) {
      return error(StatusCode::busy, path + ": another program serves this socket");
    }
    struct stat info {};
    const bool is_dead_socket =
        errno == ECONNREFUSED && ::lstat(path.c_str(), &info) == 0 && S_ISSOCK(info.st_mode);
    if (is_dead_socket) ::unlink(path.c_str());
  }
  UniqueFd listener = make();
  // Nobody else may connect, not even before chmod() could tell.
  const mode_t before = ::umask(0177);
  const int bound = ::bind(listener.get(), where, sizeof address);
  ::umask(before);
  if (bound != 0) return error(socket_error(path, "bind"));
  if (::listen(listener.get(), 16) != 0) return error(socket_error(path, "listen"));
  UniqueFd wake(::eventfd(0, EFD_CLOEXEC));
  if (!wake) return error(socket_error(path, "eventfd"));
  std::unique_ptr<RpcServer> server(
      new RpcServer(path, std::move(listener), std::move(wake), dispatcher, log));
  server->thread_ = Thread("rpc", [self = server.get()] { self->serve(); });
  return server;
}

RpcServer::RpcServer(std::string path, UniqueFd listener, UniqueFd wake,
                     const Dispatcher& dispatcher, LogSink& log)
    : path_(std::move(path)),
      listener_(std::move(listener)),
      wake_(std::move(wake)),
      dispatcher_(dispatcher),
      log_(log) {}

RpcServer::~RpcServer() {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(wake_.get(), &one, sizeof one);
  thread_.join();
  ::unlink(path_.c_str());
}

void RpcServer::serve() {
  std::list<Connection> connections;
  std::vector<pollfd> entries;
  for (bool pauses = false;;) {
    entries.assign({{wake_.get(), POLLIN, 0}, {listener_.get(), POLLIN, 0}});
    if (pauses || connections.size() == kMaxConnections) entries[1].events = 0;
    for (const Connection& connection : connections) {
      entries.push_back({connection.fd.get(), POLLIN, 0});
    }
    const int time = std::exchange(pauses, false) ? kPauseWithoutDescriptorsMs : -1;
    if (::poll(entries.data(), entries.size(), time) < 0) continue;
    if (entries[0].revents != 0) return;
    size_t place = 2;
    for (auto at = connections.begin(); at != connections.end(); ++place) {
      at = entries[place].revents == 0 || take(*at) ? std::next(at) : connections.erase(at);
    }
    if ((entries[1].revents & POLLIN) == 0) continue;
    UniqueFd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (fd) {
      connections.push_back({std::move(fd), {}});
    } else {
      pauses = errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS;
    }
  }
}

bool RpcServer::take(Connection& connection) {
  std::array<char, 65536> buffer;
  const ssize_t got = ::recv(connection.fd.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
  if (got < 0) return errno == EAGAIN || errno == EINTR;
  if (got == 0) return false;
  connection.stream.add({buffer.data(), static_cast<size_t>(got)});
  while (const auto request = connection.stream.take()) {
    const std::string answer = dispatcher_.handle(*request);
    if (!answer.empty() && !send_all(connection.fd.get(), answer + "\n")) return false;
  }
  const bool too_deep = connection.stream.is_too_deep();
  if (!too_deep && !connection.stream.is_too_long()) return true;
  log_.log(
      LogLevel::warning, "rpc",
      path_ + ": a request " +
          (too_deep ? "nested in more than " + std::to_string(JsonStream::kMaxDepth) + " levels"
                    : "of more than " + std::to_string(JsonStream::kMaxBytes) + " B") +
          "; connection ended");
  return false;
}

}  // namespace basalt::rpc
