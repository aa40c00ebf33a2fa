// ServiceLog and LogFilter: lines have their form, whatever a message holds; levels; files.
// Method: lines are written to a file and read back.
#include "targets/daemon/service_log.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <regex>

#include "test/targets/daemon/daemon_fixture.h"
#include "test/targets/nvmf/raw_host.h"

namespace basalt {
namespace {

using rpc::Json;

class ServiceLogTest : public testing::Test {
 protected:
  ServiceLogTest()
      : path_(std::filesystem::temp_directory_path() /
              ("basalt-log-" + std::to_string(::getpid()))) {
    std::filesystem::remove(path_);
  }
  ~ServiceLogTest() override { std::filesystem::remove(path_); }
  std::unique_ptr<ServiceLog> open(LogFormat format = LogFormat::text) {
    auto log = ServiceLog::create({.file = path_.string(), .format = format});
    EXPECT_TRUE(log) << log.error().to_string();
    return log ? std::move(*log) : nullptr;
  }
  std::string written() const {
    std::ifstream file(path_, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  const std::filesystem::path path_;
};

// What a peer might send to look like another line, with a zero byte in it.
constexpr char kHostileBytes[] =
    "nqn.x\n2026-01-01T00:00:00.000000Z error nvmf: \"forged\"\r\x1b[2J\t\\n\x7f\0 end";
constexpr std::string_view kHostile(kHostileBytes, sizeof kHostileBytes - 1);

TEST_F(ServiceLogTest, WritesALineForEachEvent) {
  const auto log = open();
  log->log(LogLevel::warning, "nvmf", "10.0.0.7:51234: a host");
  EXPECT_TRUE(std::regex_match(
      written(), std::regex("20\\d\\d-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d\\.\\d{6}Z warning nvmf: "
                            "10\\.0\\.0\\.7:51234: a host\n")))
      << written() << "and it is there before log() returns";
  for (const LogLevel level : {LogLevel::debug, LogLevel::info, LogLevel::error}) {
    log->log(level, "m", "x");
  }
  for (const char* part : {" debug m: x\n", " info m: x\n", " error m: x\n"}) {
    EXPECT_NE(written().find(part), std::string::npos) << written();
  }
}

TEST_F(ServiceLogTest, TextKeepsAMessageInItsLine) {
  const auto log = open();
  log->log(LogLevel::error, "nvmf", kHostile);
  const std::string text = written();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1) << text;
  EXPECT_TRUE(
      text.ends_with(" error nvmf: nqn.x\\x0a2026-01-01T00:00:00.000000Z error nvmf: "
                     "\"forged\"\\x0d\\x1b[2J\\x09\\\\n\\x7f\\x00 end\n"))
      << text;
}

TEST_F(ServiceLogTest, JsonKeepsAMessageInItsString) {
  const auto log = open(LogFormat::json);
  log->log(LogLevel::warning, "nvmf", kHostile);
  log->log(LogLevel::info, "bdev", "größer \u2028 \xff\xc0\x80");
  std::ifstream file(path_);
  std::string first, second, third;
  ASSERT_TRUE(std::getline(file, first) && std::getline(file, second));
  EXPECT_FALSE(std::getline(file, third)) << third;
  const Json one = Json::parse(first), two = Json::parse(second);
  ASSERT_EQ(one.size(), 4u);
  EXPECT_EQ(one["message"], std::string(kHostile));
  EXPECT_EQ(one["level"], "warning");
  EXPECT_EQ(one["module"], "nvmf");
  EXPECT_TRUE(one["time"].get<std::string>().ends_with("Z"));
  EXPECT_TRUE(std::all_of(second.begin(), second.end(), [](char c) { return c >= 0x20; }))
      << "nothing but ASCII: " << second;
  EXPECT_EQ(two["message"], "größer \u2028 \ufffd\ufffd\ufffd");
}

TEST_F(ServiceLogTest, EscapesWhatWouldBreakALine) {
  EXPECT_EQ(escape_line("plain größer 日本 😀 /a?b=\"c\""), "plain größer 日本 😀 /a?b=\"c\"");
  EXPECT_EQ(escape_line("\xc2\x85|\u2028|\u2029|\u202e|\u2066|\u200f"),
            "\\xc2\\x85|\\xe2\\x80\\xa8|\\xe2\\x80\\xa9|\\xe2\\x80\\xae|\\xe2\\x81\\xa6|"
            "\\xe2\\x80\\x8f");
  // No UTF-8: alone, cut short, too long, a surrogate, beyond the last character.
  EXPECT_EQ(escape_line("\x80 \xe6\x97 \xc0\xaf \xed\xa0\x80 \xf4\x90\x80\x80"),
            "\\x80 \\xe6\\x97 \\xc0\\xaf \\xed\\xa0\\x80 \\xf4\\x90\\x80\\x80");
  EXPECT_EQ(escape_line("\xe6"), "\\xe6");
  EXPECT_EQ(escape_line(""), "");
}

TEST_F(ServiceLogTest, AppendsToItsFile) {
  open()->log(LogLevel::info, "m", "one");
  open()->log(LogLevel::info, "m", "two");
  const std::string text = written();
  EXPECT_LT(text.find("one"), text.find("two"));
  const auto refused = ServiceLog::create({.file = "/proc/no/such/file"});
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message().find("/proc/no/such/file"), std::string_view::npos);
}

// Goal: a file that takes no more does not end the program, and the line is not lost without a word.
TEST_F(ServiceLogTest, ComplainsWhenTheFileTakesNoMore) {
  auto log = ServiceLog::create({.file = "/dev/full"});
  ASSERT_TRUE(log) << log.error().to_string();
  testing::internal::CaptureStderr();
  (*log)->log(LogLevel::error, "nvmf", "the\nline");
  const std::string told = testing::internal::GetCapturedStderr();
  EXPECT_NE(told.find("/dev/full"), std::string::npos) << told;
  EXPECT_NE(told.find("nvmf: the\\x0aline\n"), std::string::npos) << told;
}

// Goal: a host whose name is made to break a line of JSON is one line, with that name.
TEST_F(ServiceLogTest, HostsNamesBreakNothing) {
  const auto log = open(LogFormat::json);
  auto daemon = Daemon::create({.cores = {}, .log = log.get()});
  ASSERT_TRUE(daemon);
  const std::string disk = "nqn.2014-08.org.example:disk";
  const auto call = [&](const char* method, const Json& params) {
    const auto result = (*daemon)->call(method, params);
    EXPECT_TRUE(result) << method;
    return result ? *result : Json();
  };
  call("nvmf_create_transport", {{"trtype", "TCP"}});
  call("nvmf_create_subsystem", {{"nqn", disk}});
  call("nvmf_subsystem_add_listener",
       {{"nqn", disk}, {"listen_address", {{"traddr", "127.0.0.1"}, {"trsvcid", "0"}}}});
  const std::string port =
      call("nvmf_subsystem_get_listeners", {{"nqn", disk}})[0]["address"]["trsvcid"];
  const std::string named = R"(nqn.2014-08.org.example:","level":"info\u000a\)";
  for (const std::string& name : {named, named + "\n{}"}) {  // the second with a line's end
    RawHost host({"127.0.0.1", port});
    host.open();
    const auto data = RawHost::connect_data(disk, nvme::kAnyController, name);
    EXPECT_FALSE(host.connect(data, 0).status().ok());
  }
  std::ifstream file(path_);
  std::vector<Json> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(Json::parse(line));
  ASSERT_EQ(lines.size(), 1u) << "a name with control characters is refused and not repeated";
  EXPECT_EQ(lines[0]["level"], "warning");
  EXPECT_NE(lines[0]["message"].get<std::string>().find("host " + named + " is not let in"),
            std::string::npos)
      << lines[0];
}

class DaemonLogTest : public DaemonFixture {};

// Goal: the level is that of the last call, and both of SPDK's pairs are one.
TEST_F(DaemonLogTest, LevelsAreSet) {
  EXPECT_EQ(call("log_get_level"), "INFO");
  call("nvmf_create_transport", {{"trtype", "TCP"}});
  call("nvmf_create_subsystem", {{"nqn", "nqn.2014-08.org.example:closed"}});
  call("nvmf_subsystem_add_listener",
       {{"nqn", "nqn.2014-08.org.example:closed"},
        {"listen_address", {{"traddr", "127.0.0.1"}, {"trsvcid", "0"}}}});
  const std::string port =
      call("nvmf_subsystem_get_listeners",
           {{"nqn", "nqn.2014-08.org.example:closed"}})[0]["address"]["trsvcid"];
  const auto knock = [&] {
    RawHost host({"127.0.0.1", port});
    host.open();
    EXPECT_FALSE(
        host.connect(host.connect_data("nqn.2014-08.org.example:closed", nvme::kAnyController), 0)
            .status()
            .ok());
  };
  knock();
  EXPECT_EQ(log_.count("is not let in"), 1u) << log_.text();
  for (const char* level : {"ERROR", "DISABLED"}) {
    EXPECT_EQ(call("log_set_level", {{"level", level}}), true);
    EXPECT_EQ(call("log_get_print_level"), level);
    knock();
    EXPECT_EQ(log_.count("is not let in"), 1u) << log_.text();
  }
  EXPECT_EQ(call("log_set_print_level", {{"level", "WARNING"}}), true);
  EXPECT_EQ(call("log_get_level"), "WARNING");
  knock();
  EXPECT_EQ(log_.count("is not let in"), 2u) << log_.text();
  EXPECT_EQ(refusal("log_set_level", {{"level", "NOTICE"}}),
            "level NOTICE: there are DISABLED, ERROR, WARNING, INFO and DEBUG");
  EXPECT_EQ(call("log_get_level"), "WARNING");
}

}  // namespace
}  // namespace basalt
