// Controller::bring_up(): from a function nobody knows anything of to a controller with queues.
//
// NVM Express base specification 2.0, §3.5.1 (memory-based initialisation), §3.6 (shutdown), §3.7.2 (reset);
// the same steps serve the first time and after a reset. Every wait has a deadline, and an error names the
// step, what was waited for and what the controller showed.
#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "base/try.h"
#include "nvme/commands.h"
#include "nvme/controller.h"
#include "nvme/hex.h"

namespace basalt::nvme {

namespace {

constexpr uint32_t kPageBytes = 4096;
constexpr uint32_t kAdminEntries = 32;
// Longer commands would need longer PRP lists for every place in every queue.
constexpr uint64_t kMaxTransferBytes = uint64_t{1} << 20;

std::string milliseconds(Duration duration) {
  return std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(duration).count()) +
         " ms";
}

uint32_t offset_of(Register which) { return static_cast<uint32_t>(which); }

Duration ready_timeout(Capabilities capabilities) {
  return std::chrono::milliseconds(500) * std::max(capabilities.ready_timeout_halves(), 2u);
}

Status check_capabilities(Capabilities capabilities) {
  if (capabilities.value == ~uint64_t{0}) {
    return {StatusCode::device_removed, "its registers read as all ones: the function is gone"};
  }
  if (!capabilities.nvm_command_set() && !capabilities.more_command_sets()) {
    return {StatusCode::unsupported,
            "the controller has no I/O command set (CAP " + hex(capabilities.value) + ")"};
  }
  if (capabilities.min_page_bytes() > kPageBytes) {
    return {StatusCode::unsupported, "the controller's smallest page is " +
                                         std::to_string(capabilities.min_page_bytes()) +
                                         " B; this driver uses pages of 4096 B"};
  }
  if (capabilities.max_queue_entries() < 2) {
    return {StatusCode::corruption, "the controller's queues have " +
                                        std::to_string(capabilities.max_queue_entries()) +
                                        " entry; two are the least (CAP.MQES)"};
  }
  return {};
}

}  // namespace

Status Controller::bring_up() {
  BASALT_TRY_ASSIGN(const uint64_t cap, function_->read64(offset_of(Register::capabilities)));
  Identity identity{.capabilities = Capabilities{cap}};
  BASALT_TRY(check_capabilities(identity.capabilities));
  BASALT_TRY(disable(identity.capabilities));
  if (admin_ != nullptr) admin_->end();  // it reaches no memory of ours any more
  BASALT_TRY(start_interrupts());
  BASALT_TRY(function_->set_bus_master(true));
  BASALT_TRY(start_admin(identity.capabilities));
  BASALT_TRY(identify(identity));
  BASALT_TRY(grant_queues(identity));
  BASALT_TRY(start_shadow_doorbells(identity));
  BASALT_TRY(read_namespaces(identity));
  admin_->request_events(
      std::min<unsigned>(AdminQueue::kEventRequests, identity.data.async_event_limit + 1u));
  const MutexLock lock(mutex_);
  identity_ = std::move(identity);
  return {};
}

// CC.EN to 0, and CSTS.RDY after it; with a function level reset if that is what it takes.
Status Controller::disable(Capabilities capabilities) {
  BASALT_TRY_ASSIGN(const uint32_t configuration,
                    function_->read32(offset_of(Register::configuration)));
  BASALT_TRY_ASSIGN(const uint32_t raw, function_->read32(offset_of(Register::status)));
  const ControllerStatus status{raw};
  if (status.gone()) return {StatusCode::device_removed, "disable: the function is gone"};
  if ((configuration & kEnable) == 0 && !status.ready()) return {};
  if ((configuration & kEnable) != 0 && !status.ready() && !status.fatal()) {
    // Whoever enabled it has to have seen it ready; a controller stuck on the way up is tried all the same.
    [[maybe_unused]] const Status either_way = wait_ready(true, ready_timeout(capabilities));
  }
  BASALT_TRY(function_->write32(offset_of(Register::configuration), configuration & ~kEnable));
  const Status stopped = wait_ready(false, ready_timeout(capabilities));
  if (stopped.ok() || stopped.code() == StatusCode::device_removed) return stopped;
  if (!function_->reset().ok()) return stopped;
  return wait_ready(false, ready_timeout(capabilities));
}

