// PmemMapping: a whole file mapped by libpmem, and how stores to it become durable.
//
// On persistent memory (a DAX file system mapped with MAP_SYNC) copies bypass the cache and drain()
// is one fence. Elsewhere the mapping is the page cache and drain() is msync(2) of all of it.
// A memory error, or a file made shorter by others, raises SIGBUS on access, as in any mapping.
// Thread rules: any thread; the owner outlives all users.
#pragma once

#include <basalt/status.h>

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "bdev/pmem/write_journal.h"

namespace basalt {

class PmemMapping final : public PmemStores {
 public:
  // Maps the file behind `fd`. A read-only mapping never counts as persistent memory.
  static Result<std::unique_ptr<PmemMapping>> map(int fd, size_t bytes, bool read_only,
                                                  const std::string& name);
  ~PmemMapping() override;
  PmemMapping(const PmemMapping&) = delete;
  PmemMapping& operator=(const PmemMapping&) = delete;

  std::span<std::byte> bytes() const { return bytes_; }
  bool is_pmem() const { return is_pmem_; }

  void copy(std::byte* to, const std::byte* from, size_t bytes) noexcept override;
  void drain() noexcept override;

 private:
  PmemMapping(std::span<std::byte> bytes, bool is_pmem) : bytes_(bytes), is_pmem_(is_pmem) {}

  const std::span<std::byte> bytes_;
  const bool is_pmem_;
};

}  // namespace basalt
