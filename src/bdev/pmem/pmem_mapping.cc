#include "bdev/pmem/pmem_mapping.h"

#include <libpmem.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstring>

#include "bdev/host/host_errno.h"

namespace basalt {

Result<std::unique_ptr<PmemMapping>> PmemMapping::map(int fd, size_t bytes, bool read_only,
                                                      const std::string& name) {
  const std::string what = name + ": map " + std::to_string(bytes) + " B";
  if (read_only) {  // libpmem maps for writing only
    void* base = mmap(nullptr, bytes, PROT_READ, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED) return error(errno_status(errno, what));
    return std::unique_ptr<PmemMapping>(
        new PmemMapping({static_cast<std::byte*>(base), bytes}, false));
  }
  // By the open file and not by its name, which could have come to mean another file.
  const std::string path = "/proc/self/fd/" + std::to_string(fd);
  size_t mapped = 0;
  int is_pmem = 0;
  void* base = pmem_map_file(path.c_str(), 0, 0, 0, &mapped, &is_pmem);
  if (base == nullptr) {
    return error(errno_status(errno, what + " (" + pmem_errormsg() + ")"));
  }
  if (mapped != bytes) {
    pmem_unmap(base, mapped);
    return error(StatusCode::io_error,
                 what + ": the file has changed to " + std::to_string(mapped) + " B meanwhile");
  }
  return std::unique_ptr<PmemMapping>(
      new PmemMapping({static_cast<std::byte*>(base), bytes}, is_pmem != 0));
}

PmemMapping::~PmemMapping() { pmem_unmap(bytes_.data(), bytes_.size()); }

void PmemMapping::copy(std::byte* to, const std::byte* from, size_t bytes) noexcept {
  if (is_pmem_) {
    pmem_memcpy_nodrain(to, from, bytes);
  } else {
    std::memcpy(to, from, bytes);
  }
}

void PmemMapping::drain() noexcept {
  if (is_pmem_) {
    pmem_drain();
  } else {
    pmem_msync(bytes_.data(), bytes_.size());
  }
}

}  // namespace basalt
