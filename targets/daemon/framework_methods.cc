// What there is to call, the reactors, the configuration.
#include <unistd.h>

#include "base/try.h"
#include "targets/daemon/daemon.h"

namespace basalt {

using rpc::Json;
using rpc::Params;

namespace {

Result<Json> just_true(Params& params) {
  BASALT_TRY(params.done());
  return Json(true);
}

}  // namespace

void Daemon::add_framework_methods() {
  dispatcher_.add("rpc_get_methods", [this](Params& params) -> Result<Json> {
    params.flag("current", false);  // all can be called at any time
    params.flag("include_aliases", false);
    BASALT_TRY(params.done());
    return Json(dispatcher_.names());
  });
  dispatcher_.add("spdk_get_version", [](Params& params) -> Result<Json> {
    BASALT_TRY(params.done());
    return Json{{"version", "Basalt " BASALT_VERSION}};
  });
  // There is nothing between starting and being ready.
  dispatcher_.add("framework_start_init", just_true);
  dispatcher_.add("framework_wait_init", just_true);
  dispatcher_.add("framework_get_subsystems", [](Params& params) -> Result<Json> {
    BASALT_TRY(params.done());
    return Json::array({{{"subsystem", "keyring"}, {"depends_on", Json::array()}},
                        {{"subsystem", "bdev"}, {"depends_on", Json::array()}},
                        {{"subsystem", "nvmf"}, {"depends_on", Json::array({"bdev", "keyring"})}}});
  });
  dispatcher_.add("framework_get_reactors", [this](Params& params) -> Result<Json> {
    BASALT_TRY(params.done());
    Json list = Json::array();
    for (const auto& reactor : reactors_) {
      const ReactorStats stats = reactor->stats();
      list.push_back({{"lcore", list.size()},
                      {"name", reactor->name()},
                      {"busy", stats.busy.count()},
                      {"idle", (stats.looking + stats.asleep).count()},
                      {"looking", stats.looking.count()},
                      {"asleep", stats.asleep.count()},
                      {"sleeps", stats.sleeps},
                      {"look_before_sleep", stats.look.count()},
                      {"lw_threads", Json::array()}});
    }
    return Json{{"tick_rate", 1'000'000'000}, {"pid", ::getpid()}, {"reactors", list}};
  });
  dispatcher_.add("framework_get_config", [this](Params& params) -> Result<Json> {
    const std::string name = params.text("name");
    params.only("with_batches", false);
    BASALT_TRY(params.done());
    if (name == "keyring") return keyring_config();
    if (name == "bdev") return bdev_config();
    if (name == "nvmf") return nvmf_config();
    return error(StatusCode::not_found,
                 "no subsystem " + name + "; there are: keyring, bdev, nvmf");
  });
  dispatcher_.add("save_config", [this](Params& params) -> Result<Json> {
    BASALT_TRY(params.done());
    return config();
  });
  dispatcher_.add("load_config", [this](Params& params) -> Result<Json> {
    const Json* const subsystems = params.raw("subsystems");
    BASALT_TRY(params.done());
    BASALT_TRY(configure(subsystems == nullptr ? Json() : Json{{"subsystems", *subsystems}}));
    return Json(true);
  });
}

}  // namespace basalt
