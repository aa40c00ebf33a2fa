// DaemonFixture: a daemon in this process, and calls to it.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "targets/daemon/daemon.h"
#include "test/nvme/kept_log.h"

namespace basalt {

class DaemonFixture : public testing::Test {
 protected:
  DaemonFixture() { start(); }
  void start() {
    daemon_.reset();
    auto made = Daemon::create({.cores = {}, .log = &log_});
    ASSERT_TRUE(made) << made.error().to_string();
    daemon_ = std::move(*made);
  }
  rpc::Json call(const std::string& method, const rpc::Json& params = {}) {
    auto result = daemon_->call(method, as_sent(params));
    EXPECT_TRUE(result) << method << ": " << (result ? "" : result.error().to_string());
    return result ? *result : rpc::Json();
  }
  // As it comes over the socket: a C++ int is signed, a number there is not.
  static rpc::Json as_sent(const rpc::Json& params) { return rpc::Json::parse(params.dump()); }
  // Why the call is refused.
  std::string refusal(const std::string& method, const rpc::Json& params = {}) {
    const auto result = daemon_->call(method, as_sent(params));
    EXPECT_FALSE(result) << method;
    return result ? "" : std::string(result.error().message());
  }
  // The names of all bdevs.
  std::string bdevs() {
    std::string names;
    for (const rpc::Json& bdev : call("bdev_get_bdevs")) {
      names += (names.empty() ? "" : " ") + bdev["name"].get<std::string>();
    }
    return names;
  }

  nvme::KeptLog log_;
  std::unique_ptr<Daemon> daemon_;
};

}  // namespace basalt
