#include "test/tool/tool_fixture.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <iterator>

namespace basalt::test {
namespace {

std::string slurp(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::filesystem::path make_directory() {
  std::string name = (std::filesystem::temp_directory_path() / "basalt-tool-XXXXXX").string();
  if (mkdtemp(name.data()) == nullptr) std::abort();
  return name;
}

}  // namespace

Outcome run_program(const std::vector<std::string>& words, const std::string& input) {
  const std::filesystem::path work = make_directory();
  std::ofstream(work / "in", std::ios::binary) << input;
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, (work / "in").c_str(), O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, (work / "out").c_str(), O_WRONLY | O_CREAT, 0600);
  posix_spawn_file_actions_addopen(&actions, 2, (work / "err").c_str(), O_WRONLY | O_CREAT, 0600);
  std::vector<std::string> copies = words;
  std::vector<char*> arguments;
  for (std::string& word : copies) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  pid_t child = 0;
  Outcome outcome;
  if (posix_spawnp(&child, arguments[0], &actions, nullptr, arguments.data(), environ) == 0) {
    int status = 0;
    waitpid(child, &status, 0);
    outcome.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    outcome.out = slurp(work / "out");
    outcome.err = slurp(work / "err");
  }
  posix_spawn_file_actions_destroy(&actions);
  std::filesystem::remove_all(work);
  return outcome;
}

ToolTest::ToolTest() : directory_(make_directory()) {}
ToolTest::~ToolTest() { std::filesystem::remove_all(directory_); }

Outcome ToolTest::basalt(std::vector<std::string> words, const std::string& input) {
  words.insert(words.begin(), BASALT_TOOL);
  return run_program(words, input);
}

std::string ToolTest::must(std::vector<std::string> words, const std::string& input) {
  std::string command;
  for (const std::string& word : words) command += " " + word;
  const Outcome outcome = basalt(std::move(words), input);
  EXPECT_EQ(outcome.status, 0) << "basalt" << command << "\n" << outcome.err;
  return outcome.out;
}

std::string ToolTest::make_store(const std::string& name, const std::string& size) {
  const std::string uri = "file:" + path(name).string();
  must({"mkfs", uri + "?size=" + size});
  return uri;
}

std::string ToolTest::write_local(const std::string& name, const std::string& bytes) {
  std::ofstream(path(name), std::ios::binary) << bytes;
  return path(name).string();
}

std::string ToolTest::read_local(const std::filesystem::path& path) { return slurp(path); }

}  // namespace basalt::test
