// basalt rpc: one call of a target daemon's.
#include <cstdio>
#include <string>
#include <vector>

#include "base/try.h"
#include "targets/rpc/client.h"
#include "tool/command.h"

namespace basalt::tool {
namespace {

using rpc::Json;

struct RpcArguments {
  std::string socket = "/var/tmp/basalt.sock";
  std::string method;
  std::vector<std::string> params;
};

// "key=value" with a value that is JSON, or else text; "outer.key=value" for a member of an object.
Result<Json> parse_params(const std::vector<std::string>& words) {
  Json params;
  for (const std::string& word : words) {
    const size_t equals = word.find('=');
    if (equals == 0 || equals == std::string::npos) {
      return error(StatusCode::invalid_argument, word + ": expected KEY=VALUE");
    }
    const std::string text = word.substr(equals + 1);
    Json value = Json::parse(text, nullptr, false);
    if (value.is_discarded()) value = text;
    Json* place = &params;
    std::string key = word.substr(0, equals);
    for (size_t dot = key.find('.'); dot != std::string::npos; dot = key.find('.')) {
      place = &(*place)[key.substr(0, dot)];
      key.erase(0, dot + 1);
      if (!place->is_null() && !place->is_object()) {
        return error(StatusCode::invalid_argument,
                     word + ": what stands before the dot is no object");
      }
    }
    (*place)[key] = std::move(value);
  }
  return params;
}

Result<int> call(const RpcArguments& arguments) {
  BASALT_TRY_ASSIGN(const Json params, parse_params(arguments.params));
  BASALT_TRY_ASSIGN(const Json answer, rpc::call(arguments.socket, arguments.method, params));
  if (answer.contains("error")) {
    const Json& told = answer["error"];
    const bool has_words =
        told.is_object() && told.contains("message") && told["message"].is_string();
    std::fprintf(stderr, "basalt: %s: %s\n", arguments.method.c_str(),
                 (has_words ? told["message"].get<std::string>() : told.dump()).c_str());
    return kFailed;
  }
  const Json& result = answer["result"];
  std::printf("%s\n", result.is_string()
                          ? result.get<std::string>().c_str()
                          : result.dump(2, ' ', false, Json::error_handler_t::replace).c_str());
  return kDone;
}

}  // namespace

void add_rpc_command(CLI::App& app, Action& action) {
  auto* const command = app.add_subcommand(
      "rpc",
      "Makes one call of basaltd's, and prints what it answers.\n"
      "  basalt rpc bdev_malloc_create name=Malloc0 num_blocks=131072 block_size=512\n"
      "  basalt rpc nvmf_subsystem_add_ns nqn=nqn.2024-01.com.example:disk "
      "namespace.bdev_name=Malloc0");
  auto arguments = std::make_shared<RpcArguments>();
  command->add_option("method", arguments->method, "rpc_get_methods lists them")->required();
  command->add_option(
      "params", arguments->params,
      "KEY=VALUE …; a value is JSON, or text; OUTER.KEY=VALUE for a member of an object");
  command->add_option("-s,--socket", arguments->socket, "the daemon's socket")
      ->capture_default_str();
  command->callback([&action, arguments] { action = [arguments] { return call(*arguments); }; });
}

}  // namespace basalt::tool