Status Controller::wait_ready(bool ready, Duration timeout) {
  const Duration end = host_.clock.now() + timeout;
  for (Duration pause = std::chrono::microseconds(50);;
       pause = std::min<Duration>(2 * pause, std::chrono::milliseconds(10))) {
    BASALT_TRY_ASSIGN(const uint32_t raw, function_->read32(offset_of(Register::status)));
    const ControllerStatus status{raw};
    if (status.gone()) return {StatusCode::device_removed, "its registers read as all ones"};
    if (status.ready() == ready) return {};
    if (ready && status.fatal()) {
      return {StatusCode::io_error, "enable: fatal error (CSTS " + hex(raw) + ")"};
    }
    if (host_.clock.now() >= end) {
      return {StatusCode::timed_out,
              std::string(ready ? "enable: not ready" : "disable: still ready") + " after " +
                  milliseconds(timeout) + " (CSTS " + hex(raw) + ")"};
    }
    sleep_for(pause);
  }
}

// One event per queue there may be, from the first on. They stay for as long as the controller does.
Status Controller::start_interrupts() {
  const uint32_t vectors = options_.interrupts ? std::min<uint32_t>(function_->interrupt_count(),
                                                                    options_.queue_pairs + 1u)
                                               : 0;
  const MutexLock lock(mutex_);
  if (queues_.empty()) {
    queues_.resize(options_.queue_pairs + 1u);
    for (uint32_t i = 0; i < vectors; ++i) {
      queues_[i].event_fd = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
      if (queues_[i].event_fd < 0) {
        return {StatusCode::no_space, "interrupts: no descriptor for event " + std::to_string(i) +
                                          ": " + std::strerror(errno) +
                                          "; raise the limit of open files or open fewer queues"};
      }
    }
  }
  if (vectors == 0) return {};
  std::vector<int> events;
  for (uint32_t i = 0; i < vectors; ++i) events.push_back(queues_[i].event_fd);
  return function_->set_interrupts(events);
}

// The admin queue, then CC.EN to 1, and CSTS.RDY after it.
Status Controller::start_admin(Capabilities capabilities) {
  if (admin_data_.bytes().empty()) {
    BASALT_TRY_ASSIGN(admin_data_, DmaBuffer::create(*function_, AdminQueue::kDataBytes));
    dma_.know(admin_data_);
  }
  const PcieQueueShape shape{
      .entries = kAdminEntries,  // CAP.MQES is about I/O queues
      .page_bytes = kPageBytes,
      .list_bytes = PcieQueue::list_bytes(AdminQueue::kDataBytes, kPageBytes)};
  BASALT_TRY_ASSIGN(DmaBuffer memory,
                    DmaBuffer::create(*function_, PcieQueue::memory_bytes(shape)));
  Identity plain{.capabilities = capabilities};
  auto queue = std::make_unique<PcieQueue>(
      shape, std::move(memory), dma_, doorbell(plain, 0, Ring::submission),
      doorbell(plain, 0, Ring::completion), queues_[0].event_fd);
  BASALT_TRY(function_->write32(offset_of(Register::admin_queue_attributes),
                                (shape.entries - 1) << 16 | (shape.entries - 1)));
  BASALT_TRY(
      function_->write64(offset_of(Register::admin_submission_queue), queue->submission_iova()));
  BASALT_TRY(
      function_->write64(offset_of(Register::admin_completion_queue), queue->completion_iova()));
  const uint32_t command_sets = capabilities.more_command_sets() ? kCommandSetAll : kCommandSetNvm;
  BASALT_TRY(function_->write32(offset_of(Register::configuration),
                                kEntrySizes | command_sets | page_size_field(0) | kEnable));
  BASALT_TRY(wait_ready(true, ready_timeout(capabilities)));
  auto admin = std::make_shared<AdminQueue>(std::move(queue), admin_data_, host_.memory,
                                            host_.clock, host_.log);
  const MutexLock lock(mutex_);
  admin_ = std::move(admin);
  return {};
}

