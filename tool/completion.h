// What may stand at a place of basalt's command line, for the shells' completion.
//
// It is read off the CLI::App that parses the command line, so it knows every command and option there is.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace basalt::tool {

enum class Wanted : uint8_t { words, files };

struct Completion {
  std::vector<std::string> words;  // that begin as the last one does
  Wanted wanted = Wanted::words;   // files: names of files will do as well
};

// `words` are those behind the program's name up to the cursor; the last one, which may be empty, is being written.
Completion complete(const CLI::App& app, const std::vector<std::string>& words);

}  // namespace basalt::tool
