// Defects planted on purpose, to see whether the tests notice.
//
// planted("name") is false at compile time, and its branch gone, in everything that is built normally. Only
// test/planted builds the store and the file system a second time with BASALT_PLANTED_BUGS; there the
// environment variable of that name switches one defect on. Each stands where an order of writes or a
// verification matters; test/planted/CMakeLists.txt lists them with the test that must fail.
#pragma once

#include <cstdlib>
#include <string_view>

namespace basalt {

#ifdef BASALT_PLANTED_BUGS
inline bool planted(std::string_view name) {
  static const char* const chosen = std::getenv("BASALT_PLANTED_BUG");
  return chosen != nullptr && name == chosen;
}
#else
constexpr bool planted(std::string_view) { return false; }
#endif

}  // namespace basalt
