// ModelFunction: a ControllerModel as the driver sees it, through PciFunction. ModelThread: what drives it.
//
// Device addresses are the process's own plus an offset, so that code which hands out virtual addresses
// fails. Like a real function it starts without bus mastering: until set_bus_master(true) nothing is
// processed and no interrupt is sent. Doorbells go through memory and past this class; with
// `mapped_doorbells` off they come by write32(), as over a socket. The model stays its owner's and
// outlives the function; one at a time.
// Thread rules: any thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <string>

#include "base/sync.h"
#include "nvme/model/controller_model.h"
#include "nvme/pci_function.h"

namespace basalt::nvme::model {

// What map_dma() takes.
enum class DmaMode : uint8_t {
  any,         // whole pages of memory
  files_only,  // only what has a file behind it, otherwise unsupported: as a vfio-user server
  none,        // nothing: no_space
};
// What the calls do once the function is gone.
enum class AfterRemoval : uint8_t {
  all_ones,        // registers read as ones, other calls succeed: as a mapped BAR
  device_removed,  // every call fails: as a socket whose other end has gone
};

struct ModelFunctionOptions {
  std::string name = "model";
  uint64_t iova_offset = uint64_t{1} << 44;  // whole pages
  DmaMode dma_mode = DmaMode::any;
  AfterRemoval after_removal = AfterRemoval::all_ones;
  bool mapped_doorbells = true;
  bool function_reset = true;                // false: reset() is unsupported
  uint64_t max_mapped_bytes = ~uint64_t{0};  // more is no_space
};

struct FunctionCounters {
  uint64_t register_reads = 0;
  uint64_t register_writes = 0;  // without doorbells
  uint64_t doorbell_writes = 0;  // by write32()
  uint64_t dma_maps = 0, dma_unmaps = 0, dma_refusals = 0;
  uint64_t mapped_bytes = 0;  // now
  uint64_t interrupt_setups = 0;
  uint64_t bus_master_changes = 0;
  uint64_t resets = 0;
};

class ModelFunction final : public PciFunction {
 public:
  explicit ModelFunction(ControllerModel& model, ModelFunctionOptions options = {});
  // What is still mapped is unmapped; interrupts are turned off.
  ~ModelFunction() override;

  const std::string& name() const override { return options_.name; }
  Result<uint32_t> read32(uint32_t offset) override;
  Result<uint64_t> read64(uint32_t offset) override;
  Status write32(uint32_t offset, uint32_t value) override;
  Status write64(uint32_t offset, uint64_t value) override;
  std::span<volatile std::byte> doorbells() override;
  Result<uint64_t> map_dma(const DmaMemory& memory) override;
  Status unmap_dma(uint64_t address, size_t bytes) override;
  uint32_t interrupt_count() const override;
  Status set_interrupts(std::span<const int> event_fds) override;
  Status set_bus_master(bool on) override;
  Status reset() override;
  int removal_fd() const override { return model_.removal_fd(); }

  void set_dma_mode(DmaMode mode);
  FunctionCounters counters() const;

 private:
  Status check_present() const;
  Status check_memory(const DmaMemory& memory) const;  // mutex_ held

  ControllerModel& model_;
  const ModelFunctionOptions options_;
  mutable Mutex mutex_;  // protects what follows; taken before the model's lock
  DmaMode dma_mode_;
  FunctionCounters counters_;
  std::map<uint64_t, size_t> mapped_;  // device address, bytes
};

// Runs model.step() until it is destroyed; the model outlives it. With `idle_sleep` it sleeps so long
// whenever a step has found nothing to do, otherwise it yields.
class ModelThread {
 public:
  explicit ModelThread(ControllerModel& model, Duration idle_sleep = Duration::zero());
  ~ModelThread();
  ModelThread(const ModelThread&) = delete;
  ModelThread& operator=(const ModelThread&) = delete;

 private:
  std::atomic<bool> stop_{false};
  Thread thread_;
};

}  // namespace basalt::nvme::model
