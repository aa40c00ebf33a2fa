// PciFunction: one NVMe controller's PCI function, however it is reached.
//
// Three implementations: VFIO (vfio/), a vfio-user server's socket (vfio_user/), and the controller model the
// tests run on. The driver above sees registers, doorbells, DMA mappings and interrupts, and nothing else.
// Registers are read and written rarely and may be slow (a message to another process); doorbells are written
// once per batch of commands and are memory wherever they can be.
// Thread rules: any thread, except that interrupts are set up while no queue uses them. Errors of every call:
// device_removed once the function is gone, io_error.
#pragma once

#include <basalt/status.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "wire/nvme/registers.h"

namespace basalt::nvme {

// Memory that a device is to reach: whole pages of this process.
struct DmaMemory {
  std::span<std::byte> bytes;
  int fd = -1;             // the file behind it, for functions in other processes; -1: none
  uint64_t fd_offset = 0;  // where in `fd` it starts
};

class PciFunction {
 public:
  virtual ~PciFunction() = default;
  PciFunction(const PciFunction&) = delete;
  PciFunction& operator=(const PciFunction&) = delete;

  // For messages: "0000:00:04.0", "/run/nvme.sock".
  virtual const std::string& name() const = 0;

  // ---- BAR 0. Offsets are those of wire/nvme/registers.h.
  virtual Result<uint32_t> read32(uint32_t offset) = 0;
  virtual Result<uint64_t> read64(uint32_t offset) = 0;
  virtual Status write32(uint32_t offset, uint32_t value) = 0;
  virtual Status write64(uint32_t offset, uint64_t value) = 0;
  // The bytes of BAR 0 from kFirstDoorbell on, mapped; empty where doorbells are written by write32() only.
  virtual std::span<volatile std::byte> doorbells() = 0;

  // ---- DMA
  // Lets the device reach `memory`; answers the address the device is to use. unsupported when this function
  // cannot map such memory (a vfio-user server needs a file behind it), no_space when the addresses or the
  // limit of locked memory are used up; the message says which and what to do.
  virtual Result<uint64_t> map_dma(const DmaMemory& memory) = 0;
  // Of how much memory, beginning at a multiple of it, map_dma() is certain to find one address for: without an IOMMU a
  // hugepage's worth. 0: of any.
  virtual size_t contiguous_dma_bytes() const { return 0; }
  // Undoes map_dma(); the device must have no command that uses it.
  virtual Status unmap_dma(uint64_t address, size_t bytes) = 0;

  // ---- Interrupts and power
  // How many MSI-X vectors there are; 0: completions are found by polling only.
  virtual uint32_t interrupt_count() const = 0;
  // Vector i writes to event_fds[i] (an eventfd that stays its owner's); an empty list turns them all off.
  virtual Status set_interrupts(std::span<const int> event_fds) = 0;
  // Whether the device may start DMA and interrupts of its own.
  virtual Status set_bus_master(bool on) = 0;
  // Function level reset; unsupported where there is none.
  virtual Status reset() = 0;
  // Becomes readable when the function is about to go or has gone; -1 where nobody tells.
  virtual int removal_fd() const = 0;

 protected:
  PciFunction() = default;
};

}  // namespace basalt::nvme
