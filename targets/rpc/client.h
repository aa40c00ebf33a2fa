// One call of a daemon's over its unix socket.
#pragma once

#include <basalt/status.h>

#include <string>

#include "targets/rpc/params.h"

namespace basalt::rpc {

// The whole answer, {"result": …} or {"error": {"code": …, "message": …}}. Errors: not_found (nobody serves the socket),
// permission_denied, io_error (the daemon has gone), corruption (what it says is no JSON-RPC).
Result<Json> call(const std::string& socket_path, const std::string& method, const Json& params);

}  // namespace basalt::rpc
