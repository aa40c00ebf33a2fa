#include "base/check.h"

#include <cstdio>
#include <cstdlib>

namespace basalt::detail {

void check_failed(const char* condition, const char* file, int line, const char* message) {
  std::fprintf(stderr, "basalt: %s:%d: check failed: %s (%s)\n", file, line, message, condition);
  std::abort();
}

}  // namespace basalt::detail
