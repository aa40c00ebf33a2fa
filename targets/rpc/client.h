// One call of a daemon's over its unix socket.
#pragma once

#include <basalt/context.h>
#include <basalt/status.h>

#include <string>

#include "targets/rpc/params.h"

namespace basalt::rpc {

// The whole answer, {"result": …} or {"error": {"code": …, "message": …}}. Errors: not_found (nobody serves the socket),
// permission_denied, io_error (the daemon has gone), corruption (what it says is no JSON-RPC), timed_out (nothing came for so
// long; zero: that may take any time).
Result<Json> call(const std::string& socket_path, const std::string& method, const Json& params,
                  Duration patience = Duration::zero());

}  // namespace basalt::rpc
