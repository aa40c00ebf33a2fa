// See connection.h. The socket is a stream and non-blocking: each wait is a poll() with what is left until
// the deadline. Descriptors travel with the first byte of the message they belong to.
#include "nvme/vfio_user/connection.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <ctime>

#include "base/try.h"
#include "nvme/system_error.h"

namespace basalt::nvme::vfio_user {
namespace {

Duration now() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

// Why nobody could be reached at `path`, in terms of what the user can look at.
Status connect_error(int number, const std::string& path) {
  struct stat info {};
  const bool there = stat(path.c_str(), &info) == 0;
  if (there && S_ISDIR(info.st_mode)) {
    return Status(StatusCode::invalid_argument,
                  path +
                      ": is a directory; the socket itself is needed (SPDK's target calls it "
                      "\"cntrl\")");
  }
  if (there && !S_ISSOCK(info.st_mode)) {
    return Status(StatusCode::invalid_argument, path + ": is not a socket");
  }
  switch (number) {
    case ECONNREFUSED:
      return Status(StatusCode::not_found,
                    path + ": connection refused; no vfio-user server listens there");
    case EPROTOTYPE: return Status(StatusCode::invalid_argument, path + ": is not a stream socket");
    case EAGAIN:
      return Status(StatusCode::timed_out,
                    path + ": the server accepts nobody; another client may be using it");
    default: return system_error(path + ": connect", number);
  }
}

// Takes the descriptors out of a received message's ancillary data, before anything else can fail.
void take_fds(msghdr& message, std::vector<UniqueFd>& fds) {
  for (cmsghdr* part = CMSG_FIRSTHDR(&message); part != nullptr;
       part = CMSG_NXTHDR(&message, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(part) + i * sizeof fd, sizeof fd);
      fds.emplace_back(fd);
    }
  }
}

}  // namespace

Result<std::unique_ptr<Connection>> Connection::connect(std::string_view socket_path,
                                                        Duration timeout) {
  std::string path(socket_path);
  sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
  if (path.empty() || path.size() >= sizeof address.sun_path ||
      path.find('\0') != std::string::npos) {
    return error(StatusCode::invalid_argument,
                 "vfio-user socket \"" + path + "\": a path of 1 to " +
                     std::to_string(sizeof address.sun_path - 1) + " characters is needed");
  }
  path.copy(address.sun_path, path.size());
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket) return error(system_error(path + ": socket", errno));
  // connect() waits while the server's queue is full, as long as a send may.
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(timeout);
  const timeval limit{
      .tv_sec = seconds.count(),
      .tv_usec = std::chrono::duration_cast<std::chrono::microseconds>(timeout - seconds).count()};
  setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  int failed = 0;
  do {
    failed = ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  } while (failed != 0 && errno == EINTR);
  if (failed != 0) return error(connect_error(errno, path));
  if (fcntl(socket.get(), F_SETFL, O_RDWR | O_NONBLOCK) != 0) {
    return error(system_error(path + ": fcntl", errno));
  }
  UniqueFd removal(epoll_create1(EPOLL_CLOEXEC));
  epoll_event hang_up{.events = EPOLLRDHUP, .data = {}};  // and, always, EPOLLHUP and EPOLLERR
  if (!removal || epoll_ctl(removal.get(), EPOLL_CTL_ADD, socket.get(), &hang_up) != 0) {
    return error(system_error(path + ": epoll", errno));
  }
  return std::unique_ptr<Connection>(
      new Connection(std::move(path), std::move(socket), std::move(removal)));
}

Result<Reply> Connection::call(Command command, std::span<const std::byte> payload,
                               std::span<const int> fds, Duration timeout) {
  if (!given_up_.ok()) {
    return error(StatusCode::device_removed,
                 path_ + ": " + to_string(command) +
                     ": the connection was given up: " + std::string(given_up_.message()));
  }
  for (const int fd : fds) {
    if (fcntl(fd, F_GETFD) < 0) {  // the caller's mistake, which must not cost the connection
      return error(system_error(
          path_ + ": " + to_string(command) + ": file descriptor " + std::to_string(fd), errno));
    }
  }
  const Duration deadline = now() + timeout;
  const uint16_t id = next_id_++;
  const Header header{.message_id = id,
                      .command = static_cast<uint16_t>(command),
                      .message_bytes = static_cast<uint32_t>(sizeof(Header) + payload.size()),
                      .flags = kTypeRequest,
                      .error = 0u};
  Status refused;
  Result<Reply> reply = [&]() -> Result<Reply> {
    BASALT_TRY(send(header, payload, fds, deadline));
    return wait_for_reply(id, command, deadline, refused);
  }();
  const std::string what = path_ + ": " + to_string(command);
  if (!reply) return error(give_up(reply.error()).with_context(what));
  if (!refused.ok()) return error(refused.with_context(what));
  return reply;
}

Status Connection::give_up(Status why) {
  if (given_up_.ok()) given_up_ = why;
  shutdown(socket_.get(), SHUT_RDWR);  // removal_fd() tells
  return why;
}

