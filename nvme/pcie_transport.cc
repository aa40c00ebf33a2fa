// See pcie_transport.h.
#include "nvme/pcie_transport.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "base/try.h"
#include "nvme/commands.h"
#include "nvme/hex.h"
#include "nvme/page.h"

namespace basalt::nvme {

namespace {

constexpr uint32_t kAdminEntries = 32;

uint32_t offset_of(Register which) { return static_cast<uint32_t>(which); }

}  // namespace

PcieTransport::~PcieTransport() {
  [[maybe_unused]] const Status no_more_interrupts = function_->set_interrupts({});
}

// ---- Bring-up

Result<StartedController> PcieTransport::start(AdminQueue* previous) {
  BASALT_TRY_ASSIGN(const uint64_t cap, function_->read64(offset_of(Register::capabilities)));
  capabilities_ = Capabilities{cap};
  shadow_doorbells_ = false;
  BASALT_TRY(check_capabilities(capabilities_));
  BASALT_TRY(disable());
  if (previous != nullptr) previous->end();  // it reaches no memory of ours any more
  BASALT_TRY(start_interrupts());
  BASALT_TRY(function_->set_bus_master(true));
  BASALT_TRY_ASSIGN(std::shared_ptr<AdminQueue> admin, start_admin());
  return StartedController{capabilities_, std::move(admin)};
}

// CC.EN to 0, and CSTS.RDY after it; with a function level reset if that is what it takes.
Status PcieTransport::disable() {
  const Duration timeout = ready_timeout(capabilities_);
  BASALT_TRY_ASSIGN(const uint32_t configuration, read32(Register::configuration));
  BASALT_TRY_ASSIGN(const uint32_t raw, read32(Register::status));
  const ControllerStatus status{raw};
  if (status.gone()) return {StatusCode::device_removed, "disable: the function is gone"};
  if ((configuration & kEnable) == 0 && !status.ready()) return {};
  if ((configuration & kEnable) != 0 && !status.ready() && !status.fatal()) {
    // Whoever enabled it has to have seen it ready; a controller stuck on the way up is tried all the same.
    [[maybe_unused]] const Status either_way = wait_ready(*this, host_->clock, true, timeout);
  }
  BASALT_TRY(write32(Register::configuration, configuration & ~kEnable));
  const Status stopped = wait_ready(*this, host_->clock, false, timeout);
  if (stopped.ok() || stopped.code() == StatusCode::device_removed) return stopped;
  if (!function_->reset().ok()) return stopped;
  return wait_ready(*this, host_->clock, false, timeout);
}

// One event per queue there may be, from the first on. They stay for as long as the transport does.
Status PcieTransport::start_interrupts() {
  if (!options_->interrupts) return {};
  const uint32_t vectors =
      std::min<uint32_t>(function_->interrupt_count(), options_->queue_pairs + 1u);
  if (event_fds_.empty()) {
    std::vector<UniqueFd> fds;
    for (uint32_t i = 0; i < vectors; ++i) {
      fds.emplace_back(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
      if (!fds.back()) {
        return {StatusCode::no_space, "interrupts: no descriptor for event " + std::to_string(i) +
                                          ": " + std::strerror(errno) +
                                          "; raise the limit of open files or open fewer queues"};
      }
    }
    event_fds_ = std::move(fds);
  }
  if (vectors == 0) return {};
  std::vector<int> events;
  for (const UniqueFd& fd : event_fds_) events.push_back(fd.get());
  return function_->set_interrupts(events);
}

// The admin queue, then CC.EN to 1, and CSTS.RDY after it.
Result<std::shared_ptr<AdminQueue>> PcieTransport::start_admin() {
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
  auto queue =
      std::make_unique<PcieQueue>(shape, std::move(memory), dma_, doorbell(0, Ring::submission),
                                  doorbell(0, Ring::completion), event_fd(0));
  BASALT_TRY(
      write32(Register::admin_queue_attributes, (shape.entries - 1) << 16 | (shape.entries - 1)));
  BASALT_TRY(
      function_->write64(offset_of(Register::admin_submission_queue), queue->submission_iova()));
  BASALT_TRY(
      function_->write64(offset_of(Register::admin_completion_queue), queue->completion_iova()));
  BASALT_TRY(write32(Register::configuration, enabling_configuration(capabilities_)));
  BASALT_TRY(wait_ready(*this, host_->clock, true, ready_timeout(capabilities_)));
  return std::make_shared<AdminQueue>(std::move(queue), admin_data_.bytes(), host_->memory,
                                      host_->clock, host_->log);
}

Status PcieTransport::prepare_queues(AdminQueue& admin, const IdentifyController& identity,
                                     uint16_t queue_pairs) {
  const uint64_t page = capabilities_.min_page_bytes();
  max_transfer_bytes_ = kMaxTransferBytes;
  if (identity.max_transfer_shift != 0 && identity.max_transfer_shift < 32) {
    max_transfer_bytes_ = std::min(kMaxTransferBytes, page << identity.max_transfer_shift);
  }
  sgl_ = (identity.sgl_support & 3) != 0;
  const uint32_t last = completion_doorbell(queue_pairs, capabilities_.doorbell_stride());
  if (!options_->shadow_doorbells ||
      (identity.optional_admin_commands & kSupportsDoorbellBuffer) == 0 ||
      last - kFirstDoorbell >= kPageBytes) {  // more doorbells than the page holds
    return {};
  }
  return start_shadow_doorbells(admin);
}

uint16_t PcieTransport::queue_limit() const {
  const uint32_t vectors = options_->interrupts ? function_->interrupt_count() : 0;
  if (vectors == 0) return options_->queue_pairs;
  return static_cast<uint16_t>(
      std::min<uint32_t>(options_->queue_pairs, std::max(vectors, 2u) - 1));
}

// Two pages: the doorbells' values, and when the controller wants to be told of them (§5.8).
Status PcieTransport::start_shadow_doorbells(AdminQueue& admin) {
  if (shadow_.bytes().empty()) {
    BASALT_TRY_ASSIGN(shadow_, DmaBuffer::create(*function_, size_t{2} * kPageBytes));
  }
  std::memset(shadow_.bytes().data(), 0, shadow_.bytes().size());
  Command command = admin_command(AdminOpcode::doorbell_buffer_config);
  command.data = {shadow_.iova(), shadow_.iova() + kPageBytes};
  BASALT_TRY(admin.run(command, {}, {}, options_->admin_timeout));
  shadow_doorbells_ = true;
  return {};
}

// ---- Queues

Doorbell PcieTransport::doorbell(uint16_t queue_id, Ring ring) const {
  const uint32_t stride = capabilities_.doorbell_stride();
  const uint32_t offset = ring == Ring::submission ? submission_doorbell(queue_id, stride)
                                                   : completion_doorbell(queue_id, stride);
  const uint32_t index = offset - kFirstDoorbell;
  Doorbell doorbell{.function = function_.get(), .offset = offset};
  const std::span<volatile std::byte> mapped = function_->doorbells();
  if (index + 4 <= mapped.size()) doorbell.mapped = mapped.data() + index;
  if (shadow_doorbells_ && queue_id != 0) {
    doorbell.shadow = shadow_.bytes().data() + index;
    doorbell.event_index = doorbell.shadow + kPageBytes;
  }
  return doorbell;
}

Result<std::unique_ptr<CommandQueue>> PcieTransport::open_queue(uint16_t id, AdminQueue& admin) {
  const PcieQueueShape shape{
      .id = id,
      .entries = std::min<uint32_t>(options_->queue_depth + 1u, capabilities_.max_queue_entries()),
      .page_bytes = kPageBytes,
      .list_bytes = PcieQueue::list_bytes(max_transfer_bytes_, kPageBytes),
      .sgl = sgl_};
  const Doorbell submission = doorbell(id, Ring::submission);
  const Doorbell completion = doorbell(id, Ring::completion);
  submission.clear();
  completion.clear();
  BASALT_TRY_ASSIGN(DmaBuffer memory,
                    DmaBuffer::create(*function_, PcieQueue::memory_bytes(shape)));
  auto queue = std::make_unique<PcieQueue>(shape, std::move(memory), dma_, submission, completion,
                                           event_fd(id));
  Command command = create_completion_queue_command(id, shape.entries, event_fd(id) < 0 ? -1 : id);
  command.data.prp1 = queue->completion_iova();
  BASALT_TRY(admin.run(command, {}, {}, options_->admin_timeout));
  command = create_submission_queue_command(id, shape.entries, id);
  command.data.prp1 = queue->submission_iova();
  if (Status status = admin.run(command, {}, {}, options_->admin_timeout); !status.ok()) {
    [[maybe_unused]] const Status first_error_counts =
        admin.run(delete_queue_command(AdminOpcode::delete_completion_queue, id), {}, {},
                  options_->admin_timeout);
    return error(std::move(status));
  }
  return queue;
}

void PcieTransport::close_queue(uint16_t id, AdminQueue& admin) noexcept {
  const Result<uint32_t> raw = read32(Register::status);
  if (!raw || ControllerStatus{*raw}.gone() || !ControllerStatus{*raw}.ready() ||
      ControllerStatus{*raw}.fatal()) {
    return;  // nobody listens
  }
  for (const AdminOpcode opcode :
       {AdminOpcode::delete_submission_queue, AdminOpcode::delete_completion_queue}) {
    const Status status =
        admin.run(delete_queue_command(opcode, id), {}, {}, options_->admin_timeout);
    if (status.ok()) continue;
    host_->log.log(LogLevel::warning, "nvme", status.with_context(name()).to_string());
    break;
  }
}

void PcieTransport::wake(uint16_t id) noexcept {
  const uint64_t one = 1;
  const int fd = event_fd(id);
  if (fd >= 0 && ::write(fd, &one, sizeof one) < 0) {
    // The counter is full, so it is readable.
  }
}

// ---- Health

Status PcieTransport::check() {
  if (const int fd = function_->removal_fd(); fd >= 0) {
    pollfd entry{fd, POLLIN, 0};
    if (::poll(&entry, 1, 0) > 0) {
      return {StatusCode::device_removed, "the function is taken away"};
    }
  }
  const Result<uint32_t> raw = read32(Register::status);
  if (!raw) return {StatusCode::device_removed, std::string(raw.error().message())};
  if (ControllerStatus{*raw}.gone()) {
    return {StatusCode::device_removed, "its registers answer no more"};
  }
  if (ControllerStatus{*raw}.fatal()) {
    return {StatusCode::io_error, "it reports a fatal error (CSTS.CFS)"};
  }
  return {};
}

// A reset of ours leaves the controller's write cache alone. A controller that is found disabled was without power,
// or in others' hands, and may have lost completed writes which no flush has covered yet: were it brought up
// again, the next flush would call them safe.
Status PcieTransport::check_state_kept(bool) {
  BASALT_TRY_ASSIGN(const uint32_t configuration, read32(Register::configuration));
  if ((configuration & kEnable) != 0) return {};
  return {StatusCode::io_error,
          "it is not enabled any more (power lost, or reset by others): writes that were not "
          "flushed may be gone; open it again"};
}

void PcieTransport::cut_off() noexcept {
  [[maybe_unused]] const Status gone_already = function_->set_bus_master(false);
}

}  // namespace basalt::nvme
