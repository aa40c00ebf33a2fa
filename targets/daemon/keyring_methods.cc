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
    BASALT_TRY(check_unused(name));
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

// What was configured with it could not be made again.
Status Daemon::check_unused(const std::string& key) const {
  const auto uses = [&](const Json& values) {
    for (const char* member : {"dhchap_key", "dhchap_ctrlr_key", "psk"}) {
      if (!values.contains(member)) continue;
      const Json& value = values[member];
      if ((value.is_string() ? value.get<std::string>() : value.dump()) == key) return true;
    }
    return false;
  };
  for (const auto& [who, values] : host_keys_) {
    if (uses(values)) {
      return {StatusCode::busy, "key " + key + " is that of host " + who.second + " in " +
                                    who.first + "; nvmf_subsystem_remove_host comes first"};
    }
  }
  for (const auto& [name, attachment] : attachments_) {
    if (uses(attachment.params)) {
      return {StatusCode::busy, "key " + key + " is that of controller " + name +
                                    "; bdev_nvme_detach_controller comes first"};
    }
  }
  return {};
}

Result<std::string> Daemon::key_path(const std::string& key) const {
  const auto found = keys_.find(key);
  if (found == keys_.end()) {
    return error(StatusCode::not_found, "no key " + key + "; keyring_file_add_key adds one");
  }
  BASALT_TRY_ASSIGN([[maybe_unused]] const std::string text, read_key_file(found->second));
  return found->second;
}

template <class Key>
Result<Key> Daemon::read_key(const std::string& name) const {
  const auto found = keys_.find(name);
  if (found == keys_.end()) {
    return error(StatusCode::not_found, "no key " + name + "; keyring_file_add_key adds one");
  }
  return read_key_file_as<Key>(found->second);
}
template Result<nvme::auth::Secret> Daemon::read_key(const std::string&) const;
template Result<nvme::auth::TlsKey> Daemon::read_key(const std::string&) const;

Json Daemon::keyring_config() const {
  Json calls = Json::array();
  for (const auto& [name, path] : keys_) {
    calls.push_back(
        {{"method", "keyring_file_add_key"}, {"params", {{"name", name}, {"path", path}}}});
  }
  return calls;
}

}  // namespace basalt
