// VfioUserFunction: an NVMe controller that another process emulates and serves over vfio-user.
//
// Registers are messages on a unix socket. Doorbells are memory where the server shares that part of BAR 0
// (SPDK's does); DMA memory is shared with the server by the memory's file descriptor, under its own virtual
// address, since the device's address space is this connection's alone. MSI-X vectors are eventfds handed
// over. Nothing here knows NVMe beyond the doorbells' offset and the PCI class.
//
// The server is trusted with what is mapped for it, as a device would be, and its messages are not trusted
// (protocol.h). Shared doorbells stay mapped until this goes, so a server that dies does not take them away.
// One that makes its file shorter would: a mapping beyond the end of a file faults. The file's size is checked
// before mapping and, where the file can be sealed (a memfd), sealed against shrinking; with other files
// the server is trusted here too.
//
// SPDK's target uses only memory that it can map in whole 2 MiB, and ignores the rest: give it an Arena on
// hugepages.
// Thread rules: those of PciFunction; one mutex serialises requests, doorbells() takes none.
// vfio-user specification 0.9; PCI local bus 3.0 §6.1 (configuration space), §6.8.2 (MSI-X).
#pragma once

#include <basalt/context.h>

#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "base/sync.h"
#include "nvme/pci_function.h"
#include "nvme/vfio_user/connection.h"

namespace basalt::nvme {

// Of a PCI function's configuration space; what is behind it are capabilities.
inline constexpr uint64_t kConfigHeaderBytes = 64;

struct VfioUserOptions {
  // How long the server may take to answer; after that the function is given up as gone.
  Duration timeout = std::chrono::seconds(5);
  // The same for a reset, which has to wait for the device's commands.
  Duration reset_timeout = std::chrono::seconds(30);
  // Whether to write doorbells as memory where the server shares it; otherwise each is a message.
  bool map_doorbells = true;
};

class VfioUserFunction final : public PciFunction {
 public:
  // Connects and negotiates. Errors: those of Connection::connect() and call(); unsupported when what is
  // served is no NVMe controller.
  static Result<std::unique_ptr<PciFunction>> open(std::string_view socket_path,
                                                   const VfioUserOptions& options = {});
  ~VfioUserFunction() override;

  const std::string& name() const override { return connection_->path(); }

  Result<uint32_t> read32(uint32_t offset) override;
  Result<uint64_t> read64(uint32_t offset) override;
  Status write32(uint32_t offset, uint32_t value) override;
  Status write64(uint32_t offset, uint64_t value) override;
  std::span<volatile std::byte> doorbells() override { return doorbells_; }

  Result<uint64_t> map_dma(const DmaMemory& memory) override;
  Status unmap_dma(uint64_t address, size_t bytes) override;

  uint32_t interrupt_count() const override { return interrupt_count_; }
  Status set_interrupts(std::span<const int> event_fds) override;
  Status set_bus_master(bool on) override;
  // Turns all interrupts off first, as they are after a reset of hardware.
  Status reset() override;
  int removal_fd() const override { return connection_->removal_fd(); }

 private:
  VfioUserFunction(std::unique_ptr<vfio_user::Connection> connection,
                   const VfioUserOptions& options)
      : connection_(std::move(connection)), options_(options) {}

  // The steps of open(), in order: open.cc.
  Status negotiate();
  Status read_device_info();
  Result<vfio_user::Region> read_region_info(uint32_t index, UniqueFd& file);
  Status check_class();
  Status map_doorbells(const UniqueFd& file);
  Status read_interrupt_info();

  // With mutex_ held, as those above.
  Result<vfio_user::Reply> call(vfio_user::Command command, std::span<const std::byte> payload,
                                std::span<const int> fds = {});
  // A request whose reply says nothing but "done".
  Status tell(vfio_user::Command command, std::span<const std::byte> payload,
              std::span<const int> fds = {});
  // What was parsed of a reply; a malformed one ends the connection.
  template <typename T>
  Result<T> accept(Result<T> parsed) {
    if (parsed) return parsed;
    return error(connection_->give_up(parsed.error()).with_context(name()));
  }
  Status read_region(uint32_t index, uint64_t offset, std::span<std::byte> out);
  Status write_region(uint32_t index, uint64_t offset, std::span<const std::byte> data);
  static constexpr uint16_t kMemorySpace = 1 << 1;  // in the PCI command register
  Status set_command_bits(uint16_t on, uint16_t off);
  Status enable_msix(bool on);
  Status turn_interrupts_off();

  // `bytes` (4 or 8) of BAR 0 at `offset`; the error says why not.
  Status check_offset(uint32_t offset, uint32_t bytes) const;
  template <typename T>
  Result<T> read(uint32_t offset);
  template <typename T>
  Status write(uint32_t offset, T value);
  template <typename T>
  volatile T* shared_register(uint32_t offset);

  const std::unique_ptr<vfio_user::Connection> connection_;
  const VfioUserOptions options_;
  // Set by open(), constant afterwards.
  vfio_user::Negotiated negotiated_;
  vfio_user::Region bar0_;
  vfio_user::Region config_;
  std::span<volatile std::byte> doorbells_;
  uint32_t interrupt_count_ = 0;
  bool interrupts_set_together_ = false;
  bool resets_ = false;

  Mutex mutex_;  // one request at a time; protects connection_'s state and what follows
  std::map<uint64_t, uint64_t> mapped_;  // address → bytes of what map_dma() mapped
  bool interrupts_on_ = false;
};

}  // namespace basalt::nvme
