// LogFilter: hands on what is of a level or above it, which may change at any time.
// Threads: any.
#pragma once

#include <basalt/context.h>

#include <atomic>
#include <optional>

namespace basalt {

class LogFilter final : public LogSink {
 public:
  // Nothing: no line at all.
  using Level = std::optional<LogLevel>;

  LogFilter(LogSink& sink, Level level) : sink_(sink) { set_level(level); }

  void set_level(Level level) { least_.store(level ? static_cast<int>(*level) : kNone); }
  Level level() const {
    const int least = least_.load();
    return least == kNone ? Level() : static_cast<LogLevel>(least);
  }
  void log(LogLevel level, std::string_view module, std::string_view line) override {
    if (static_cast<int>(level) >= least_.load()) sink_.log(level, module, line);
  }

 private:
  static constexpr int kNone = 1 << 8;  // above all levels
  LogSink& sink_;
  std::atomic<int> least_{0};
};

}  // namespace basalt
