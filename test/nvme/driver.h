// Driver: a Controller over a ControllerModel that runs in a thread of its own, in this process's memory or over a
// vfio-user socket; and buffers to read and write.
// Threads: one, the test's.
#pragma once

#include <basalt/context.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "mem/arena.h"
#include "nvme/commands.h"
#include "nvme/controller.h"
#include "nvme/kept_log.h"
#include "nvme/model/controller_model.h"
#include "nvme/model/model_function.h"
#include "nvme/served_model.h"
#include "nvme/vfio_user/vfio_user_function.h"
#include "nvme/waited.h"

namespace basalt::nvme {

class Driver {
 public:
  // Short enough for a test, long enough for a loaded machine.
  static ControllerOptions quick() {
    return {.queue_depth = 32,
            .queue_pairs = 4,
            .admin_timeout = std::chrono::seconds(2),
            .command_timeout = std::chrono::milliseconds(500),
            .abort_grace = std::chrono::milliseconds(500)};
  }

  enum class Way : uint8_t { in_process, vfio_user };

  explicit Driver(const model::ModelOptions& model_options = {},
                  const model::ModelFunctionOptions& function_options = {},
                  Way way = Way::in_process)
      : model(model_options), function_options_(function_options), way_(way) {
    ContextOptions options;
    options.log = &log;
    auto made = Context::create(options);
    EXPECT_TRUE(made);
    context = std::move(*made);
    auto arena_made = Arena::create({.name = "test",
                                     .bytes = size_t{4} << 20,
                                     .hugepages = Hugepages::no,
                                     .map = &context->memory()});
    EXPECT_TRUE(arena_made);
    arena = std::move(*arena_made);
    thread = std::make_unique<model::ModelThread>(model, std::chrono::microseconds(20));
  }

  ~Driver() {
    queue.reset();
    controller.reset();
    server_.reset();
    if (way_ == Way::vfio_user) std::filesystem::remove_all(directory_);
  }

  // What open() says.
  Status start(const ControllerOptions& options = quick()) {
    auto function = connect();
    if (!function) return function.error();
    auto opened = Controller::open(host(*context), std::move(*function), options);
    if (!opened) return opened.error();
    controller = std::move(*opened);
    auto made = controller->open_queue_pair();
    if (!made) return made.error();
    queue = std::move(*made);
    return {};
  }
  std::span<std::byte> buffer(size_t bytes) {
    auto made = arena->allocate(bytes);
    EXPECT_TRUE(made);
    buffers_.push_back(std::move(*made));
    return buffers_.back().span();
  }
  // Sends one command and waits, for at most `limit`.
  StatusCode run(const Command& command, std::span<std::byte> data = {},
                 Duration limit = std::chrono::seconds(20)) {
    Waited waited(command, data);
    queue->submit(waited.request);
    if (!wait(waited, limit)) ADD_FAILURE() << "a command did not come back";
    return waited.request.status;
  }
  bool wait(const Waited& waited, Duration limit = std::chrono::seconds(20)) {
    const auto end = std::chrono::steady_clock::now() + limit;
    while (!waited.done && std::chrono::steady_clock::now() < end) {
      queue->wait(std::chrono::milliseconds(20));
    }
    return waited.done;
  }

  KeptLog log;
  model::ControllerModel model;
  std::unique_ptr<Context> context;
  std::unique_ptr<Arena> arena;
  std::unique_ptr<model::ModelThread> thread;
  std::unique_ptr<Controller> controller;

 private:
  Result<std::unique_ptr<PciFunction>> connect() {
    if (way_ == Way::in_process) {
      return std::make_unique<model::ModelFunction>(model, function_options_);
    }
    std::string path = testing::TempDir() + "basalt-nvme-XXXXXX";
    EXPECT_NE(mkdtemp(path.data()), nullptr);
    directory_ = path;
    served_ = std::make_unique<ServedModel>(model);
    auto server = VfioUserServer::create(directory_ + "/socket", *served_);
    if (!server) return error(server.error());
    server_ = std::move(*server);
    return VfioUserFunction::open(directory_ + "/socket");
  }

  const model::ModelFunctionOptions function_options_;
  const Way way_;
  std::string directory_;
  std::unique_ptr<ServedModel> served_;
  std::unique_ptr<VfioUserServer> server_;
  std::vector<Buffer> buffers_;

 public:
  std::unique_ptr<QueuePair> queue;
};

}  // namespace basalt::nvme
