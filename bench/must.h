// must: benchmarks have no way to go on after a failure, so they end with its sentence.
#pragma once

#include <basalt/status.h>

#include <cstdio>
#include <cstdlib>
#include <utility>

namespace basalt {

inline void must(const Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "%s\n", status.to_string().c_str());
  std::abort();
}
template <typename T>
T must(Result<T> result) {
  if (!result) must(result.error());
  return std::move(*result);
}

}  // namespace basalt
