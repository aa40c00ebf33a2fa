// See params.h.
#include "targets/rpc/params.h"

#include <algorithm>

namespace basalt::rpc {

namespace {

const Json& nothing() {
  static const Json null;
  return null;
}

// What text gives as unsigned, and a program's own calls as int.
bool is_natural(const Json& value) {
  return value.is_number_unsigned() || (value.is_number_integer() && value.get<int64_t>() >= 0);
}

}  // namespace

Params::Params(const Json& values, std::string within)
    : values_(values), within_(std::move(within)) {
  if (!values_.is_null() && !values_.is_object()) {
    wrong_ = {StatusCode::invalid_argument,
              within_.empty() ? "params must be an object, {\"name\": value, …}"
                              : within_.substr(0, within_.size() - 1) + " must be an object"};
  }
}

const Json* Params::find(const std::string& name) {
  known_.push_back(name);
  if (!values_.is_object()) return nullptr;
  const auto found = values_.find(name);
  return found == values_.end() || found->is_null() ? nullptr : &*found;
}

void Params::complain(const std::string& name, const std::string& expected) {
  if (wrong_.ok()) {
    wrong_ = {StatusCode::invalid_argument, "parameter " + within_ + name + ": " + expected};
  }
}

const Json* Params::require(const std::string& name) {
  const Json* const value = find(name);
  if (value == nullptr) complain(name, "is missing");
  return value;
}

std::string Params::text(const std::string& name) {
  if (require(name) == nullptr) return {};
  known_.pop_back();
  return text(name, "");
}

std::string Params::text(const std::string& name, std::string otherwise) {
  const Json* const value = find(name);
  if (value == nullptr) return otherwise;
  if (value->is_string()) return value->get<std::string>();
  if (is_natural(*value)) return value->dump();
  complain(name, "must be a string");
  return otherwise;
}

uint64_t Params::number(const std::string& name, uint64_t least, uint64_t most) {
  if (require(name) == nullptr) return least;
  known_.pop_back();
  return number_or(name, least, least, most);
}

uint64_t Params::number_or(const std::string& name, uint64_t otherwise, uint64_t least,
                           uint64_t most) {
  const Json* const value = find(name);
  if (value == nullptr) return otherwise;
  if (is_natural(*value)) {
    const auto number = value->get<uint64_t>();
    if (number >= least && number <= most) return number;
  }
  complain(name,
           "must be a whole number from " + std::to_string(least) + " to " + std::to_string(most));
  return otherwise;
}

bool Params::flag(const std::string& name) {
  const Json* const value = require(name);
  if (value != nullptr && value->is_boolean()) return value->get<bool>();
  complain(name, "must be true or false");
  return false;
}

bool Params::flag(const std::string& name, bool otherwise) {
  const Json* const value = find(name);
  if (value == nullptr) return otherwise;
  if (value->is_boolean()) return value->get<bool>();
  complain(name, "must be true or false");
  return otherwise;
}

std::vector<std::string> Params::texts(const std::string& name) {
  const Json* const value = find(name);
  if (value == nullptr) return {};
  std::vector<std::string> all;
  const bool are_texts =
      value->is_array() &&
      std::all_of(value->begin(), value->end(), [](const Json& each) { return each.is_string(); });
  if (!are_texts) {
    complain(name, "must be an array of strings");
    return {};
  }
  for (const Json& each : *value) all.push_back(each.get<std::string>());
  return all;
}

const Json* Params::raw(const std::string& name) { return find(name); }

void Params::only(const std::string& name, const Json& value) {
  const Json* const given = find(name);
  if (given != nullptr && *given != value) {
    complain(name, given->dump() + " is not supported; leave it out");
  }
}

Params Params::object(const std::string& name) {
  const Json* const value = require(name);
  return Params(value == nullptr ? nothing() : *value, within_ + name + ".");
}

Status Params::done() const {
  if (!wrong_.ok() || !values_.is_object()) return wrong_;
  for (const auto& [name, value] : values_.items()) {
    if (std::find(known_.begin(), known_.end(), name) != known_.end()) continue;
    std::string names;
    for (const std::string& known : known_) names += (names.empty() ? "" : ", ") + known;
    return {StatusCode::invalid_argument, "there is no parameter " + within_ + name +
                                              "; there are: " + (names.empty() ? "none" : names)};
  }
  return {};
}

}  // namespace basalt::rpc
