// See dispatcher.h.
#include "targets/rpc/dispatcher.h"

#include <cerrno>
#include <exception>

namespace basalt::rpc {

namespace {

constexpr int kParseError = -32700, kInvalidRequest = -32600, kMethodNotFound = -32601,
              kInvalidParams = -32602, kInternalError = -32603;

int code_of(StatusCode code) {
  switch (code) {
    case StatusCode::invalid_argument:
    case StatusCode::out_of_range:
    case StatusCode::too_large: return kInvalidParams;
    case StatusCode::not_found: return -ENODEV;
    case StatusCode::already_exists: return -EEXIST;
    case StatusCode::unsupported: return -ENOTSUP;
    case StatusCode::busy: return -EBUSY;
    case StatusCode::no_space: return -ENOSPC;
    case StatusCode::io_error: return -EIO;
    case StatusCode::timed_out: return -ETIMEDOUT;
    case StatusCode::read_only: return -EROFS;
    case StatusCode::permission_denied: return -EACCES;
    case StatusCode::device_removed: return -ENXIO;
    default: return kInternalError;
  }
}

Json error_answer(const Json& id, int code, std::string message) {
  return {
      {"jsonrpc", "2.0"}, {"id", id}, {"error", {{"code", code}, {"message", std::move(message)}}}};
}

std::string write(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

std::vector<std::string> Dispatcher::names() const {
  std::vector<std::string> all;
  for (const auto& [name, method] : methods_) all.push_back(name);
  return all;
}

Result<Json> Dispatcher::call(const std::string& name, const Json& values) const {
  const auto found = methods_.find(name);
  if (found == methods_.end()) {
    return error(StatusCode::not_found, "no method " + name + "; rpc_get_methods lists them");
  }
  Params params(values);
  Result<Json> result = found->second(params);
  if (after_ == nullptr) return result;
  const Status after = after_(name);
  return result && !after.ok() ? error(after) : std::move(result);
}

Json Dispatcher::answer(const Json& request) const {
  const Json null;
  const bool has_id = request.is_object() && request.contains("id");
  const Json& id = has_id ? request["id"] : null;
  if (!request.is_object() || !request.contains("method") || !request["method"].is_string() ||
      (has_id && !id.is_null() && !id.is_string() && !id.is_number())) {
    return error_answer(null, kInvalidRequest,
                        "a request is {\"jsonrpc\": \"2.0\", \"method\": \"NAME\", \"params\": "
                        "{…}, \"id\": NUMBER}");
  }
  const auto name = request["method"].get<std::string>();
  if (methods_.count(name) == 0) {
    return has_id ? error_answer(id, kMethodNotFound,
                                 "no method " + name + "; rpc_get_methods lists them")
                  : null;
  }
  const Result<Json> result = call(name, request.contains("params") ? request["params"] : null);
  if (!has_id) return null;
  if (!result) {
    return error_answer(id, code_of(result.error().code()), std::string(result.error().message()));
  }
  return {{"jsonrpc", "2.0"}, {"id", id}, {"result", *result}};
}

std::string Dispatcher::handle(std::string_view text) const {
  try {
    return handle_json(text);
  } catch (const std::exception& failure) {  // memory, first of all
    return write(error_answer(nullptr, kInternalError, failure.what()));
  }
}

std::string Dispatcher::handle_json(std::string_view text) const {
  const Json request = Json::parse(text, nullptr, false);
  if (request.is_discarded()) {
    return write(error_answer(nullptr, kParseError, "this is not JSON"));
  }
  if (!request.is_array()) {
    const Json one = answer(request);
    return one.is_null() ? "" : write(one);
  }
  if (request.empty()) return write(error_answer(nullptr, kInvalidRequest, "an empty batch"));
  if (request.size() > kMaxBatch) {
    return write(error_answer(nullptr, kInvalidRequest,
                              "a batch of " + std::to_string(request.size()) + " calls; at most " +
                                  std::to_string(kMaxBatch)));
  }
  Json answers = Json::array();
  for (const Json& each : request) {
    if (Json one = answer(each); !one.is_null()) answers.push_back(std::move(one));
  }
  return answers.empty() ? "" : write(answers);
}

}  // namespace basalt::rpc
