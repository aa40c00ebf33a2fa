// TcpEvents: the event of one queue number, the same descriptor for all the connections that follow each other under it.
//
// An epoll descriptor with the socket of the connection there is, and an eventfd for whoever has to wake its sleepers.
// Threads: any.
#pragma once

#include <basalt/status.h>

#include <atomic>
#include <memory>

#include "base/unique_fd.h"

namespace basalt::nvme {

class TcpEvents {
 public:
  // no_space: no more descriptors.
  static Result<std::unique_ptr<TcpEvents>> create();

  // Readable when the socket is, or may be written to where that was asked for, or after wake().
  int fd() const { return all_.get(); }
  Status add(int socket) noexcept;
  void want_room(int socket, bool wanted) noexcept;
  void remove(int socket) noexcept;

  void wake() noexcept;
  // Takes a wake() back, if there was one.
  void settle() noexcept {
    if (woken_.load(std::memory_order_relaxed)) drain();
  }

 private:
  TcpEvents(UniqueFd all, UniqueFd wake) : all_(std::move(all)), wake_(std::move(wake)) {}
  void drain() noexcept;

  const UniqueFd all_, wake_;
  std::atomic<bool> woken_{false};
};

}  // namespace basalt::nvme
