// See admin_queue.h.
#include "nvme/admin_queue.h"

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "base/check.h"
#include "nvme/commands.h"

namespace basalt::nvme {

namespace {

const char* opcode_name(AdminOpcode opcode) {
  switch (opcode) {
    case AdminOpcode::delete_submission_queue: return "delete submission queue";
    case AdminOpcode::create_submission_queue: return "create submission queue";
    case AdminOpcode::get_log_page: return "get log page";
    case AdminOpcode::delete_completion_queue: return "delete completion queue";
    case AdminOpcode::create_completion_queue: return "create completion queue";
    case AdminOpcode::identify: return "identify";
    case AdminOpcode::abort: return "abort";
    case AdminOpcode::set_features: return "set features";
    case AdminOpcode::get_features: return "get features";
    case AdminOpcode::async_event_request: return "asynchronous event request";
    case AdminOpcode::namespace_management: return "namespace management";
    case AdminOpcode::firmware_commit: return "firmware commit";
    case AdminOpcode::firmware_download: return "firmware download";
    case AdminOpcode::namespace_attachment: return "namespace attachment";
    case AdminOpcode::keep_alive: return "keep alive";
    case AdminOpcode::doorbell_buffer_config: return "doorbell buffer config";
    case AdminOpcode::fabrics: return "fabrics";
    case AdminOpcode::format_nvm: return "format NVM";
    case AdminOpcode::sanitize: return "sanitize";
  }
  return "admin command";
}

}  // namespace

std::string describe_admin(uint8_t opcode) {
  char code[8];
  std::snprintf(code, sizeof code, "0x%02x", opcode);
  return std::string(opcode_name(static_cast<AdminOpcode>(opcode))) + " (" + code + ")";
}

AdminQueue::AdminQueue(std::unique_ptr<CommandQueue> queue, std::span<std::byte> data,
                       MemoryMap& memory, Clock& clock, LogSink& log)
    : clock_(clock),
      data_(data),
      pair_({.id = 0, .timeout = std::chrono::hours(24)}, *this, std::move(queue), memory, clock,
            log) {
  request_.user = this;
  request_.done = [](Request& request) {
    static_cast<AdminQueue*>(request.user)->answered_ = true;
  };
  const auto prepare = [](Event& event) {
    event.request.user = &event;
    event.request.done = [](Request& request) {
      static_cast<Event*>(request.user)->answered = true;
    };
  };
  for (Event& event : events_) prepare(event);
  prepare(keep_alive_);
}

AdminQueue::~AdminQueue() { end(); }

void AdminQueue::end() {
  stuck_.store(true, std::memory_order_relaxed);
  epoch.store(kGone, std::memory_order_release);
  const MutexLock lock(mutex_);  // once run() has left
  pair_.poll();                  // gives everything back
}

Result<std::unique_ptr<CommandQueue>> AdminQueue::renew(uint16_t, uint32_t&) {
  return error(StatusCode::internal, "an admin queue is not made anew");
}

Status AdminQueue::run(const Command& command, std::span<const std::byte> sent,
                       std::span<std::byte> received, Duration timeout, uint64_t* result) {
  BASALT_CHECK(sent.size() <= kDataBytes && received.size() <= kDataBytes,
               "an admin command's data fits its buffer");
  const MutexLock lock(mutex_);
  const std::string what = describe_admin(command.opcode) + ": ";
  if (stuck())
    return {StatusCode::io_error, what + "the admin queue waits for a reset of the controller"};
  const size_t bytes = sent.empty() ? received.size() : sent.size();
  if (!sent.empty()) std::memcpy(data_.data(), sent.data(), sent.size());
  if (!received.empty()) std::memset(data_.data(), 0, received.size());
  piece_ = {data_.data(), bytes};
  request_.command = command;
  request_.data = {&piece_, bytes > 0 ? size_t{1} : size_t{0}};
  answered_ = false;
  pair_.submit(request_);
  for (const Duration end = clock_.now() + timeout; !answered_;) {
    const Duration now = clock_.now();
    if (now >= end) {
      stuck_.store(true, std::memory_order_relaxed);
      return {StatusCode::timed_out,
              what + "not answered within " +
                  std::to_string(
                      std::chrono::duration_cast<std::chrono::milliseconds>(timeout).count()) +
                  " ms"};
    }
    if (keep_alive_interval_ == Duration::zero()) {
      pair_.wait(end - now);
      continue;
    }
    if (!keep_alive(now)) {
      stuck_.store(true, std::memory_order_relaxed);
      return {StatusCode::timed_out, what + "not answered, nor a keep alive sent meanwhile"};
    }
    pair_.wait(std::min(end - now, keep_alive_interval_));
  }
  if (result != nullptr) {
    *result = request_.completion.result | uint64_t{request_.completion.result_high} << 32;
  }
  if (request_.status == StatusCode::ok) {
    if (!received.empty()) std::memcpy(received.data(), data_.data(), received.size());
    return {};
  }
  const CompletionStatus status = request_.completion.status();
  return {request_.status, what + (status.ok() ? std::string("the controller was reset or is gone")
                                               : describe(status))};
}

void AdminQueue::keep_alive_every(Duration interval) {
  const MutexLock lock(mutex_);
  keep_alive_interval_ = interval;
  keep_alive_sent_ = clock_.now();
}

bool AdminQueue::keep_alive(Duration now) {
  if (keep_alive_.answered) keep_alive_.answered = keep_alive_.outstanding = false;
  if (keep_alive_.outstanding) return now - keep_alive_sent_ < 3 * keep_alive_interval_;
  if (now - keep_alive_sent_ < keep_alive_interval_) return true;
  keep_alive_sent_ = now;
  keep_alive_.outstanding = true;
  keep_alive_.request.command = admin_command(AdminOpcode::keep_alive);
  pair_.submit(keep_alive_.request);
  return true;
}

void AdminQueue::request_events(unsigned count) {
  const MutexLock lock(mutex_);
  for (unsigned i = 0; i < count && i < kEventRequests; ++i) {
    Event& event = events_[i];
    if (event.outstanding) continue;
    event.request.command = admin_command(AdminOpcode::async_event_request);
    event.outstanding = true;
    pair_.submit(event.request);
  }
  pair_.poll();
}

std::vector<uint32_t> AdminQueue::poll_events() {
  std::vector<uint32_t> found;
  const MutexLock lock(mutex_, std::try_to_lock);
  if (!lock || stuck()) return found;
  pair_.poll();
  for (Event& event : events_) {
    if (!event.answered) continue;
    event.answered = event.outstanding = false;
    if (event.request.status != StatusCode::ok) continue;  // more than the controller takes
    found.push_back(event.request.completion.result);
    event.outstanding = true;
    pair_.submit(event.request);
  }
  if (!found.empty()) pair_.poll();
  return found;
}

}  // namespace basalt::nvme