Status Controller::identify(Identity& identity) {
  IdentifyController& data = identity.data;
  BASALT_TRY(admin_->run(identify_command(IdentifyKind::controller), {},
                         std::as_writable_bytes(std::span(&data, 1)), options_.admin_timeout));
  if ((data.submission_entry_size & 0xf) > 6 || (data.completion_entry_size & 0xf) > 4) {
    return {StatusCode::unsupported,
            "the controller wants queue entries larger than 64 and 16 B (SQES " +
                hex(data.submission_entry_size) + ", CQES " + hex(data.completion_entry_size) +
                ")"};
  }
  const uint64_t page = identity.capabilities.min_page_bytes();
  identity.max_transfer_bytes = kMaxTransferBytes;
  if (data.max_transfer_shift != 0 && data.max_transfer_shift < 32) {
    identity.max_transfer_bytes = std::min(kMaxTransferBytes, page << data.max_transfer_shift);
  }
  for (unsigned i = 0; i < 3; ++i) retry_delays_[i + 1].store(data.retry_delay[i]);
  if (data.retry_delay[0] != 0) {
    // Host behaviour support, byte 0: the controller may say how long to wait before a retry.
    std::array<std::byte, 512> behavior{};
    behavior[0] = std::byte{1};
    BASALT_TRY(admin_->run(set_feature_command(Feature::host_behavior, 0), behavior, {},
                           options_.admin_timeout));
  }
  return {};
}

Status Controller::grant_queues(Identity& identity) {
  uint32_t wanted = options_.queue_pairs;
  if (options_.interrupts && function_->interrupt_count() > 0) {
    wanted = std::min(wanted, std::max(function_->interrupt_count(), 2u) - 1);
  }
  uint32_t granted = 0;
  BASALT_TRY(
      admin_->run(set_feature_command(Feature::queue_count, (wanted - 1) << 16 | (wanted - 1)), {},
                  {}, options_.admin_timeout, &granted));
  identity.queue_pairs =
      static_cast<uint16_t>(std::min({wanted, (granted & 0xffff) + 1, (granted >> 16) + 1}));
  return {};
}

// Two pages: the doorbells' values, and when the controller wants to be told of them (§5.8).
Status Controller::start_shadow_doorbells(Identity& identity) {
  if (!options_.shadow_doorbells ||
      (identity.data.optional_admin_commands & kSupportsDoorbellBuffer) == 0) {
    return {};
  }
  const uint32_t last =
      completion_doorbell(identity.queue_pairs, identity.capabilities.doorbell_stride());
  if (last - kFirstDoorbell >= kPageBytes) return {};  // more doorbells than the page holds
  if (shadow_.bytes().empty()) {
    BASALT_TRY_ASSIGN(shadow_, DmaBuffer::create(*function_, 2 * kPageBytes));
  }
  std::memset(shadow_.bytes().data(), 0, shadow_.bytes().size());
  Command command = admin_command(AdminOpcode::doorbell_buffer_config);
  command.data = {shadow_.iova(), shadow_.iova() + kPageBytes};
  BASALT_TRY(admin_->run(command, {}, {}, options_.admin_timeout));
  identity.shadow_doorbells = true;
  return {};
}

Status Controller::read_namespaces(Identity& identity) {
  std::array<le32, kIdentifyBytes / 4> ids;
  for (uint32_t after = 0;;) {
    BASALT_TRY(admin_->run(identify_command(IdentifyKind::active_namespaces, after), {},
                           std::as_writable_bytes(std::span(ids)), options_.admin_timeout));
    for (const uint32_t nsid : ids) {
      if (nsid == 0) return {};
      if (nsid <= after) {
        return {StatusCode::corruption, "the list of namespaces goes from " +
                                            std::to_string(after) + " to " + std::to_string(nsid)};
      }
      after = nsid;
      IdentifyNamespace data;
      const Status status =
          admin_->run(identify_command(IdentifyKind::name_space, nsid), {},
                      std::as_writable_bytes(std::span(&data, 1)), options_.admin_timeout);
      if (!status.ok() && status.code() != StatusCode::not_found)
        return status;  // not_found: just deleted
      const Result<NamespaceInfo> info =
          status.ok() ? namespace_info(nsid, identity.data, data) : error(status);
      if (info) {
        identity.namespaces.push_back(*info);
      } else {
        host_.log.log(LogLevel::warning, "nvme", info.error().with_context(name()).to_string());
      }
    }
  }
}

