// FiberContext: a stack and a place to continue on it, for the simulation's scheduler.
//
// ucontext does the switching; AddressSanitizer and ThreadSanitizer are told of every switch, since
// both keep a state per stack. A default-constructed context stands for the stack one is already
// on, and can be switched away from and back to. The stack is mapped with a guard page below it.
// One real thread uses all contexts that switch among each other.
#pragma once

#include <ucontext.h>

#include <cstddef>

namespace basalt::sim {

class FiberContext {
 public:
  FiberContext() = default;
  ~FiberContext();
  FiberContext(const FiberContext&) = delete;
  FiberContext& operator=(const FiberContext&) = delete;

  // Gives it a stack on which `entry` starts at the first switch. `entry` begins with entered() and
  // ends with leave_for_good().
  void prepare(void (*entry)());
  // Continues `next`; returns when somebody switches back here.
  void switch_to(FiberContext& next);
  void entered();
  [[noreturn]] void leave_for_good(FiberContext& next);
  // The stack will never be continued but what lies on it may still be referred to: keeps it mapped
  // until the process ends.
  void abandon();

 private:
  void about_to_leave(FiberContext& next, bool for_good);

  ucontext_t context_{};
  void* stack_ = nullptr;  // null: the thread's own stack
  size_t stack_bytes_ = 0;
  // For the sanitizers.
  const void* stack_bottom_ = nullptr;
  size_t stack_size_ = 0;
  void* fake_stack_ = nullptr;
  void* tsan_fiber_ = nullptr;
};

}  // namespace basalt::sim
