// What tests of the driver share: Waited, a Request that knows whether it is done, with its one piece of data;
// host(), a Context as the driver wants it.
#pragma once

#include <basalt/context.h>

#include <span>

#include "nvme/controller.h"

namespace basalt::nvme {

inline HostServices host(Context& context) {
  return {context.memory(), context.clock(), context.log()};
}

struct Waited {
  Request request;
  iovec piece{};
  bool done = false;

  Waited(const Command& command, std::span<std::byte> data = {}) {
    request.command = command;
    piece = {data.data(), data.size()};
    if (!data.empty()) request.data = {&piece, 1};
    request.user = this;
    request.done = [](Request& finished) { static_cast<Waited*>(finished.user)->done = true; };
  }
  Waited(const Waited&) = delete;
};

}  // namespace basalt::nvme
