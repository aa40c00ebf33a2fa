// JSON-RPC: requests cut out of a stream, parameters, the protocol's errors, the socket.
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "base/try.h"
#include "targets/rpc/dispatcher.h"
#include "targets/rpc/json_stream.h"
#include "targets/rpc/server.h"
#include "test/nvme/kept_log.h"

namespace basalt::rpc {
namespace {

// ---- JsonStream

std::vector<std::string> cut(const std::string& text, size_t portion) {
  JsonStream stream;
  std::vector<std::string> values;
  for (size_t at = 0; at < text.size(); at += portion) {
    stream.add(std::string_view(text).substr(at, portion));
    while (auto value = stream.take()) values.push_back(*value);
  }
  return values;
}

TEST(JsonStream, FindsValuesWhereverTheyEnd) {
  const std::string text =
      "{\"a\": 1}{\"b\": {\"c\": []}}\n\n [1, {}] {\"text\": \"}\\\"}]\"} \r\n{\"last\": \"\\\\\"}";
  const std::vector<std::string> expected = {"{\"a\": 1}", "{\"b\": {\"c\": []}}", "[1, {}]",
                                             "{\"text\": \"}\\\"}]\"}", "{\"last\": \"\\\\\"}"};
  for (size_t portion = 1; portion <= text.size(); ++portion) {
    EXPECT_EQ(cut(text, portion), expected) << "in portions of " << portion;
  }
}

TEST(JsonStream, WhatIsNotAnObjectEndsWithItsLine) {
  EXPECT_EQ(cut("nonsense\n{}", 3), (std::vector<std::string>{"nonsense\n", "{}"}));
  EXPECT_EQ(cut("}{}", 3), (std::vector<std::string>{"}", "{}"}));
  EXPECT_TRUE(cut("{\"a\": \"", 2).empty());
}

TEST(JsonStream, SaysWhenAValueIsTooLong) {
  JsonStream stream;
  stream.add("[\"" + std::string(JsonStream::kMaxBytes, 'x'));
  EXPECT_FALSE(stream.take());
  EXPECT_TRUE(stream.is_too_long());
}

TEST(JsonStream, GivesNothingOutThatIsNestedTooDeep) {
  const auto nested = [](unsigned levels) {
    return std::string(levels, '[') + std::string(levels, ']');
  };
  JsonStream stream;
  stream.add(nested(JsonStream::kMaxDepth));
  EXPECT_TRUE(stream.take());
  EXPECT_FALSE(stream.is_too_deep());
  stream.add(nested(JsonStream::kMaxDepth + 1) + "{}");
  EXPECT_FALSE(stream.take());
  EXPECT_FALSE(stream.take());
  EXPECT_TRUE(stream.is_too_deep());
}

// ---- Params

Status take(const Json& values) {
  Params params(values);
  params.text("name");
  params.number("count", 1, 10);
  params.flag("fast", false);
  params.only("slow", false);
  Params inner = params.object("inner");
  inner.text("kind", "none");
  BASALT_TRY(params.done());
  return inner.done();
}

std::string complaint(const std::string& values) {
  const Status status = take(Json::parse(values));
  return status.ok() ? "" : std::string(status.message());
}

TEST(Params, AreTakenByName) {
  EXPECT_EQ(complaint(R"({"name": "a", "count": 1, "inner": {}})"), "");
  EXPECT_EQ(complaint(R"({"name": 4420, "count": 1, "inner": {}})"), "");
  EXPECT_EQ(
      complaint(
          R"({"name": "a", "count": 10, "fast": true, "slow": false, "inner": {"kind": null}})"),
      "");
}

TEST(Params, SayWhatIsWrong) {
  EXPECT_EQ(complaint(R"({"count": 1, "inner": {}})"), "parameter name: is missing");
  EXPECT_EQ(complaint(R"({"name": true, "count": 1, "inner": {}})"),
            "parameter name: must be a string");
  EXPECT_EQ(complaint(R"({"name": "a", "count": 11, "inner": {}})"),
            "parameter count: must be a whole number from 1 to 10");
  EXPECT_EQ(complaint(R"({"name": "a", "count": -1, "inner": {}})"),
            "parameter count: must be a whole number from 1 to 10");
  EXPECT_EQ(complaint(R"({"name": "a", "count": 1.5, "inner": {}})"),
            "parameter count: must be a whole number from 1 to 10");
  EXPECT_EQ(complaint(R"({"name": "a", "count": 1, "fast": 1, "inner": {}})"),
            "parameter fast: must be true or false");
  EXPECT_EQ(complaint(R"({"name": "a", "count": 1, "slow": true, "inner": {}})"),
            "parameter slow: true is not supported; leave it out");
  EXPECT_EQ(complaint(R"({"name": "a", "count": 1, "inner": {"kin": "x"}})"),
            "there is no parameter inner.kin; there are: kind");
  EXPECT_EQ(complaint(R"({"name": "a", "count": 1, "inner": 5})"), "inner must be an object");
  EXPECT_EQ(complaint(R"({"name": "a", "count": 1, "inner": {}, "color": 1})"),
            "there is no parameter color; there are: name, count, fast, slow, inner");
  EXPECT_EQ(complaint("[]"), "params must be an object, {\"name\": value, …}");
}

// ---- Dispatcher

class DispatcherTest : public testing::Test {
 protected:
  DispatcherTest() {
    dispatcher_.add("double", [this](Params& params) -> Result<Json> {
      const uint64_t number = params.number("number");
      BASALT_TRY(params.done());
      ++calls_;
      return Json(2 * number);
    });
    dispatcher_.add("fail", [](Params&) -> Result<Json> {
      return error(StatusCode::already_exists, "it is there");
    });
  }
  Json ask(const std::string& text) {
    const std::string answer = dispatcher_.handle(text);
    return answer.empty() ? Json() : Json::parse(answer);
  }
  int code(const std::string& text) { return ask(text)["error"]["code"].get<int>(); }

