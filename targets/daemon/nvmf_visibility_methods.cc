// What hosts find: namespaces that some of them see, other discovery services.
#include "base/try.h"
#include "targets/daemon/daemon.h"
#include "targets/daemon/nvmf_params.h"

namespace basalt {

using rpc::Json;
using rpc::Params;

namespace {

Result<nvmf::Referral> take_referral(Params& params) {
  nvmf::Referral referral;
  auto address = take_address(params.object("address"));
  if (params.flag("secure_channel", false)) referral.security = nvmf::Security::tls;
  referral.nqn = params.text("subnqn", referral.nqn);
  params.only("allow_any_host", true);
  no_target_name(params);
  BASALT_TRY(params.done());
  if (!address) return tl::unexpected(address.error());
  referral.address = std::move(*address);
  return referral;
}

}  // namespace

void Daemon::add_nvmf_visibility_methods() {
  const auto add_visibility = [this](const char* method, auto change) {
    dispatcher_.add(method, [this, change](Params& params) -> Result<Json> {
      const std::string nqn = params.text("nqn"), host = params.text("host");
      const auto nsid = static_cast<uint32_t>(params.number("nsid", 1, 0xffff'fffe));
      no_target_name(params);
      BASALT_TRY(params.done());
      BASALT_TRY(((*target_).*change)(nqn, nsid, host));
      return Json(true);
    });
  };
  add_visibility("nvmf_ns_add_host", &nvmf::Target::show_namespace);
  add_visibility("nvmf_ns_remove_host", &nvmf::Target::hide_namespace);

  dispatcher_.add("nvmf_discovery_add_referral", [this](Params& params) -> Result<Json> {
    BASALT_TRY_ASSIGN(const nvmf::Referral referral, take_referral(params));
    BASALT_TRY(target_->add_referral(referral));
    return Json(true);
  });
  dispatcher_.add("nvmf_discovery_remove_referral", [this](Params& params) -> Result<Json> {
    BASALT_TRY_ASSIGN(const nvmf::Referral referral, take_referral(params));
    BASALT_TRY(target_->remove_referral(referral));
    return Json(true);
  });
  dispatcher_.add("nvmf_discovery_get_referrals", [this](Params& params) -> Result<Json> {
    no_target_name(params);
    BASALT_TRY(params.done());
    Json list = Json::array();
    for (const nvmf::Referral& referral : target_->referrals())
      list.push_back(describe_referral(referral));
    return list;
  });
}

}  // namespace basalt
