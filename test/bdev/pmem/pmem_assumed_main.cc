// Runs the tests with libpmem told to take every mapping for persistent memory, so that the path of
// real hardware is taken on any machine. libpmem reads the environment when it is loaded, so the
// program starts itself again with the variable set.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <string_view>

int main(int count, char** arguments) {
  const char* forced = std::getenv("PMEM_IS_PMEM_FORCE");
  if (forced == nullptr || std::string_view(forced) != "1") {
    setenv("PMEM_IS_PMEM_FORCE", "1", 1);
    execv("/proc/self/exe", arguments);
    return 1;
  }
  testing::InitGoogleTest(&count, arguments);
  return RUN_ALL_TESTS();
}
