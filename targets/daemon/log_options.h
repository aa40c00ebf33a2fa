// The options of the target programs that say what is logged, and where.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "targets/daemon/log_filter.h"
#include "targets/daemon/service_log.h"

namespace basalt {

struct LogArguments {
  ServiceLogOptions log;
  LogFilter::Level level = LogLevel::info;
};

inline void add_log_options(CLI::App& app, LogArguments& arguments) {
  app.add_option("--log-file", arguments.log.file, "appended to; none given: stderr");
  app.add_option_function<std::string>(
         "--log-level",
         [&arguments](const std::string& name) {
           arguments.level = name == "disabled"  ? LogFilter::Level()
                             : name == "error"   ? LogLevel::error
                             : name == "warning" ? LogLevel::warning
                             : name == "debug"   ? LogLevel::debug
                                                 : LogLevel::info;
         },
         "the least that is logged (default: info)")
      ->check(CLI::IsMember({"disabled", "error", "warning", "info", "debug"}));
  app.add_option_function<std::string>(
         "--log-format",
         [&arguments](const std::string& name) {
           arguments.log.format = name == "json" ? LogFormat::json : LogFormat::text;
         },
         "a line of text for each event, or an object of JSON (default: text)")
      ->check(CLI::IsMember({"text", "json"}));
}

}  // namespace basalt
