#include "base/sim_fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <utility>

#include "base/check.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define BASALT_ASAN 1
#endif
#if __has_feature(thread_sanitizer)
#define BASALT_TSAN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define BASALT_ASAN 1
#endif
#if defined(__SANITIZE_THREAD__)
#define BASALT_TSAN 1
#endif

#ifdef BASALT_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#include <sanitizer/lsan_interface.h>
#endif
#ifdef BASALT_TSAN
#include <sanitizer/tsan_interface.h>
#endif

namespace basalt::sim {
namespace {

// Only what is touched takes memory. Sanitized frames are several times larger.
constexpr size_t kStackBytes = size_t{1} << 20;

// Who left last, for entered(): it learns the bounds of a stack it did not make.
thread_local FiberContext* left_context = nullptr;

size_t page_bytes() {
  static const size_t bytes = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  return bytes;
}

}  // namespace

FiberContext::~FiberContext() {
  if (stack_ == nullptr) return;
#ifdef BASALT_TSAN
  if (tsan_fiber_ != nullptr) __tsan_destroy_fiber(tsan_fiber_);
#endif
  munmap(stack_, stack_bytes_);
}

void FiberContext::prepare(void (*entry)()) {
  stack_bytes_ = kStackBytes + page_bytes();
  stack_ = mmap(nullptr, stack_bytes_, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE, -1, 0);
  BASALT_CHECK(stack_ != MAP_FAILED, "no memory for a simulated thread's stack");
  BASALT_CHECK(mprotect(stack_, page_bytes(), PROT_NONE) == 0, "a guard page can be set");
  stack_bottom_ = static_cast<std::byte*>(stack_) + page_bytes();
  stack_size_ = kStackBytes;
  BASALT_CHECK(getcontext(&context_) == 0, "getcontext works");
  context_.uc_stack.ss_sp = const_cast<void*>(stack_bottom_);
  context_.uc_stack.ss_size = stack_size_;
  context_.uc_link = nullptr;
  makecontext(&context_, entry, 0);
#ifdef BASALT_TSAN
  tsan_fiber_ = __tsan_create_fiber(0);
#endif
}

void FiberContext::about_to_leave(FiberContext& next, [[maybe_unused]] bool for_good) {
  left_context = this;
#ifdef BASALT_TSAN
  if (tsan_fiber_ == nullptr) tsan_fiber_ = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(next.tsan_fiber_, 0);
#endif
#ifdef BASALT_ASAN
  __sanitizer_start_switch_fiber(for_good ? nullptr : &fake_stack_, next.stack_bottom_,
                                 next.stack_size_);
#endif
  static_cast<void>(next);
}

void FiberContext::entered() {
#ifdef BASALT_ASAN
  const void* bottom = nullptr;
  size_t size = 0;
  __sanitizer_finish_switch_fiber(fake_stack_, &bottom, &size);
  if (left_context->stack_ == nullptr) {
    left_context->stack_bottom_ = bottom;
    left_context->stack_size_ = size;
  }
#endif
}

void FiberContext::switch_to(FiberContext& next) {
  about_to_leave(next, false);
  BASALT_CHECK(swapcontext(&context_, &next.context_) == 0, "swapcontext works");
  entered();
}

void FiberContext::leave_for_good(FiberContext& next) {
  about_to_leave(next, true);
  setcontext(&next.context_);
  std::abort();  // setcontext() does not return
}

void FiberContext::abandon() {
#ifdef BASALT_ASAN
  __lsan_register_root_region(stack_bottom_, stack_size_);
#endif
  stack_ = nullptr;
}

}  // namespace basalt::sim
