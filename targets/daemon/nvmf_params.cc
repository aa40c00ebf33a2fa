// See nvmf_params.h.
#include "targets/daemon/nvmf_params.h"

#include <algorithm>
#include <cctype>

#include "base/try.h"

namespace basalt {

using rpc::Json;
using rpc::Params;

void no_target_name(Params& params) { params.only("tgt_name", "nvmf_tgt"); }

bool is_tcp(const std::string& transport_type) {
  return transport_type == "TCP" || transport_type == "tcp";
}

Result<nvmf::ListenAddress> take_address(Params address) {
  const std::string type = address.text("trtype", "TCP");
  nvmf::ListenAddress result;
  result.host = address.text("traddr");
  result.port = address.text("trsvcid", "4420");
  std::string family = address.text("adrfam", "");
  BASALT_TRY(address.done());
  if (!is_tcp(type)) {
    return error(StatusCode::unsupported, "trtype " + type + ": there is TCP");
  }
  std::transform(family.begin(), family.end(), family.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (!family.empty() && family != (result.is_ipv6() ? "ipv6" : "ipv4")) {
    return error(StatusCode::invalid_argument,
                 "adrfam " + family + ": " + result.host + " is no such address");
  }
  return result;
}

Json describe_address(const nvmf::ListenAddress& address) {
  return {{"trtype", "TCP"},
          {"adrfam", address.is_ipv6() ? "IPv6" : "IPv4"},
          {"traddr", address.host},
          {"trsvcid", address.port}};
}

Json describe_referral(const nvmf::Referral& referral) {
  return {{"address", describe_address(referral.address)},
          {"secure_channel", referral.security == nvmf::Security::tls},
          {"subnqn", referral.nqn}};
}

}  // namespace basalt
