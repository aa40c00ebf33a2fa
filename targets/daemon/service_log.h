// ServiceLog: what the target programs log, one line per event, over spdlog.
//
//   2026-11-28T02:58:02.123456Z warning nvmf: 10.0.0.7:51234: host nqn.… is not let in: …
//   {"time":"2026-11-28T02:58:02.123456Z","level":"warning","module":"nvmf","message":"…"}
//
// Whatever bytes a peer has put into a message, they neither end its line nor look like another: see escape_line(); JSON
// has all but ASCII as \u escapes.
// A line is written, and flushed, before log() returns, by the thread that logs: nothing is lost, and who logs waits for
// an output that is not read. A file that cannot be written any more is complained of on stderr, with the line.
// Threads: any.
#pragma once

#include <basalt/context.h>
#include <basalt/status.h>

#include <memory>
#include <string>
#include <string_view>

namespace spdlog::sinks {
class sink;
}

namespace basalt {

enum class LogFormat : uint8_t { text, json };

struct ServiceLogOptions {
  std::string file;  // appended to; empty: stderr
  LogFormat format = LogFormat::text;
};

class ServiceLog final : public LogSink {
 public:
  // Errors: permission_denied (the file cannot be opened, and why).
  static Result<std::unique_ptr<ServiceLog>> create(const ServiceLogOptions& options);
  ~ServiceLog() override;

  void log(LogLevel level, std::string_view module, std::string_view line) override;

 private:
  ServiceLog(std::string file, std::unique_ptr<spdlog::sinks::sink> sink);

  const std::string file_;
  const std::unique_ptr<spdlog::sinks::sink> sink_;
};

// Printable text in UTF-8 as it is. Control characters, what is no UTF-8, and the characters that end lines or turn the
// direction of writing become \xHH for each byte, a backslash becomes two.
std::string escape_line(std::string_view text);

}  // namespace basalt
