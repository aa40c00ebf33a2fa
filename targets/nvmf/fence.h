// Fence: waits until the commands that hosts had at devices at one moment are over.
//
// What preempt-and-abort is answered by (NVM Express base specification 2.0, §8.19): once it is, nothing that a preempted host had
// written before comes to the namespace any more. Whoever is still out holds it by a Pass; when the last has gone, or the
// time is over, `done` is told.
//
// Threads: raise() and `done` on the reactor it was made with; a Pass comes and goes on any.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <utility>

#include "reactor/reactor.h"

namespace basalt::nvmf {

class Fence : public std::enable_shared_from_this<Fence> {
 public:
  class Pass {
   public:
    explicit Pass(std::shared_ptr<Fence> fence) : fence_(std::move(fence)) {
      if (fence_ != nullptr) fence_->out_.fetch_add(1, std::memory_order_relaxed);
    }
    Pass(Pass&& other) noexcept = default;
    Pass& operator=(Pass&& other) noexcept {
      std::swap(fence_, other.fence_);
      return *this;
    }
    Pass(const Pass& other) : Pass(other.fence_) {}
    Pass& operator=(const Pass&) = delete;
    ~Pass() {
      if (fence_ != nullptr) fence_->gave_back();
    }

   private:
    std::shared_ptr<Fence> fence_;
  };

  // `done`: whether all are over, rather than the time. Told once.
  Fence(Reactor& reactor, std::function<void(bool)> done);
  // Answers the first pass: with it others are given out. When the last of them is back within `patience`, that was in time.
  Pass raise(Duration patience);

 private:
  void gave_back();
  void end(bool in_time);

  Reactor& reactor_;
  std::atomic<size_t> out_{0};
  // The reactor's.
  std::function<void(bool)> done_;
  Reactor::Timer timer_;
  std::shared_ptr<Fence> self_;  // until it has told
};

}  // namespace basalt::nvmf
