// See service_log.h.
#include "targets/daemon/service_log.h"

#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>

#include <array>
#include <cstdio>
#include <nlohmann/json.hpp>

namespace basalt {

namespace {

constexpr const char* kTime = "%Y-%m-%dT%H:%M:%S.%fZ";

spdlog::level::level_enum level_of(LogLevel level) {
  switch (level) {
    case LogLevel::debug: return spdlog::level::debug;
    case LogLevel::info: return spdlog::level::info;
    case LogLevel::warning: return spdlog::level::warn;
    case LogLevel::error: return spdlog::level::err;
  }
  return spdlog::level::critical;
}

std::unique_ptr<spdlog::pattern_formatter> pattern(const std::string& text, const char* end) {
  return std::make_unique<spdlog::pattern_formatter>(text, spdlog::pattern_time_type::utc, end);
}

class JsonFormatter final : public spdlog::formatter {
 public:
  void format(const spdlog::details::log_msg& message, spdlog::memory_buf_t& out) override {
    const auto text = [](spdlog::string_view_t view) {
      return std::string(view.data(), view.size());
    };
    spdlog::memory_buf_t time;
    time_->format(message, time);
    const nlohmann::ordered_json line = {
        {"time", std::string(time.data(), time.size())},
        {"level", text(spdlog::level::to_string_view(message.level))},
        {"module", text(message.logger_name)},
        {"message", text(message.payload)}};
    const std::string whole =
        line.dump(-1, ' ', true, nlohmann::ordered_json::error_handler_t::replace) + "\n";
    out.append(whole.data(), whole.data() + whole.size());
  }
  std::unique_ptr<spdlog::formatter> clone() const override {
    return std::make_unique<JsonFormatter>();
  }

 private:
  const std::unique_ptr<spdlog::formatter> time_ = pattern(kTime, "");
};

class TextFormatter final : public spdlog::formatter {
 public:
  void format(const spdlog::details::log_msg& message, spdlog::memory_buf_t& out) override {
    const std::string payload =
        escape_line(std::string_view(message.payload.data(), message.payload.size()));
    spdlog::details::log_msg escaped = message;
    escaped.payload = payload;
    line_->format(escaped, out);
  }
  std::unique_ptr<spdlog::formatter> clone() const override {
    return std::make_unique<TextFormatter>();
  }

 private:
  const std::unique_ptr<spdlog::formatter> line_ = pattern(std::string(kTime) + " %l %n: %v", "\n");
};

// How many bytes the character at the front has; 0: it is no UTF-8 (RFC 3629, §4).
size_t character_bytes(std::string_view text) {
  const auto byte = [&](size_t i) {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u;
  };
  const auto continues = [&](size_t i, unsigned least = 0x80, unsigned most = 0xbf) {
    return byte(i) >= least && byte(i) <= most;
  };
  const unsigned first = byte(0);
  if (first < 0x80) return 1;
  if (first >= 0xc2 && first <= 0xdf) return continues(1) ? 2 : 0;
  if (first >= 0xe0 && first <= 0xef) {
    const bool second = continues(1, first == 0xe0 ? 0xa0 : 0x80, first == 0xed ? 0x9f : 0xbf);
    return second && continues(2) ? 3 : 0;
  }
  if (first < 0xf0 || first > 0xf4) return 0;
  const bool second = continues(1, first == 0xf0 ? 0x90 : 0x80, first == 0xf4 ? 0x8f : 0xbf);
  return second && continues(2) && continues(3) ? 4 : 0;
}

// Of a whole character: C0, DEL and C1 controls; line and paragraph separators; what turns the direction of writing.
bool breaks_lines(std::string_view character) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(character[i]); };
  if (character.size() == 1) return byte(0) < 0x20 || byte(0) == 0x7f;
  if (character.size() == 2) return byte(0) == 0xc2 && byte(1) < 0xa0;
  if (character.size() != 3 || byte(0) != 0xe2) return false;
  if (byte(1) == 0x80) {  // U+200E, U+200F, U+2028 to U+202E
    return byte(2) == 0x8e || byte(2) == 0x8f || (byte(2) >= 0xa8 && byte(2) <= 0xae);
  }
  return byte(1) == 0x81 && byte(2) >= 0xa6 && byte(2) <= 0xa9;  // U+2066 to U+2069
}

}  // namespace

std::string escape_line(std::string_view text) {
  std::string escaped;
  escaped.reserve(text.size());
  while (!text.empty()) {
    const size_t bytes = character_bytes(text);
    const std::string_view character = text.substr(0, bytes == 0 ? 1 : bytes);
    text.remove_prefix(character.size());
    if (character == "\\") {
      escaped += "\\\\";
    } else if (bytes != 0 && !breaks_lines(character)) {
      escaped += character;
    } else {
      for (const char byte : character) {
        std::array<char, 8> code;
        std::snprintf(code.data(), code.size(), "\\x%02x", static_cast<unsigned char>(byte));
        escaped += code.data();
      }
    }
  }
  return escaped;
}

Result<std::unique_ptr<ServiceLog>> ServiceLog::create(const ServiceLogOptions& options) {
  std::unique_ptr<spdlog::sinks::sink> sink;
  try {
    if (options.file.empty()) {
      sink = std::make_unique<spdlog::sinks::stderr_sink_mt>();
    } else {
      sink = std::make_unique<spdlog::sinks::basic_file_sink_mt>(options.file);
    }
  } catch (const spdlog::spdlog_ex& failure) {
    return error(StatusCode::permission_denied, "log file " + options.file + ": " + failure.what());
  }
  if (options.format == LogFormat::json) {
    sink->set_formatter(std::make_unique<JsonFormatter>());
  } else {
    sink->set_formatter(std::make_unique<TextFormatter>());
  }
  return std::unique_ptr<ServiceLog>(new ServiceLog(options.file, std::move(sink)));
}

ServiceLog::ServiceLog(std::string file, std::unique_ptr<spdlog::sinks::sink> sink)
    : file_(std::move(file)), sink_(std::move(sink)) {}

ServiceLog::~ServiceLog() = default;

void ServiceLog::log(LogLevel level, std::string_view module, std::string_view line) {
  try {
    sink_->log(spdlog::details::log_msg(spdlog::string_view_t(module.data(), module.size()),
                                        level_of(level),
                                        spdlog::string_view_t(line.data(), line.size())));
    sink_->flush();
  } catch (const std::exception& failure) {
    std::fprintf(stderr, "log file %s: %s; %s: %s\n", file_.c_str(), failure.what(),
                 std::string(module).c_str(), escape_line(line).c_str());
  }
}

}  // namespace basalt
