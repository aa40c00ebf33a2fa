// Params: the parameters of one call, taken by name.
//
// A method takes what it knows, then asks done(), which tells the first thing that was wrong: a parameter that is missing,
// of another kind, or that nobody has taken, with the names of those that are.
//
//   const std::string name = params.text("name");
//   const uint64_t blocks = params.number("num_blocks");
//   const bool readonly = params.flag("readonly", false);
//   BASALT_TRY(params.done());
#pragma once

#include <basalt/status.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace basalt::rpc {

using Json = nlohmann::ordered_json;

class Params {
 public:
  // Null: none. `values` outlives it.
  explicit Params(const Json& values, std::string within = "");

  // Those without `otherwise` are required; null counts as not given. A number will do for a text, as a port's.
  std::string text(const std::string& name);
  std::string text(const std::string& name, std::string otherwise);
  uint64_t number(const std::string& name, uint64_t least = 0, uint64_t most = UINT64_MAX);
  uint64_t number_or(const std::string& name, uint64_t otherwise, uint64_t least = 0,
                     uint64_t most = UINT64_MAX);
  bool flag(const std::string& name);
  bool flag(const std::string& name, bool otherwise);
  std::vector<std::string> texts(const std::string& name);  // empty when not given
  const Json* raw(const std::string& name);                 // null when not given
  // What other implementations offer and this one does not: any other value than `only` is refused.
  void only(const std::string& name, const Json& value);
  // A parameter that is an object: its members, which the caller takes and asks about by itself.
  Params object(const std::string& name);

  Status done() const;
  // All of them, as they were given; an empty object when there are none.
  Json values() const { return values_.is_object() ? values_ : Json::object(); }

 private:
  const Json* find(const std::string& name);
  const Json* require(const std::string& name);
  void complain(const std::string& name, const std::string& expected);

  const Json& values_;
  const std::string within_;  // "namespace." of a member's name
  std::vector<std::string> known_;
  Status wrong_;
};

}  // namespace basalt::rpc
