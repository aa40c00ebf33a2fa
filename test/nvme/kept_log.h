// KeptLog: a log sink that keeps what is logged.
// Threads: any.
#pragma once

#include <basalt/context.h>

#include <string>
#include <string_view>

#include "base/sync.h"

namespace basalt::nvme {

class KeptLog final : public LogSink {
 public:
  void log(LogLevel, std::string_view, std::string_view line) override {
    const MutexLock lock(mutex_);
    text_.append(line).append("\n");
  }
  std::string text() const {
    const MutexLock lock(mutex_);
    return text_;
  }
  // How often `part` occurs in it.
  size_t count(std::string_view part) const {
    const std::string all = text();
    size_t times = 0;
    for (size_t at = all.find(part); at != std::string::npos; at = all.find(part, at + 1)) ++times;
    return times;
  }

 private:
  mutable Mutex mutex_;
  std::string text_;
};

}  // namespace basalt::nvme
