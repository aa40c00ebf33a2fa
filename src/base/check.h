// CHECK: a programming error ends the process, in every build, with a sentence.
//
// Only for what the program itself got wrong. Bytes from a disk, a peer or a user are validated and
// answered with a Status.
#pragma once

namespace basalt::detail {
[[noreturn]] void check_failed(const char* condition, const char* file, int line,
                               const char* message);
}  // namespace basalt::detail

#define BASALT_CHECK(condition, message)             \
  (__builtin_expect(static_cast<bool>(condition), 1) \
       ? static_cast<void>(0)                        \
       : ::basalt::detail::check_failed(#condition, __FILE__, __LINE__, message))
