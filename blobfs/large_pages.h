// LargePages: private memory in one mapping that begins at a large page (2 MiB), zero and untouched.
//
// What is met at random misses the TLB less there, and a fault gives 2 MiB where small pages give 4 KiB; misses and
// faults are dear, most of all where a hypervisor keeps its own page tables. A machine without large pages
// to spare gives small ones.
// Threads: reserve() comes before; the memory belongs to the owner.
#pragma once

#include <cstddef>
#include <cstdint>

namespace basalt::blobfs {

class LargePages {
 public:
  static constexpr uint64_t kBytes = uint64_t{2} << 20;  // of one

  LargePages() = default;
  ~LargePages();
  LargePages(const LargePages&) = delete;
  LargePages& operator=(const LargePages&) = delete;

  // Once. Large pages back the whole ones of `bytes`, so that what comes after is never taken. False: there is no
  // address space (errno).
  bool reserve(uint64_t bytes);
  std::byte* begin() const { return begin_; }

 private:
  std::byte* mapping_ = nullptr;
  uint64_t mapping_bytes_ = 0;
  std::byte* begin_ = nullptr;
};

}  // namespace basalt::blobfs
