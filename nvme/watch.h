// Watch: a thread that looks at a controller again and again, and at once when asked to.
//
// A thread of its own, and not the Context's executor: what runs there may itself wait for the controller's I/O, which
// completes only once somebody has looked.
// Threads: start() and stop() are the owner's; wake() is anybody's.
#pragma once

#include <basalt/context.h>

#include <functional>

#include "base/sync.h"

namespace basalt::nvme {

class Watch {
 public:
  explicit Watch(std::function<void()> look) : look_(std::move(look)) {}
  ~Watch() { stop(); }
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

  // The first look comes after `interval`, or a wake().
  void start(Duration interval);
  void wake() noexcept;
  // No look is under way when this returns, and none comes. Not from a look.
  void stop() noexcept;

 private:
  void loop(Duration interval);

  const std::function<void()> look_;
  Mutex mutex_;  // protects the flags
  CondVar changed_;
  bool woken_ = false;
  bool stopping_ = false;
  Thread thread_;
};

}  // namespace basalt::nvme
