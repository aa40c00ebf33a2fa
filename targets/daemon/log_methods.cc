// What is told of what happens: the log's level, and notifications.
#include <algorithm>
#include <iterator>

#include "base/try.h"
#include "targets/daemon/daemon.h"

namespace basalt {

using rpc::Json;
using rpc::Params;

namespace {

struct LevelName {
  const char* name;
  LogFilter::Level level;
};
// SPDK's, but for NOTICE, which lies between two that there are.
constexpr LevelName kLevelNames[] = {{"DISABLED", {}},
                                     {"ERROR", LogLevel::error},
                                     {"WARNING", LogLevel::warning},
                                     {"INFO", LogLevel::info},
                                     {"DEBUG", LogLevel::debug}};

}  // namespace

void Daemon::add_log_methods() {
  const auto set_level = [this](Params& params) -> Result<Json> {
    const std::string name = params.text("level");
    BASALT_TRY(params.done());
    for (const LevelName& known : kLevelNames) {
      if (name != known.name) continue;
      log_->set_level(known.level);
      return Json(true);
    }
    return error(StatusCode::invalid_argument,
                 "level " + name + ": there are DISABLED, ERROR, WARNING, INFO and DEBUG");
  };
  const auto get_level = [this](Params& params) -> Result<Json> {
    BASALT_TRY(params.done());
    const auto has_it = [&](const LevelName& known) { return known.level == log_->level(); };
    return Json(std::find_if(std::begin(kLevelNames), std::end(kLevelNames), has_it)->name);
  };
  // Lines go to one place, so what is logged is what is printed.
  dispatcher_.add("log_set_level", set_level);
  dispatcher_.add("log_set_print_level", set_level);
  dispatcher_.add("log_get_level", get_level);
  dispatcher_.add("log_get_print_level", get_level);

  dispatcher_.add("notify_get_types", [](Params& params) -> Result<Json> {
    BASALT_TRY(params.done());
    Json types = Json::array();
    for (const std::string_view type : Notifications::kTypes) types.push_back(std::string(type));
    return types;
  });
  dispatcher_.add("notify_get_notifications", [this](Params& params) -> Result<Json> {
    const uint64_t id = params.number_or("id", 0);
    const uint64_t max = params.number_or("max", UINT64_MAX);
    BASALT_TRY(params.done());
    Json list = Json::array();
    for (const Notification& notification : notifications_.since(id, max)) {
      list.push_back(
          {{"type", notification.type}, {"ctx", notification.context}, {"id", notification.id}});
    }
    return list;
  });
}

}  // namespace basalt
