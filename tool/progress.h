// A progress bar on stderr, drawn only when stderr is a terminal, at most ten times a second.
//
//   Progress progress("reading");
//   progress.show(done, total);   // as often as convenient
// The bar is wiped by the destructor, so what is printed afterwards stands on a clean line.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace basalt::tool {

class Progress {
 public:
  explicit Progress(std::string label);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void show(double fraction);
  void show(uint64_t done, uint64_t total) {
    show(total == 0 ? 1.0 : static_cast<double>(done) / static_cast<double>(total));
  }

 private:
  const std::string label_;
  const bool terminal_;
  bool drawn_ = false;
  std::chrono::steady_clock::time_point last_{};
};

}  // namespace basalt::tool
