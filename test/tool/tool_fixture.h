// Runs the real basalt program on stores in a temporary directory, and shows what it answered.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

namespace basalt::test {

struct Outcome {
  int status = -1;  // exit status; 128 + signal when killed
  std::string out;
  std::string err;
};

// Runs a program found in PATH or by path, with `input` as its standard input.
Outcome run_program(const std::vector<std::string>& words, const std::string& input = "");

class ToolTest : public ::testing::Test {
 protected:
  ToolTest();
  ~ToolTest() override;

  Outcome basalt(std::vector<std::string> words, const std::string& input = "");
  // Fails the test, showing stderr, unless the command succeeds; returns its output.
  std::string must(std::vector<std::string> words, const std::string& input = "");
  // A file: URI of a new store.
  std::string make_store(const std::string& name = "store.img", const std::string& size = "64M");
  std::filesystem::path path(const std::string& name) const { return directory_ / name; }
  std::string write_local(const std::string& name, const std::string& bytes);
  static std::string read_local(const std::filesystem::path& path);

 private:
  std::filesystem::path directory_;
};

}  // namespace basalt::test
