// See data_pointer.h.
#include "nvme/data_pointer.h"

#include <bit>
#include <cstring>

namespace basalt::nvme {

bool PrpBuilder::add(uint64_t iova, size_t bytes) noexcept {
  const uint64_t mask = page_bytes_ - 1;
  if (bytes == 0) return true;
  if (count_ == 0) {
    if (iova % 4 != 0) return false;
  } else if (iova == end_) {
    // Goes on where the last piece ended, perhaps inside its page, which is named already.
  } else if ((end_ & mask) != 0 || (iova & mask) != 0) {
    return false;
  }
  uint64_t at = iova;
  const uint64_t end = iova + bytes;
  if (count_ != 0 && iova == end_ && (iova & mask) != 0) at = (iova | mask) + 1;
  while (at < end) {
    if (!push(at)) return false;
    at = (at | mask) + 1;
  }
  end_ = end;
  return true;
}

bool PrpBuilder::push(uint64_t page) noexcept {
  ++count_;
  if (count_ == 1) {
    first_ = page;
    return true;
  }
  if (count_ == 2) {
    second_ = page;
    return true;
  }
  const size_t slots = list_.bytes.size() / sizeof(uint64_t);
  const size_t per_page = page_bytes_ / sizeof(uint64_t);
  if (count_ == 3) {
    if (slots < 2) return false;
    store(used_++, second_);
  }
  if (used_ % per_page == 0) {
    // The list's page was full and is not the last after all: its last entry moves on, and names the
    // page it has moved to instead.
    if (used_ + 2 > slots) return false;
    std::memcpy(slot(used_), slot(used_ - 1), sizeof(uint64_t));
    store(used_ - 1, list_.iova + used_ * sizeof(uint64_t));
    ++used_;
  }
  if (used_ + 1 > slots) return false;
  store(used_++, page);
  return true;
}

void PrpBuilder::store(size_t index, uint64_t page) noexcept {
  const le64 entry = page;
  std::memcpy(slot(index), &entry, sizeof entry);
}

DataPointer PrpBuilder::finish() noexcept {
  if (count_ <= 2) return {first_, second_};
  return {first_, list_.iova};
}

namespace {

SglDescriptor descriptor(SglType type, uint64_t address, size_t length) {
  return {address, static_cast<uint32_t>(length), {}, static_cast<uint8_t>(type)};
}

}  // namespace

bool SglBuilder::add(uint64_t iova, size_t bytes) noexcept {
  if (bytes == 0) return true;
  if (bytes > UINT32_MAX) return false;
  const SglDescriptor block = descriptor(SglType::data_block, iova, bytes);
  if (count_ == 0) first_ = block;
  if ((count_ + 1) * sizeof block > list_.bytes.size()) {
    if (count_ != 0) return false;
  } else {
    std::memcpy(list_.bytes.data() + count_ * sizeof block, &block, sizeof block);
  }
  ++count_;
  return true;
}

DataPointer SglBuilder::finish() noexcept {
  if (count_ <= 1) return std::bit_cast<DataPointer>(first_);
  return std::bit_cast<DataPointer>(
      descriptor(SglType::last_segment, list_.iova, count_ * sizeof(SglDescriptor)));
}

}  // namespace basalt::nvme
