// Dispatcher: the methods there are, and JSON-RPC 2.0 around them.
//
// https://www.jsonrpc.org/specification. Errors that are not the protocol's carry a code as SPDK's clients know them, an
// errno with a minus sign, and a sentence.
// Threads: add() and after_each() before the first call; handle() one at a time.
#pragma once

#include <basalt/status.h>

#include <cstddef>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "targets/rpc/params.h"

namespace basalt::rpc {

class Dispatcher {
 public:
  using Method = std::function<Result<Json>(Params&)>;
  static constexpr size_t kMaxBatch = 256;

  void add(const std::string& name, Method method) { methods_[name] = std::move(method); }
  // Called after every call, whatever came of it; its error takes the place of a good result.
  void after_each(std::function<Status(const std::string& name)> after) {
    after_ = std::move(after);
  }
  std::vector<std::string> names() const;
  // not_found: no such method.
  Result<Json> call(const std::string& name, const Json& params) const;
  // The answer to one request or a batch of them; empty when nobody waits for one.
  std::string handle(std::string_view text) const;

 private:
  std::string handle_json(std::string_view text) const;
  Json answer(const Json& request) const;  // null: none

  std::map<std::string, Method> methods_;
  std::function<Status(const std::string&)> after_;
};

}  // namespace basalt::rpc
