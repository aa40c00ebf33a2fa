// Keys, by names: where they are kept is told once, and their contents never.
#include "base/try.h"
#include "targets/daemon/daemon.h"
#include "targets/daemon/key_file.h"

namespace basalt {

using rpc::Json;
using rpc::Params;

void Daemon::add_keyring_methods() {
  dispatcher_.add("keyring_file_add_key", [this](Params& params) -> Result<Json> {
    const std::string name = params.text("name"), path = params.text("path");
    BASALT_TRY(params.done());
    // Now, and again whenever it is used.
    BASALT_TRY_ASSIGN([[maybe_unused]] const std::string text, read_key_file(path));
    if (!keys_.try_emplace(name, path).second) {
      return error(StatusCode::already_exists, "there is a key " + name + " already");
    }
    return Json(true);
  });
  dispatcher_.add("keyring_file_remove_key", [this](Params& params) -> Result<Json> {
    const std::string name = params.text("name");
    BASALT_TRY(params.done());
    if (keys_.erase(name) == 0) return error(StatusCode::not_found, "no key " + name);
    return Json(true);
  });
  dispatcher_.add("keyring_get_keys", [this](Params& params) -> Result<Json> {
    BASALT_TRY(params.done());
    Json list = Json::array();
    for (const auto& [name, path] : keys_) {
      list.push_back({{"name", name}, {"module", "keyring_file"}, {"path", path}});
    }
    return list;
  });
}

Result<nvme::auth::Secret> Daemon::read_secret(const std::string& key) const {
  const auto found = keys_.find(key);
  if (found == keys_.end()) {
    return error(StatusCode::not_found, "no key " + key + "; keyring_file_add_key adds one");
  }
  BASALT_TRY_ASSIGN(const std::string text, read_key_file(found->second));
  auto secret = nvme::auth::Secret::parse(text);
  if (!secret) return error(secret.error().with_context(found->second));
  return secret;
}

Json Daemon::keyring_config() const {
  Json calls = Json::array();
  for (const auto& [name, path] : keys_) {
    calls.push_back(
        {{"method", "keyring_file_add_key"}, {"params", {{"name", name}, {"path", path}}}});
  }
  return calls;
}

}  // namespace basalt