  Dispatcher dispatcher_;
  int calls_ = 0;
};

TEST_F(DispatcherTest, AnswersWithTheRequestsId) {
  EXPECT_EQ(
      ask(R"({"jsonrpc": "2.0", "method": "double", "params": {"number": 4}, "id": 7})").dump(),
      R"({"jsonrpc":"2.0","id":7,"result":8})");
  EXPECT_EQ(ask(R"({"method": "double", "params": {"number": 4}, "id": "a"})")["id"], "a");
}

TEST_F(DispatcherTest, HasTheProtocolsErrors) {
  EXPECT_EQ(code("{]"), -32700);
  EXPECT_EQ(code("5"), -32600);
  EXPECT_EQ(code("[]"), -32600);
  EXPECT_EQ(code(R"({"method": 5, "id": 1})"), -32600);
  EXPECT_EQ(code(R"({"method": "double", "id": {}})"), -32600);
  EXPECT_EQ(code(R"({"method": "triple", "id": 1})"), -32601);
  EXPECT_EQ(code(R"({"method": "double", "id": 1})"), -32602);
  EXPECT_EQ(code(R"({"method": "double", "params": [1], "id": 1})"), -32602);
  EXPECT_EQ(code(R"({"method": "fail", "id": 1})"), -EEXIST);
  EXPECT_EQ(ask(R"({"method": "fail", "id": 1})")["error"]["message"], "it is there");
}

TEST_F(DispatcherTest, TakesNotificationsAndBatches) {
  EXPECT_EQ(dispatcher_.handle(R"({"method": "double", "params": {"number": 1}})"), "");
  EXPECT_EQ(dispatcher_.handle(R"({"method": "triple"})"), "");
  EXPECT_EQ(calls_, 1);
  const Json answers = ask(
      R"([{"method": "double", "params": {"number": 1}, "id": 1}, {"method": "double", "params": {"number": 2}}, 3])");
  ASSERT_EQ(answers.size(), 2u);
  EXPECT_EQ(answers[0]["result"], 2);
  EXPECT_EQ(answers[1]["error"]["code"], -32600);
  EXPECT_EQ(calls_, 3);
  EXPECT_EQ(dispatcher_.handle(R"([{"method": "double", "params": {"number": 2}}])"), "");
  Json many = Json::array();
  for (size_t i = 0; i <= Dispatcher::kMaxBatch; ++i) many.push_back({{"method", "double"}});
  EXPECT_EQ(code(many.dump()), -32600);
  many.erase(0);
  EXPECT_EQ(dispatcher_.handle(many.dump()), "");
}

// ---- The socket

class RpcServerTest : public DispatcherTest {
 protected:
  RpcServerTest() {
    std::string pattern = (std::filesystem::temp_directory_path() / "basalt-XXXXXX").string();
    EXPECT_NE(::mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
    path_ = directory_ + "/rpc.sock";
  }
  ~RpcServerTest() override {
    server_.reset();
    std::filesystem::remove_all(directory_);
  }
  void serve() {
    auto made = RpcServer::create(path_, dispatcher_, log_);
    ASSERT_TRUE(made) << made.error().to_string();
    server_ = std::move(*made);
  }
  UniqueFd connect() {
    UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strcpy(address.sun_path, path_.c_str());
    EXPECT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    return fd;
  }
  static void say(const UniqueFd& fd, std::string_view text) {
    EXPECT_EQ(::send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(text.size()));
  }
  // One answer, up to its line's end; empty: the server has closed the connection.
  static std::string hear(const UniqueFd& fd) {
    std::string text;
    for (char c = 0; c != '\n' && ::recv(fd.get(), &c, 1, 0) == 1;) text += c;
    return text;
  }

  nvme::KeptLog log_;
  std::string directory_, path_;
  std::unique_ptr<RpcServer> server_;
};

TEST_F(RpcServerTest, AnswersOverItsSocketAlone) {
  serve();
  struct stat info {};
  ASSERT_EQ(::stat(path_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  const UniqueFd one = connect(), other = connect();
  say(one, R"({"method": "double", "params": {"nu)");
  say(other, R"({"method": "double", "params": {"number": 1}, "id": 1})");
  EXPECT_EQ(hear(other), "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":2}\n");
  say(one, R"(mber": 5}, "id": 2}{"method": "double", "params": {"number": 6}, "id": 3})");
  EXPECT_EQ(hear(one), "{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":10}\n");
  EXPECT_EQ(hear(one), "{\"jsonrpc\":\"2.0\",\"id\":3,\"result\":12}\n");
  server_.reset();
  EXPECT_FALSE(std::filesystem::exists(path_));
}

TEST_F(RpcServerTest, LetsGoOfWhoSendsTooMuch) {
  serve();
  const UniqueFd client = connect();
  const std::string endless = "[\"" + std::string(JsonStream::kMaxBytes + 100'000, 'x');
  ::send(client.get(), endless.data(), endless.size(), MSG_NOSIGNAL);
  EXPECT_EQ(hear(client), "");
  EXPECT_EQ(log_.count("connection ended"), 1u);
  const UniqueFd deep = connect();
  const std::string nested = R"({"method": "double", "params": {"number": )" +
                             std::string(100'000, '[') + std::string(100'000, ']') + "}}";
  ::send(deep.get(), nested.data(), nested.size(), MSG_NOSIGNAL);
  EXPECT_EQ(hear(deep), "");
  EXPECT_EQ(log_.count("nested in more than"), 1u);
  const UniqueFd next = connect();
  say(next, R"({"method": "fail", "id": 1})");
  EXPECT_NE(hear(next), "");
}

TEST_F(RpcServerTest, TakesADeadSocketOverAndNoLivingOne) {
  serve();
  const auto second = RpcServer::create(path_, dispatcher_, log_);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code(), StatusCode::busy);
  server_.reset();
  {  // What a killed process leaves.
    const UniqueFd dead(::socket(AF_UNIX, SOCK_STREAM, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strcpy(address.sun_path, path_.c_str());
    ASSERT_EQ(::bind(dead.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  }
  serve();
  server_.reset();
  std::ofstream(path_) << "a file";
  EXPECT_FALSE(RpcServer::create(path_, dispatcher_, log_));
  EXPECT_TRUE(std::filesystem::exists(path_)) << "somebody's file stays";
  EXPECT_EQ(RpcServer::create(std::string(200, 'x'), dispatcher_, log_).error().code(),
            StatusCode::invalid_argument);
}

}  // namespace
}  // namespace basalt::rpc
