// See completion.h.
#include "tool/completion.h"

#include <basalt/context.h>
#include <basalt/devices.h>

#include <algorithm>
#include <string_view>

#include "bdev/scheme_table.h"
#include "targets/rpc/client.h"

namespace basalt::tool {
namespace {

// A daemon that does something long does not keep a shell waiting.
constexpr Duration kPatience = std::chrono::seconds(1);

bool takes_value(const CLI::Option& option) { return option.get_items_expected_max() > 0; }

const CLI::Option* find_option(const CLI::App& command, const std::string& name) {
  const auto found = command.get_options([&](const CLI::Option* option) {
    return !option->get_positional() && option->check_name(name);
  });
  return found.empty() ? nullptr : found.front();
}

const CLI::App* find_command(const CLI::App& command, const std::string& name) {
  const auto found =
      command.get_subcommands([&](const CLI::App* known) { return known->get_name() == name; });
  return found.empty() ? nullptr : found.front();
}

// The `place`th argument's, counted from 0; the last may take all that follow. Null: there is none.
const CLI::Option* find_positional(const CLI::App& command, size_t place) {
  const auto all =
      command.get_options([](const CLI::Option* option) { return option->get_positional(); });
  if (place < all.size()) return all[place];
  const bool takes_the_rest = !all.empty() && all.back()->get_items_expected_max() > 1;
  return takes_the_rest ? all.back() : nullptr;
}

// Where the cursor is.
struct Place {
  const CLI::App* command;
  const CLI::Option* option = nullptr;  // whose value stands there; null: none's
  size_t arguments = 0;                 // of the command, before it
  bool options_end = false;             // "--" was before it
};

Place find_place(const CLI::App& app, const std::vector<std::string>& words) {
  Place place{&app};
  for (size_t i = 0; i + 1 < words.size(); ++i) {
    const std::string& word = words[i];
    if (place.option != nullptr) {
      place.option = nullptr;
    } else if (!place.options_end && word == "--") {
      place.options_end = true;
    } else if (!place.options_end && word.size() > 1 && word[0] == '-') {
      const CLI::Option* const option = find_option(*place.command, word);
      if (option != nullptr && takes_value(*option)) place.option = option;
    } else if (const CLI::App* command = find_command(*place.command, word);
               command != nullptr && place.arguments == 0) {
      place.command = command;
    } else {
      ++place.arguments;
    }
  }
  return place;
}

// The values an option says it has: CLI11 describes them as "{one,two}", and as "{one->0,two->1}" those it translates.
std::vector<std::string> choices(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  const size_t begin = type.find('{'), end = type.find('}', begin);
  std::vector<std::string> all;
  if (begin == std::string::npos || end == std::string::npos) return all;
  std::string_view list(type.data() + begin + 1, end - begin - 1);
  while (!list.empty()) {
    const std::string_view one = list.substr(0, list.find(','));
    all.emplace_back(one.substr(0, one.find("->")));
    list.remove_prefix(std::min(list.size(), one.size() + 1));
  }
  return all;
}

std::vector<std::string> device_uris(std::string_view begun) {
  if (begun.starts_with("nvme:")) return {"nvme:pci:", "nvme:tcp:", "nvme:vfio-user:"};
  const auto context = Context::create();
  if (!context) return {};
  register_standard_schemes(**context);
  std::vector<std::string> all;
  for (const std::string& scheme : (*context)->schemes().names()) all.push_back(scheme + ":");
  return all;
}

std::vector<std::string> daemon_methods(const CLI::App& command,
                                        const std::vector<std::string>& words) {
  const CLI::Option* const option = find_option(command, "--socket");
  std::string socket = option == nullptr ? "" : option->get_default_str();
  for (size_t i = 0; i + 1 < words.size(); ++i) {
    if (words[i] == "-s" || words[i] == "--socket") socket = words[i + 1];
    if (words[i].starts_with("--socket=")) socket = words[i].substr(9);
  }
  const auto answer = rpc::call(socket, "rpc_get_methods", {}, kPatience);
  if (!answer || !answer->contains("result")) return {};
  std::vector<std::string> methods;
  for (const rpc::Json& method : (*answer)["result"]) {
    if (method.is_string()) methods.push_back(method.get<std::string>());
  }
  return methods;
}

// What the option's value, begun so, may be.
Completion complete_value(const Place& place, const CLI::Option& option, std::string_view begun,
                          const std::vector<std::string>& words) {
  if (auto known = choices(option); !known.empty()) return {std::move(known)};
  const std::string name = option.get_single_name();
  if (name == "method") return {daemon_methods(*place.command, words)};
  if (name == "params") return {};
  if (name == "device") return {device_uris(begun), Wanted::files};
  if (name == "controller" || name == "namespace") return {device_uris("nvme:"), Wanted::files};
  return {{}, Wanted::files};
}

std::vector<std::string> option_names(const CLI::App& command) {
  std::vector<std::string> names;
  for (const CLI::Option* option : command.get_options()) {
    if (option->get_group().empty()) continue;
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
    for (const std::string& name : option->get_snames()) names.push_back("-" + name);
  }
  return names;
}

Completion complete_at(const Place& place, const std::vector<std::string>& words) {
  const std::string& begun = words.back();
  if (place.option != nullptr) return complete_value(place, *place.option, begun, words);
  if (!place.options_end && begun.starts_with('-')) {
    const size_t equals = begun.find('=');
    if (equals == std::string::npos) return {option_names(*place.command)};
    const CLI::Option* const option = find_option(*place.command, begun.substr(0, equals));
    if (option == nullptr || !takes_value(*option)) return {};
    Completion values = complete_value(place, *option, begun.substr(equals + 1), words);
    for (std::string& word : values.words) word = begun.substr(0, equals + 1) + word;
    return values;
  }
  Completion found;
  if (const CLI::Option* option = find_positional(*place.command, place.arguments)) {
    found = complete_value(place, *option, begun, words);
  }
  if (place.arguments > 0) return found;
  for (const CLI::App* command : place.command->get_subcommands(
           [](const CLI::App* known) { return !known->get_group().empty(); })) {
    found.words.push_back(command->get_name());
  }
  return found;
}

}  // namespace

Completion complete(const CLI::App& app, const std::vector<std::string>& words) {
  if (words.empty()) return {};
  Completion found = complete_at(find_place(app, words), words);
  std::erase_if(found.words,
                [&](const std::string& word) { return !word.starts_with(words.back()); });
  std::sort(found.words.begin(), found.words.end());
  return found;
}

}  // namespace basalt::tool
