// RpcServer: JSON-RPC on a unix socket, from a thread of its own.
//
// Calls are made one after the other, whichever connection they come from, so methods need no locks against each other, and
// may block. The socket has mode 0600: whoever may connect may do everything.
// Threads: create() and the destructor from any but its own.
#pragma once

#include <basalt/context.h>
#include <basalt/status.h>

#include <atomic>
#include <memory>
#include <string>

#include "base/sync.h"
#include "base/unique_fd.h"
#include "targets/rpc/dispatcher.h"

namespace basalt::rpc {

class RpcServer {
 public:
  static constexpr size_t kMaxConnections = 64;

  // A socket that nobody serves any more is replaced. Errors: busy (somebody serves it), invalid_argument (too long a
  // path), permission_denied, io_error.
  static Result<std::unique_ptr<RpcServer>> create(const std::string& path,
                                                   const Dispatcher& dispatcher, LogSink& log);
  // The call under way is finished; the socket is removed.
  ~RpcServer();
  RpcServer(const RpcServer&) = delete;

 private:
  struct Connection;
  RpcServer(std::string path, UniqueFd listener, UniqueFd wake, const Dispatcher& dispatcher,
            LogSink& log);
  void serve();
  // False: it is over.
  bool take(Connection& connection);

  const std::string path_;
  const UniqueFd listener_, wake_;
  const Dispatcher& dispatcher_;
  LogSink& log_;
  Thread thread_;
};

}  // namespace basalt::rpc