// ---- Queues

Doorbell Controller::doorbell(const Identity& identity, uint16_t queue_id, Ring ring) const {
  const uint32_t stride = identity.capabilities.doorbell_stride();
  const uint32_t offset = ring == Ring::submission ? submission_doorbell(queue_id, stride)
                                                   : completion_doorbell(queue_id, stride);
  const uint32_t index = offset - kFirstDoorbell;
  Doorbell doorbell{.function = function_.get(), .offset = offset};
  const std::span<volatile std::byte> mapped = function_->doorbells();
  if (index + 4 <= mapped.size()) doorbell.mapped = mapped.data() + index;
  if (identity.shadow_doorbells && queue_id != 0) {
    doorbell.shadow = shadow_.bytes().data() + index;
    doorbell.event_index = doorbell.shadow + kPageBytes;
  }
  return doorbell;
}

Result<std::unique_ptr<CommandQueue>> Controller::create_queue(uint16_t queue_id) {
  MutexLock lock(mutex_);
  const int event_fd = queues_[queue_id].event_fd;
  const PcieQueueShape shape{
      .id = queue_id,
      .entries =
          std::min<uint32_t>(options_.queue_depth + 1u, identity_.capabilities.max_queue_entries()),
      .page_bytes = kPageBytes,
      .list_bytes = PcieQueue::list_bytes(identity_.max_transfer_bytes, kPageBytes),
      .sgl = (identity_.data.sgl_support & 3) != 0};
  const Doorbell submission = doorbell(identity_, queue_id, Ring::submission);
  const Doorbell completion = doorbell(identity_, queue_id, Ring::completion);
  lock.unlock();
  submission.clear();
  completion.clear();
  BASALT_TRY_ASSIGN(DmaBuffer memory,
                    DmaBuffer::create(*function_, PcieQueue::memory_bytes(shape)));
  auto queue =
      std::make_unique<PcieQueue>(shape, std::move(memory), dma_, submission, completion, event_fd);
  Command command =
      create_completion_queue_command(queue_id, shape.entries, event_fd < 0 ? -1 : queue_id);
  command.data.prp1 = queue->completion_iova();
  BASALT_TRY(admin_->run(command, {}, {}, options_.admin_timeout));
  command = create_submission_queue_command(queue_id, shape.entries, queue_id);
  command.data.prp1 = queue->submission_iova();
  if (Status status = admin_->run(command, {}, {}, options_.admin_timeout); !status.ok()) {
    [[maybe_unused]] const Status first_error_counts =
        admin_->run(delete_queue_command(AdminOpcode::delete_completion_queue, queue_id), {}, {},
                    options_.admin_timeout);
    return error(std::move(status));
  }
  return queue;
}

// CC.SHN, so that what the controller holds in memory is on its media when the power goes.
Status Controller::shut_down() {
  BASALT_TRY_ASSIGN(const uint32_t configuration,
                    function_->read32(offset_of(Register::configuration)));
  if ((configuration & kEnable) == 0) return {};  // it has lost its power, or was reset by others
  BASALT_TRY(function_->write32(offset_of(Register::configuration),
                                (configuration & ~kShutdownMask) | kShutdownNormal));
  for (const Duration end = host_.clock.now() + options_.shutdown_timeout;;
       sleep_for(std::chrono::milliseconds(1))) {
    BASALT_TRY_ASSIGN(const uint32_t raw, function_->read32(offset_of(Register::status)));
    if (ControllerStatus{raw}.gone()) return {StatusCode::device_removed, "shutdown: it is gone"};
    if (ControllerStatus{raw}.shutdown_complete()) return {};
    if (host_.clock.now() >= end) {
      return {StatusCode::timed_out, "shutdown: not complete after " +
                                         milliseconds(options_.shutdown_timeout) + " (CSTS " +
                                         hex(raw) + ")"};
    }
  }
}

}  // namespace basalt::nvme