// An error the server answers goes to `refused`; the Result is about the connection.
Result<Reply> Connection::wait_for_reply(uint16_t message_id, Command command, Duration deadline,
                                         Status& refused) {
  for (;;) {
    Reply reply;
    std::array<std::byte, sizeof(Header)> head{};
    BASALT_TRY(receive(head, reply.fds, deadline));
    BASALT_TRY_ASSIGN(const Header header, parse_header(head));
    reply.payload.resize(header.message_bytes - sizeof(Header));
    BASALT_TRY(receive(reply.payload, reply.fds, deadline));
    if ((header.flags & kTypeMask) == kTypeReply) {
      BASALT_TRY(check_reply(header, message_id, command));
      if ((header.flags & kError) != 0) {
        const uint32_t number = header.error;
        refused = number > 0 && number < 4096
                      ? system_error("the server refuses", static_cast<int>(number))
                      : Status(StatusCode::io_error,
                               "the server refuses with error number " + std::to_string(number));
      }
      return reply;
    }
    if ((header.flags & kNoReply) != 0) continue;
    const Header answer{.message_id = header.message_id,
                        .command = header.command,
                        .message_bytes = sizeof(Header),
                        .flags = kTypeReply | kError,
                        .error = static_cast<uint32_t>(EOPNOTSUPP)};
    BASALT_TRY(send(answer, {}, {}, deadline));
  }
}

Status Connection::send(const Header& header, std::span<const std::byte> payload,
                        std::span<const int> fds, Duration deadline) {
  std::vector<std::byte> message(sizeof header + payload.size());
  std::memcpy(message.data(), &header, sizeof header);
  std::copy(payload.begin(), payload.end(), message.begin() + sizeof header);
  std::vector<std::byte> control(fds.empty() ? 0 : CMSG_SPACE(fds.size_bytes()));
  for (size_t sent = 0; sent < message.size();) {
    iovec part{.iov_base = message.data() + sent, .iov_len = message.size() - sent};
    msghdr out{};
    out.msg_iov = &part;
    out.msg_iovlen = 1;
    if (sent == 0 && !fds.empty()) {
      out.msg_control = control.data();
      out.msg_controllen = control.size();
      cmsghdr* rights = CMSG_FIRSTHDR(&out);
      rights->cmsg_level = SOL_SOCKET;
      rights->cmsg_type = SCM_RIGHTS;
      rights->cmsg_len = CMSG_LEN(fds.size_bytes());
      std::memcpy(CMSG_DATA(rights), fds.data(), fds.size_bytes());
    }
    const ssize_t n = sendmsg(socket_.get(), &out, MSG_NOSIGNAL);
    if (n >= 0) {
      sent += static_cast<size_t>(n);
    } else if (errno == EAGAIN) {
      BASALT_TRY(wait_until_ready(POLLOUT, deadline));
    } else if (errno != EINTR) {
      return system_error("send", errno);
    }
  }
  return {};
}

Status Connection::receive(std::span<std::byte> out, std::vector<UniqueFd>& fds,
                           Duration deadline) {
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(kMaxMessageFds * sizeof(int))> control;
  for (size_t received = 0; received < out.size();) {
    iovec part{.iov_base = out.data() + received, .iov_len = out.size() - received};
    msghdr in{};
    in.msg_iov = &part;
    in.msg_iovlen = 1;
    in.msg_control = control.data();
    in.msg_controllen = control.size();
    const ssize_t n = recvmsg(socket_.get(), &in, MSG_CMSG_CLOEXEC);
    if (n > 0) {
      take_fds(in, fds);
      if ((in.msg_flags & MSG_CTRUNC) != 0 || fds.size() > kMaxMessageFds) {
        return Status(StatusCode::corruption,
                      "a message with more than " + std::to_string(kMaxMessageFds) +
                          " file descriptors, or more than this process may open");
      }
      received += static_cast<size_t>(n);
    } else if (n == 0) {
      return Status(StatusCode::device_removed,
                    "the server has closed the connection, " + std::to_string(received) + " of " +
                        std::to_string(out.size()) + " B into a " +
                        (out.size() == sizeof(Header) ? "header" : "payload"));
    } else if (errno == EAGAIN) {
      BASALT_TRY(wait_until_ready(POLLIN, deadline));
    } else if (errno != EINTR) {
      return system_error("receive", errno);
    }
  }
  return {};
}

Status Connection::wait_until_ready(short events, Duration deadline) {
  for (;;) {
    const Duration left = deadline - now();
    if (left <= Duration::zero()) {
      return Status(StatusCode::timed_out, events == POLLIN
                                               ? "the server has not answered in time"
                                               : "the server has not read the request in time");
    }
    const auto ms = std::chrono::ceil<std::chrono::milliseconds>(left).count();
    pollfd ready{.fd = socket_.get(), .events = events, .revents = 0};
    const int n = poll(&ready, 1, static_cast<int>(std::min<int64_t>(ms, 60'000)));
    if (n > 0) return {};
    if (n < 0 && errno != EINTR) return system_error("poll", errno);
  }
}

}  // namespace basalt::nvme::vfio_user
