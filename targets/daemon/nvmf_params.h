// Parameters and answers that several nvmf_… methods have in common.
#pragma once

#include <basalt/status.h>

#include <string>

#include "targets/nvmf/target.h"
#include "targets/rpc/params.h"

namespace basalt {

// One target, and no name for it.
void no_target_name(rpc::Params& params);
bool is_tcp(const std::string& transport_type);
// The members of a "listen_address". Errors: invalid_argument, unsupported.
Result<nvmf::ListenAddress> take_address(rpc::Params address);
rpc::Json describe_address(const nvmf::ListenAddress& address);
// As the parameters that add it.
rpc::Json describe_referral(const nvmf::Referral& referral);

}  // namespace basalt
