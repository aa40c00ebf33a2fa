// See report.h.
#include "system/stress/report.h"

#include <cstdio>
#include <cstdlib>
#include <mutex>

namespace basalt::stress {
namespace {

std::mutex mutex;  // protects circumstances; held for ever by the first failure
std::string circumstances;

}  // namespace

void set_circumstances(const std::string& text) {
  const std::lock_guard lock(mutex);
  circumstances = text;
}

void fail(const std::string& what) {
  mutex.lock();
  std::fprintf(stderr, "rocksdb_stress: FAILED: %s\n%s\n", what.c_str(), circumstances.c_str());
  std::fflush(nullptr);
  std::_Exit(kFailedExit);
}

void require(const rocksdb::Status& status, const std::string& what) {
  if (!status.ok()) fail(what + ": " + status.ToString());
}

}  // namespace basalt::stress
