// ServedController: a controller model behind a vfio-user socket, running on threads of its own while this lives.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "nvme/model/controller_model.h"
#include "nvme/model/model_function.h"
#include "nvme/served_model.h"

namespace basalt::nvme {

struct ServedController {
  ServedController(const std::string& directory, const model::ModelOptions& options)
      : model(options), device(model), path(directory + "/nvme.sock") {
    auto made = VfioUserServer::create(path, device);
    EXPECT_TRUE(made) << made.error().to_string();
    server = std::move(*made);
  }
  model::ControllerModel model;
  ServedModel device;
  const std::string path;
  std::unique_ptr<VfioUserServer> server;
  model::ModelThread thread{model, std::chrono::microseconds(20)};
};

}  // namespace basalt::nvme
