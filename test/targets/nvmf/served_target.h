// ServedTarget: a target with one subsystem and the devices asked for, on a loopback port of its own.
#pragma once

#include <basalt/devices.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "reactor/reactor.h"
#include "targets/nvmf/target.h"

namespace basalt {

class ServedTarget {
 public:
  static constexpr const char* kNqn = "nqn.2014-08.org.example:disk";

  explicit ServedTarget(const std::vector<std::string>& uris, unsigned reactors = 1,
                        const nvmf::TargetOptions& options = {}, LogSink* log = nullptr) {
    ContextOptions context_options;
    context_options.log = log;
    context = std::move(*Context::create(context_options));
    register_standard_schemes(*context);
    std::vector<Reactor*> all;
    for (unsigned i = 0; i < reactors; ++i) {
      loops.push_back(
          std::move(*Reactor::create(context->clock(), {.name = "reactor-" + std::to_string(i)})));
      all.push_back(loops.back().get());
    }
    target = std::make_unique<nvmf::Target>(*context, all, options);
    expect_ok(target->create_subsystem({.nqn = kNqn, .serial = "S1", .allow_any_host = true}));
    for (const std::string& uri : uris) add(uri);
    const auto listener = target->add_listener(kNqn, {"127.0.0.1", "0"});
    EXPECT_TRUE(listener) << listener.error().to_string();
    if (listener) address = *listener;
  }

  uint32_t add(const std::string& uri) {
    auto device = open_device(*context, uri);
    EXPECT_TRUE(device) << device.error().to_string();
    devices.push_back(std::move(*device));
    const auto nsid = target->add_namespace(kNqn, devices.back());
    EXPECT_TRUE(nsid) << nsid.error().to_string();
    return nsid ? *nsid : 0;
  }
  std::string uri(uint32_t nsid = 1, const std::string& keys = "") const {
    return "nvme:tcp:" + address.to_string() + "/" + kNqn + "/" + std::to_string(nsid) + keys;
  }
  static void expect_ok(const Status& status) { EXPECT_TRUE(status.ok()) << status.to_string(); }

  std::unique_ptr<Context> context;
  std::vector<std::unique_ptr<Reactor>> loops;
  std::vector<std::shared_ptr<Device>> devices;
  std::unique_ptr<nvmf::Target> target;  // before what it lives on
  nvmf::ListenAddress address;
};

}  // namespace basalt
