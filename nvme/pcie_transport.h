// PcieTransport: a controller behind a PCI function: registers, rings in memory, doorbells, interrupts.
//
// NVM Express base specification 2.0, §3.5.1 (memory-based initialisation), §3.6 (shutdown), §3.7.2 (reset).
// Threads: as Transport.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "nvme/dma_map.h"
#include "nvme/pci_function.h"
#include "nvme/pcie_queue.h"
#include "nvme/transport.h"
#include "base/unique_fd.h"

namespace basalt::nvme {

class PcieTransport final : public Transport {
 public:
  PcieTransport(std::unique_ptr<PciFunction> function, MemoryMap& memory, LogSink& log)
      : function_(std::move(function)), dma_(*function_, memory, log) {}
  ~PcieTransport() override;

  const std::string& name() const override { return function_->name(); }
  TransportTraits traits() const override {
    return {.needs_hugepages = function_->contiguous_dma_bytes() != 0};
  }
  void attach(const HostServices& host, const ControllerOptions& options,
              std::function<void()>) override {
    host_ = &host;
    options_ = &options;
  }

  Result<StartedController> start(AdminQueue* previous) override;
  Status prepare_queues(AdminQueue& admin, const IdentifyController& identity,
                        uint16_t queue_pairs) override;
  uint16_t queue_limit() const override;
  uint64_t max_transfer_bytes() const override { return max_transfer_bytes_; }

  Result<std::unique_ptr<CommandQueue>> open_queue(uint16_t id, AdminQueue& admin) override;
  void close_queue(uint16_t id, AdminQueue& admin) noexcept override;
  void wake(uint16_t id) noexcept override;

  Result<uint32_t> read32(Register which) override {
    return function_->read32(static_cast<uint32_t>(which));
  }
  Status write32(Register which, uint32_t value) override {
    return function_->write32(static_cast<uint32_t>(which), value);
  }

  Status check() override;
  Status check_state_kept(bool unflushed) override;
  void reset_harder() noexcept override {
    [[maybe_unused]] const Status next_attempt_tells = function_->reset();
  }
  void distrust(const Status&) noexcept override {}
  void cut_off() noexcept override;
  bool settled() const override { return true; }

 private:
  enum class Ring : uint8_t { submission, completion };

  Status disable();
  Status start_interrupts();
  Result<std::shared_ptr<AdminQueue>> start_admin();
  Status start_shadow_doorbells(AdminQueue& admin);
  Doorbell doorbell(uint16_t queue_id, Ring ring) const;
  int event_fd(uint16_t queue_id) const {
    return queue_id < event_fds_.size() ? event_fds_[queue_id].get() : -1;
  }

  const HostServices* host_ = nullptr;
  const ControllerOptions* options_ = nullptr;
  const std::unique_ptr<PciFunction> function_;
  DmaMap dma_;
  DmaBuffer admin_data_;
  DmaBuffer shadow_;                 // shadow doorbells, one page; event indexes, one page
  std::vector<UniqueFd> event_fds_;  // by queue id; made at the first start, and then left
  Capabilities capabilities_;
  uint64_t max_transfer_bytes_ = 0;
  bool sgl_ = false;
  bool shadow_doorbells_ = false;  // in use
};

}  // namespace basalt::nvme
