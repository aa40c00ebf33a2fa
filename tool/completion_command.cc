// basalt completion: what makes a shell complete this program's command lines. The shell's part splits the line into words
// and shows what `basalt complete -- WORD…` prints: a line that says whether names of files will do too, then the words.
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "tool/command.h"
#include "tool/completion.h"

namespace basalt::tool {
namespace {

// Bash breaks words at ':' and '=', which stand inside device URIs and options: the line is split at blanks instead, and
// of what is found only the part behind the break is given back.
constexpr const char* kBash =
    R"(# Completion of basalt's command lines for bash; made by `basalt completion bash`.
_basalt() {
  local line=${COMP_LINE:0:COMP_POINT} word wanted=files
  local piece=${COMP_WORDS[COMP_CWORD]} words
  read -ra words <<<"$line"
  [[ $line != *[[:space:]] ]] || words+=("")
  [[ ! $piece =~ ^[:=]+$ ]] || piece=""
  local before=${words[-1]%"$piece"}
  COMPREPLY=()
  {
    IFS= read -r wanted
    while IFS= read -r word; do COMPREPLY+=("${word#"$before"}"); done
  } < <("${words[0]}" complete -- "${words[@]:1}" 2>/dev/null)
  [[ $wanted == files ]] || compopt +o default 2>/dev/null
  [[ ${#COMPREPLY[@]} != 1 || ${COMPREPLY[0]} != *[:=] ]] || compopt -o nospace 2>/dev/null
}
complete -o default -F _basalt basalt
)";

constexpr const char* kZsh = R"(#compdef basalt
# Completion of basalt's command lines for zsh; made by `basalt completion zsh`.
_basalt() {
  local -a lines found
  lines=("${(@f)$("${words[1]}" complete -- "${(@Q)words[2,CURRENT]}" 2>/dev/null)}")
  found=("${(@)lines[2,-1]}")
  if (( ${#found} )); then
    compadd -- "${(@)found:#*[:=]}"
    compadd -S '' -- "${(@M)found:#*[:=]}"
  elif [[ ${lines[1]} == files ]]; then
    compset -P '*[:=]'
    _files
  fi
}
if [[ ${funcstack[1]} == _basalt ]]; then
  _basalt "$@"
else
  compdef _basalt basalt
fi
)";

Result<int> print_words(const CLI::App& app, const std::vector<std::string>& words) {
  const Completion found = complete(app, words);
  std::puts(found.wanted == Wanted::files ? "files" : "words");
  for (const std::string& word : found.words) std::puts(word.c_str());
  return kDone;
}

}  // namespace

void add_completion_commands(CLI::App& app, Action& action) {
  CLI::App* command = app.add_subcommand(
      "completion",
      "print what makes a shell complete command lines\n"
      "  source <(basalt completion bash)                     # now; in ~/.bashrc: always\n"
      "  basalt completion zsh > ~/.zfunc/_basalt             # a directory of $fpath");
  auto shell = std::make_shared<std::string>();
  command->add_option("shell", *shell, "bash or zsh")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh"}));
  command->callback([shell, &action] {
    action = [shell]() -> Result<int> {
      std::fputs(*shell == "bash" ? kBash : kZsh, stdout);
      return kDone;
    };
  });

  command = app.add_subcommand("complete", "for the shells: the words behind -- may go on with");
  command->group("");  // not for people
  auto words = std::make_shared<std::vector<std::string>>();
  command->add_option("words", *words);
  command->callback(
      [words, &app, &action] { action = [words, &app] { return print_words(app, *words); }; });
}

}  // namespace basalt::tool
