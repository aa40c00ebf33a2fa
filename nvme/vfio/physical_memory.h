// Where this process's memory lies in the machine, for devices that no IOMMU stands in front of.
//
// Linux's /proc/self/pagemap and /proc/kpageflags (Documentation/admin-guide/mm/pagemap.rst). Only hugepages of hugetlbfs
// will do: the kernel moves other pages when it pleases, locked or not. Threads: any.
#pragma once

#include <basalt/status.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

namespace basalt::nvme {

class PhysicalMemory {
 public:
  static constexpr size_t kHugepageBytes = size_t{2} << 20;  // and larger ones in parts of so many

  struct Paths {
    std::string pagemap = "/proc/self/pagemap", flags = "/proc/kpageflags";
  };
  PhysicalMemory() = default;
  explicit PhysicalMemory(Paths paths) : paths_(std::move(paths)) {}

  // The physical address of `memory`, whole pages of 4 KiB, all of it in hugepages and contiguous. Errors: unsupported (in
  // other pages, or not contiguous), permission_denied (it takes CAP_SYS_ADMIN), io_error.
  Result<uint64_t> address_of(std::span<const std::byte> memory) const;

 private:
  Paths paths_;
};

}  // namespace basalt::nvme
