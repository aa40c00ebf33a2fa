// See tcp_events.h.
#include "nvme/tcp/tcp_events.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

namespace basalt::nvme {

Result<std::unique_ptr<TcpEvents>> TcpEvents::create() {
  UniqueFd all(::epoll_create1(EPOLL_CLOEXEC));
  UniqueFd wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  epoll_event event{.events = EPOLLIN, .data = {}};
  if (!all || !wake || ::epoll_ctl(all.get(), EPOLL_CTL_ADD, wake.get(), &event) != 0) {
    return error(StatusCode::no_space, std::string("no descriptor for an event: ") +
                                           std::strerror(errno) +
                                           "; raise the limit of open files or open fewer queues");
  }
  return std::unique_ptr<TcpEvents>(new TcpEvents(std::move(all), std::move(wake)));
}

Status TcpEvents::add(int socket) noexcept {
  epoll_event event{.events = EPOLLIN, .data = {}};
  if (::epoll_ctl(all_.get(), EPOLL_CTL_ADD, socket, &event) == 0) return {};
  return {StatusCode::no_space, std::string("epoll: ") + std::strerror(errno)};
}

void TcpEvents::want_room(int socket, bool wanted) noexcept {
  epoll_event event{.events = EPOLLIN, .data = {}};
  if (wanted) event.events |= EPOLLOUT;
  ::epoll_ctl(all_.get(), EPOLL_CTL_MOD, socket, &event);
}

void TcpEvents::remove(int socket) noexcept {
  ::epoll_ctl(all_.get(), EPOLL_CTL_DEL, socket, nullptr);
}

void TcpEvents::wake() noexcept {
  const uint64_t one = 1;
  if (::write(wake_.get(), &one, sizeof one) < 0) {
    // The counter is full, so it is readable.
  }
  woken_.store(true, std::memory_order_release);
}

void TcpEvents::drain() noexcept {
  woken_.store(false, std::memory_order_relaxed);
  uint64_t count;
  [[maybe_unused]] const ssize_t taken = ::read(wake_.get(), &count, sizeof count);
}

}  // namespace basalt::nvme
