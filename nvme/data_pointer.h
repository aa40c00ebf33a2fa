// DataPointer: how a command names the memory its data lies in; PRP entries, or SGL descriptors.
//
// NVM Express base specification 2.0, §4.1.1 (PRP) and §4.1.2 (SGL). PRPs name pages: the first may begin
// inside a page, every other begins at one, and all but the last end at one. What more than two pages need
// goes to a list of page addresses; a list that fills its page goes on in the next, which the last entry of
// the page names. SGL descriptors name any bytes; more than one go to a segment that the command names.
// Pure functions over a caller's list memory: no allocation, any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "wire/nvme/command.h"

namespace basalt::nvme {

// Memory for what does not fit into the command: contiguous for the device, at a page boundary unless it is
// smaller than a page and within one.
struct ListMemory {
  std::span<std::byte> bytes;
  uint64_t iova = 0;
};

// One command's PRP entries: add() each piece of its data in order, then finish().
class PrpBuilder {
 public:
  PrpBuilder(ListMemory list, uint32_t page_bytes) : list_(list), page_bytes_(page_bytes) {}

  // False: pages cannot name this piece after the last, or the list is full; the command needs an SGL, or to
  // be split.
  bool add(uint64_t iova, size_t bytes) noexcept;
  // The command's data pointer; zero when nothing was added.
  DataPointer finish() noexcept;

 private:
  bool push(uint64_t page) noexcept;
  void store(size_t index, uint64_t page) noexcept;
  std::byte* slot(size_t index) const { return list_.bytes.data() + index * sizeof(uint64_t); }

  const ListMemory list_;
  const uint32_t page_bytes_;
  uint64_t end_ = 0;     // of the last piece
  uint64_t first_ = 0;   // the first entry
  uint64_t second_ = 0;  // the second, while there is no third
  size_t count_ = 0;     // entries in all
  size_t used_ = 0;      // slots of the list
};

// One command's SGL: add() each piece of its data in order, then finish().
class SglBuilder {
 public:
  explicit SglBuilder(ListMemory list) : list_(list) {}

  // False: the list is full.
  bool add(uint64_t iova, size_t bytes) noexcept;
  // The command's descriptor: the piece itself, or the segment with all of them.
  DataPointer finish() noexcept;

 private:
  const ListMemory list_;
  SglDescriptor first_{};
  size_t count_ = 0;
};

}  // namespace basalt::nvme
