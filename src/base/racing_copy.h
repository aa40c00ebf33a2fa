// Copies to and from memory that another thread may be copying to or from at the same time.
//
// What such a copy gives is for the caller to find out, or to do without. What a thread writes before it
// copies to shared memory (release) is seen by who has copied any of that from it (acquire) and looks then;
// relaxed copies order nothing. For ThreadSanitizer the shared memory is met word by word with atomic accesses.
// Otherwise these are memcpy with a fence, which the standard calls a race and compilers and machines carry out.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__SANITIZE_THREAD__)
#define BASALT_WATCHED_COPIES 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define BASALT_WATCHED_COPIES 1
#endif
#endif

namespace basalt {

#ifdef BASALT_WATCHED_COPIES
// For each aligned word of the shared memory, and the bytes around them: each(where, word to use).
template <typename Each>
void each_word(const std::byte* shared, size_t bytes, const Each& each) {
  size_t i = 0;
  while (i < bytes) {
    const bool whole = reinterpret_cast<uintptr_t>(shared + i) % 8 == 0 && bytes - i >= 8;
    if (whole)
      each(i, uint64_t{});
    else
      each(i, uint8_t{});
    i += whole ? 8 : 1;
  }
}
template <std::memory_order order>
void copy_from_shared(std::byte* to, const std::byte* shared, size_t bytes) {
  static_assert(order == std::memory_order_relaxed || order == std::memory_order_acquire);
  each_word(shared, bytes, [=]<typename Word>(size_t at, Word word) {
    word = __atomic_load_n(reinterpret_cast<const Word*>(shared + at), static_cast<int>(order));
    std::memcpy(to + at, &word, sizeof word);
  });
}
template <std::memory_order order>
void copy_to_shared(std::byte* shared, const std::byte* from, size_t bytes) {
  static_assert(order == std::memory_order_relaxed || order == std::memory_order_release);
  each_word(shared, bytes, [=]<typename Word>(size_t at, Word word) {
    std::memcpy(&word, from + at, sizeof word);
    __atomic_store_n(reinterpret_cast<Word*>(shared + at), word, static_cast<int>(order));
  });
}
#else
template <std::memory_order order>
void copy_from_shared(std::byte* to, const std::byte* shared, size_t bytes) {
  static_assert(order == std::memory_order_relaxed || order == std::memory_order_acquire);
  std::memcpy(to, shared, bytes);
  if constexpr (order != std::memory_order_relaxed) std::atomic_thread_fence(order);
}
template <std::memory_order order>
void copy_to_shared(std::byte* shared, const std::byte* from, size_t bytes) {
  static_assert(order == std::memory_order_relaxed || order == std::memory_order_release);
  if constexpr (order != std::memory_order_relaxed) std::atomic_thread_fence(order);
  std::memcpy(shared, from, bytes);
}
#endif

}  // namespace basalt
