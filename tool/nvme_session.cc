// See nvme_session.h.
#include "tool/nvme_session.h"

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "base/try.h"
#include "mem/arena.h"
#include "nvme/commands.h"
#include "nvme/describe_io.h"

namespace basalt::tool {

using Json = nlohmann::ordered_json;

Result<NvmeSession> NvmeSession::open(const std::string& place) {
  NvmeSession session;
  BASALT_TRY_ASSIGN(session.context, Context::create());
  BASALT_TRY_ASSIGN(session.opened, open_nvme_controller(*session.context, place));
  return session;
}

Result<NvmeSession> NvmeSession::open_namespace(const std::string& place) {
  BASALT_TRY_ASSIGN(NvmeSession session, open(place));
  if (session.nsid() != 0) return session;
  return error(StatusCode::invalid_argument, place + ": say which namespace, as " + place + "/1");
}

Result<nvme::IdentifyNamespace> NvmeSession::identify_namespace(uint32_t nsid) const {
  nvme::IdentifyNamespace data{};
  BASALT_TRY(receive(nvme::identify_command(nvme::IdentifyKind::name_space, nsid), data));
  return data;
}

Status NvmeSession::run_io(const nvme::Command& command, std::span<const std::byte> sent,
                           std::span<std::byte> received, Duration timeout,
                           uint64_t* result) const {
  BASALT_TRY_ASSIGN(const auto queue, controller().open_queue_pair());
  const size_t bytes = std::max(sent.size(), received.size());
  // Memory that the controller reaches.
  const bool needs_hugepages = controller().traits().needs_hugepages;
  BASALT_TRY_ASSIGN(
      const auto arena,
      Arena::create({.bytes = std::max<size_t>(bytes, 4096),
                     .hugepages = needs_hugepages ? Hugepages::required : Hugepages::no,
                     .map = &context->memory()}));
  const std::span<std::byte> memory = arena->memory().first(bytes);
  if (!sent.empty()) std::memcpy(memory.data(), sent.data(), sent.size());
  iovec piece{memory.data(), bytes};
  bool done = false;
  nvme::Request request;
  request.command = command;
  if (bytes > 0) request.data = {&piece, 1};
  request.timeout = timeout;
  request.user = &done;
  request.done = [](nvme::Request& finished) { *static_cast<bool*>(finished.user) = true; };
  queue->submit(request);
  while (!done) queue->wait(std::chrono::seconds(1));
  if (request.status != StatusCode::ok) return {request.status, nvme::describe_io(request)};
  if (!received.empty()) std::memcpy(received.data(), memory.data(), received.size());
  if (result != nullptr) {
    *result = request.completion.result | uint64_t{request.completion.result_high} << 32;
  }
  return {};
}

void print(const Json& json) {
  std::printf("%s\n", json.dump(2, ' ', false, Json::error_handler_t::replace).c_str());
}

void print(const NvmeFields& fields, bool json) {
  json ? print(as_json(fields)) : static_cast<void>(std::fputs(as_text(fields).c_str(), stdout));
}

}  // namespace basalt::tool
