// VfioFunction: a controller bound to vfio-pci.
//
// Each has an IOMMU group and an address space of its own (vfio_container.h says why). Opening resets the function,
// as the kernel does whenever vfio-pci's device is opened first; closing ends its interrupts and its DMA and resets
// it again.
// Owns every descriptor and mapping. Thread rules: those of PciFunction.
//
// When the kernel wants the function back (hot-unplug, a change of driver), it writes to removal_fd() and waits until
// this object is destroyed: the mapped BAR and the DMA mappings stay as they are until then.
//   - Gone from the bus: reads answer all ones. read32() and read64() look at VS too, which is never all ones, and
//     answer device_removed. Writes, and doorbells, go nowhere without a sign; the next read tells.
//   - SIGBUS: the kernel raises it for an access to a mapped BAR while the function's memory space is off or it
//     sleeps (D3). Memory space is turned on before the first access and never off, and during reset() the kernel
//     lets other threads' accesses wait, so neither arises from here.
//   - Not handled: machines on which a read from a device that is gone is itself an error (an external abort on arm64,
//     which Linux makes a SIGBUS; a machine check where firmware set x86 up so). No signal handler is installed.
#pragma once

#include <basalt/status.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/sync.h"
#include "nvme/pci_function.h"
#include "nvme/vfio/iova_space.h"
#include "nvme/vfio/physical_memory.h"
#include "base/unique_fd.h"
#include "nvme/vfio/vfio_bar.h"
#include "nvme/vfio/vfio_container.h"

namespace basalt::nvme {

class VfioFunction final : public PciFunction {
 public:
  // `bdf`: in full, "0000:00:04.0". Errors: invalid_argument (malformed, or no NVMe controller), and those of
  // VfioContainer::open().
  static Result<std::unique_ptr<PciFunction>> open(std::string_view bdf,
                                                   const VfioOptions& options = {});

  const std::string& name() const override { return name_; }
  Result<uint32_t> read32(uint32_t offset) override;
  Result<uint64_t> read64(uint32_t offset) override;
  Status write32(uint32_t offset, uint32_t value) override;
  Status write64(uint32_t offset, uint64_t value) override;
  std::span<volatile std::byte> doorbells() override { return bar_->mapped_from(kFirstDoorbell); }

  size_t contiguous_dma_bytes() const override {
    return container_->has_iommu() ? 0 : PhysicalMemory::kHugepageBytes;
  }
  Result<uint64_t> map_dma(const DmaMemory& memory) override;
  Status unmap_dma(uint64_t address, size_t bytes) override;

  uint32_t interrupt_count() const override { return interrupt_count_; }
  Status set_interrupts(std::span<const int> event_fds) override;
  Status set_bus_master(bool on) override;
  Status reset() override;
  int removal_fd() const override { return removal_.get(); }

 private:
  VfioFunction(std::string name, std::unique_ptr<VfioContainer> container, UniqueFd device);
  Status start();
  Status check_class();
  Status find_interrupts(uint32_t index_count);
  void watch_removal();

  Result<uint32_t> read_config(uint32_t offset, size_t bytes) const;
  // Sets and clears bits of the command register.
  Status change_command(uint16_t set, uint16_t clear);
  Status gone(const std::string& what) const;
  // Connects vectors [0, event_fds.size()) of an interrupt index, or turns the index off.
  Status set_irqs(uint32_t index, std::span<const int> event_fds) const;

  // Destroyed from the last to the first: the mapping, the device, then its address space.
  const std::string name_;
  const std::unique_ptr<VfioContainer> container_;
  const UniqueFd device_;
  UniqueFd removal_;
  std::unique_ptr<VfioBar> bar_;
  uint64_t config_offset_ = 0;  // of the PCI config space, in the device's descriptor
  uint32_t interrupt_count_ = 0;
  bool can_reset_ = false;

  Mutex dma_mutex_;  // guards iovas_, and keeps it and the container's mappings alike
  IovaSpace iovas_;
  Mutex
      control_mutex_;  // guards interrupts_on_ and the command register between its read and write
  bool interrupts_on_ = false;
};

}  // namespace basalt::nvme
