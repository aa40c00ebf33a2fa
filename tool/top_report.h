// What a target daemon did between two looks at it, as a table.
#pragma once

#include <string>
#include <vector>

#include "targets/rpc/params.h"

namespace basalt::tool {

// `before` and `after`: what basalt_get_metrics answered. Lines without their ends; what is missing in either counts as
// nothing done.
std::vector<std::string> top_report(const rpc::Json& before, const rpc::Json& after);

}  // namespace basalt::tool
