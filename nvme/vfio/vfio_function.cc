// See vfio_function.h. PCI registers: PCI Local Bus specification 3.0, §6.2 (header), §6.2.2 (command).
#include "nvme/vfio/vfio_function.h"

#include <linux/vfio.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "base/try.h"
#include "nvme/hex.h"
#include "nvme/pci_devices.h"
#include "nvme/system_error.h"

namespace basalt::nvme {
namespace {

constexpr uint32_t kConfigCommand = 0x04;
constexpr uint32_t kConfigRevisionAndClass = 0x08;
constexpr uint16_t kCommandMemorySpace = 1 << 1;
constexpr uint16_t kCommandBusMaster = 1 << 2;
constexpr uint16_t kCommandNoIntx = 1 << 10;

constexpr uint32_t kAllOnes = 0xffff'ffff;

}  // namespace

Result<std::unique_ptr<PciFunction>> VfioFunction::open(std::string_view bdf,
                                                        const VfioOptions& options) {
  BASALT_TRY_ASSIGN(const PciDevice found, PciDevices(options.paths).find(bdf));
  if (found.class_code != kNvmeClass) return error(not_nvme(found));
  BASALT_TRY_ASSIGN(auto container, VfioContainer::open(found, options));
  BASALT_TRY_ASSIGN(UniqueFd device, container->open_device(found.address));
  std::unique_ptr<VfioFunction> function(
      new VfioFunction(found.address, std::move(container), std::move(device)));
  BASALT_TRY(function->start());
  return function;
}

VfioFunction::VfioFunction(std::string name, std::unique_ptr<VfioContainer> container,
                           UniqueFd device)
    : name_(std::move(name)),
      container_(std::move(container)),
      device_(std::move(device)),
      iovas_(container_->iommu().usable, container_->iommu().granule()) {}

Status VfioFunction::start() {
  vfio_device_info info{};
  info.argsz = sizeof info;
  if (ioctl(device_.get(), VFIO_DEVICE_GET_INFO, &info) != 0) {
    return system_error(name_ + ": ask about the device", errno);
  }
  can_reset_ = (info.flags & VFIO_DEVICE_FLAGS_RESET) != 0;
  BASALT_TRY_ASSIGN(const RegionInfo config,
                    query_region_info(device_.get(), VFIO_PCI_CONFIG_REGION_INDEX, name_));
  config_offset_ = config.file_offset;
  BASALT_TRY(check_class());
  // Interrupts are MSI-X or none. Bus mastering waits for the driver.
  BASALT_TRY(change_command(kCommandMemorySpace | kCommandNoIntx, kCommandBusMaster));
  BASALT_TRY_ASSIGN(RegionInfo bar,
                    query_region_info(device_.get(), VFIO_PCI_BAR0_REGION_INDEX, name_));
  BASALT_TRY_ASSIGN(bar_, VfioBar::open(device_.get(), std::move(bar), name_));
  BASALT_TRY(find_interrupts(info.num_irqs));
  if (info.num_irqs > VFIO_PCI_REQ_IRQ_INDEX) watch_removal();
  return {};
}

// sysfs was believed so far; this is the function itself.
Status VfioFunction::check_class() {
  BASALT_TRY_ASSIGN(const uint32_t word, read_config(kConfigRevisionAndClass, sizeof(uint32_t)));
  if (word == kAllOnes) return gone("its PCI class");
  if (word >> 8 == kNvmeClass) return {};
  BASALT_TRY_ASSIGN(const uint32_t ids, read_config(0, sizeof(uint32_t)));
  PciDevice device;
  device.address = name_;
  device.vendor_id = static_cast<uint16_t>(ids);
  device.device_id = static_cast<uint16_t>(ids >> 16);
  device.class_code = word >> 8;
  return not_nvme(device);
}

Status VfioFunction::find_interrupts(uint32_t index_count) {
  if (index_count <= VFIO_PCI_MSIX_IRQ_INDEX) return {};
  vfio_irq_info info{};
  info.argsz = sizeof info;
  info.index = VFIO_PCI_MSIX_IRQ_INDEX;
  if (ioctl(device_.get(), VFIO_DEVICE_GET_IRQ_INFO, &info) != 0) {
    return system_error(name_ + ": ask about MSI-X interrupts", errno);
  }
  if ((info.flags & VFIO_IRQ_INFO_EVENTFD) != 0) interrupt_count_ = info.count;
  return {};
}

// Without it everything works but the warning, so no error is worth failing for.
void VfioFunction::watch_removal() {
  UniqueFd event(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  const int fd = event.get();
  if (event && set_irqs(VFIO_PCI_REQ_IRQ_INDEX, {&fd, 1}).ok()) removal_ = std::move(event);
}

Result<uint32_t> VfioFunction::read32(uint32_t offset) { return bar_->read32(offset); }

// As two halves, which every controller has to allow; the low one first.
Result<uint64_t> VfioFunction::read64(uint32_t offset) {
  BASALT_TRY_ASSIGN(const uint32_t low, bar_->read32(offset));
  BASALT_TRY_ASSIGN(const uint32_t high, bar_->read32(offset + 4));
  return uint64_t{high} << 32 | low;
}

Status VfioFunction::write32(uint32_t offset, uint32_t value) {
  return bar_->write32(offset, value);
}

Status VfioFunction::write64(uint32_t offset, uint64_t value) {
  BASALT_TRY(bar_->write32(offset, static_cast<uint32_t>(value)));
  return bar_->write32(offset + 4, static_cast<uint32_t>(value >> 32));
}

Status VfioFunction::gone(const std::string& what) const {
  return Status(
      StatusCode::device_removed,
      name_ + ": " + what + " reads all ones, as everything does of a device that is gone");
}

Result<uint64_t> VfioFunction::map_dma(const DmaMemory& memory) {
  if (!container_->has_iommu()) {
    // Hugepages that are there stay where they are.
    if (::madvise(memory.bytes.data(), memory.bytes.size(), MADV_POPULATE_WRITE) != 0) {
      return error(system_error(name_ + ": have memory for DMA", errno));
    }
    auto physical = PhysicalMemory().address_of(memory.bytes);
    if (!physical) return error(physical.error().with_context(name_));
    return physical;
  }
  const auto address = reinterpret_cast<uintptr_t>(memory.bytes.data());
  MutexLock lock(dma_mutex_);
  const Result<uint64_t> iova = iovas_.allocate(address, memory.bytes.size());
  if (!iova) return error(iova.error().with_context(name_));
  if (Status mapped = container_->map(*iova, memory.bytes); !mapped.ok()) {
    BASALT_TRY(iovas_.free(*iova, memory.bytes.size()));
    return error(std::move(mapped));
  }
  return *iova;
}

Status VfioFunction::unmap_dma(uint64_t address, size_t bytes) {
  if (!container_->has_iommu()) return {};
  MutexLock lock(dma_mutex_);
  if (Status known = iovas_.check_allocated(address, bytes); !known.ok()) {
    return known.with_context(name_);
  }
  // When the kernel refuses, the address stays taken, because something is still mapped there.
  BASALT_TRY(container_->unmap(address, bytes));
  return iovas_.free(address, bytes);
}

// All vectors at once, from none: older kernels allocate them when the first is connected and cannot add to them.
Status VfioFunction::set_interrupts(std::span<const int> event_fds) {
  if (event_fds.size() > interrupt_count_) {
    return Status(StatusCode::invalid_argument, name_ + ": " + std::to_string(event_fds.size()) +
                                                    " interrupts asked for, but it has " +
                                                    std::to_string(interrupt_count_) +
                                                    " MSI-X vectors");
  }
  if (std::any_of(event_fds.begin(), event_fds.end(), [](int fd) { return fd < 0; })) {
    return Status(StatusCode::invalid_argument, name_ + ": each interrupt needs an eventfd");
  }
  MutexLock lock(control_mutex_);
  if (interrupts_on_) {
    BASALT_TRY(set_irqs(VFIO_PCI_MSIX_IRQ_INDEX, {}));
    interrupts_on_ = false;
  }
  if (event_fds.empty()) return {};
  BASALT_TRY(set_irqs(VFIO_PCI_MSIX_IRQ_INDEX, event_fds));
  interrupts_on_ = true;
  return {};
}

Status VfioFunction::set_irqs(uint32_t index, std::span<const int> event_fds) const {
  static_assert(sizeof(int) == sizeof(int32_t));
  vfio_irq_set head{};
  head.argsz = static_cast<uint32_t>(sizeof head + event_fds.size_bytes());
  head.flags = VFIO_IRQ_SET_ACTION_TRIGGER |
               (event_fds.empty() ? VFIO_IRQ_SET_DATA_NONE : VFIO_IRQ_SET_DATA_EVENTFD);
  head.index = index;
  head.count = static_cast<uint32_t>(event_fds.size());
  std::vector<std::byte> request(head.argsz);
  std::memcpy(request.data(), &head, sizeof head);
  if (!event_fds.empty()) {
    std::memcpy(request.data() + sizeof head, event_fds.data(), event_fds.size_bytes());
  }
  const std::string context = name_ + ": connect " + std::to_string(event_fds.size()) +
                              " interrupts of VFIO's index " + std::to_string(index);
  const int left = ioctl(device_.get(), VFIO_DEVICE_SET_IRQS, request.data());
  if (left < 0) return system_error(context, errno);
  if (left == 0) return {};
  return Status(StatusCode::no_space, context + ": this machine has only " + std::to_string(left) +
                                          " to give; ask for fewer");
}

Status VfioFunction::set_bus_master(bool on) {
  return on ? change_command(kCommandBusMaster | kCommandMemorySpace, 0)
            : change_command(0, kCommandBusMaster);
}

Status VfioFunction::reset() {
  if (!can_reset_) {
    return Status(StatusCode::unsupported,
                  name_ + ": the kernel has no way to reset this function alone");
  }
  if (ioctl(device_.get(), VFIO_DEVICE_RESET) == 0) return {};
  return system_error(name_ + ": reset", errno);
}

Status VfioFunction::change_command(uint16_t set, uint16_t clear) {
  MutexLock lock(control_mutex_);
  BASALT_TRY_ASSIGN(const uint32_t command, read_config(kConfigCommand, sizeof(uint16_t)));
  // VFIO answers the bit for INTx out of its own memory, so that one does not count.
  if ((command | kCommandNoIntx) == 0xffff) return gone("its PCI command register");
  const auto changed = static_cast<uint16_t>((command & ~uint32_t{clear}) | set);
  const ssize_t done = pwrite(device_.get(), &changed, sizeof changed,
                              static_cast<off_t>(config_offset_ + kConfigCommand));
  if (done == sizeof changed) return {};
  return system_error(name_ + ": write the PCI command register", done < 0 ? errno : EIO);
}

Result<uint32_t> VfioFunction::read_config(uint32_t offset, size_t bytes) const {
  uint32_t value = 0;
  const ssize_t done =
      pread(device_.get(), &value, bytes, static_cast<off_t>(config_offset_ + offset));
  if (done == static_cast<ssize_t>(bytes)) return value;
  return error(
      system_error(name_ + ": read PCI config space at " + hex(offset), done < 0 ? errno : EIO));
}

}  // namespace basalt::nvme
