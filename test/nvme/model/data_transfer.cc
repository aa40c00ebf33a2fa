// See data_transfer.h.
#include "nvme/model/data_transfer.h"

#include <algorithm>
#include <cstring>

#include "wire/nvme/status.h"

namespace basalt::nvme::model {
namespace {

constexpr CompletionStatus kInvalidSglSegment{0, 0x0d}, kInvalidSglCount{0, 0x0e},
    kInvalidSglLength{0, 0x0f}, kInvalidSglType{0, 0x11};

// How many segment descriptors an SGL may have: bounds the walk of a chain that leads back into itself.
constexpr size_t kMaxSegments = 4096;

uint64_t load(const std::byte* address) {
  le64 value;
  std::memcpy(&value, address, sizeof value);
  return value;
}

}  // namespace

CompletionStatus DataTransfer::fail(CompletionStatus status) {
  pieces_.clear();
  size_ = 0;
  return status;
}

bool DataTransfer::add(const DmaTable& dma, uint64_t iova, size_t bytes) {
  while (bytes > 0) {
    const std::span<std::byte> found = dma.find(iova, bytes);
    if (found.empty()) return false;
    if (!pieces_.empty() && pieces_.back().data != nullptr &&
        pieces_.back().data + pieces_.back().bytes == found.data()) {
      pieces_.back().bytes += found.size();
    } else if (pieces_.size() < kMaxPieces) {
      pieces_.push_back({found.data(), found.size()});
    } else {
      return false;
    }
    size_ += found.size();
    iova += found.size();
    bytes -= found.size();
  }
  return true;
}

CompletionStatus DataTransfer::parse_prps(const DmaTable& dma, uint32_t page_bytes,
                                          const DataPointer& data, size_t bytes) {
  pieces_.clear();
  size_ = 0;
  const uint64_t prp1 = data.prp1;
  if ((prp1 & 3) != 0) return kInvalidPrpOffset;
  const size_t first = std::min<size_t>(bytes, page_bytes - (prp1 & (page_bytes - 1)));
  if (!add(dma, prp1, first)) return fail(kDataTransferError);
  const size_t rest = bytes - first;
  if (rest == 0) return {};
  if (rest > page_bytes) return parse_prp_list(dma, page_bytes, data.prp2, rest);
  const uint64_t prp2 = data.prp2;
  if ((prp2 & (page_bytes - 1)) != 0) return fail(kInvalidPrpOffset);
  return add(dma, prp2, rest) ? CompletionStatus{} : fail(kDataTransferError);
}

// The list may start anywhere in its page, and goes to the end of it. If more entries are needed than
// are left, the last one is the address of the next list page. A chain always ends: each page of it but
// the last adds data.
CompletionStatus DataTransfer::parse_prp_list(const DmaTable& dma, uint32_t page_bytes,
                                              uint64_t list, size_t bytes) {
  if ((list & 7) != 0) return fail(kInvalidPrpOffset);
  while (true) {
    const size_t needed = (bytes + page_bytes - 1) / page_bytes;
    const size_t fitting = (page_bytes - (list & (page_bytes - 1))) / sizeof(uint64_t);
    const size_t entries = std::min(needed, fitting);
    const std::byte* entry = dma.find_all(list, entries * sizeof(uint64_t));
    if (entry == nullptr) return fail(kDataTransferError);
    const size_t data_entries = needed > fitting ? entries - 1 : entries;
    for (size_t i = 0; i < data_entries; ++i, entry += sizeof(uint64_t)) {
      const uint64_t page = load(entry);
      if ((page & (page_bytes - 1)) != 0) return fail(kInvalidPrpOffset);
      const size_t piece = std::min<size_t>(bytes, page_bytes);
      if (!add(dma, page, piece)) return fail(kDataTransferError);
      bytes -= piece;
    }
    if (bytes == 0) return {};
    list = load(entry);
    if ((list & (page_bytes - 1)) != 0) return fail(kInvalidPrpOffset);
  }
}

CompletionStatus DataTransfer::parse_sgl(const DmaTable& dma, const DataPointer& data, size_t bytes,
                                         Direction direction) {
  pieces_.clear();
  size_ = 0;
  static_assert(sizeof(DataPointer) == sizeof(SglDescriptor));
  SglDescriptor inline_descriptor;
  std::memcpy(static_cast<void*>(&inline_descriptor), &data, sizeof inline_descriptor);

  // The descriptors of the segment under way; a segment descriptor may only be its last.
  const auto* next = reinterpret_cast<const std::byte*>(&inline_descriptor);
  size_t left = 1;
  size_t segments = 0;
  bool last_segment = false;
  while (left > 0) {
    SglDescriptor descriptor;
    std::memcpy(static_cast<void*>(&descriptor), next, sizeof descriptor);
    next += sizeof descriptor;
    --left;
    switch (static_cast<SglType>(descriptor.type)) {
      case SglType::data_block:
        if (descriptor.length > bytes - size_) return fail(kInvalidSglLength);
        if (!add(dma, descriptor.address, descriptor.length)) return fail(kDataTransferError);
        break;
      case SglType::bit_bucket:
        if (direction == Direction::from_host) break;
        if (descriptor.length > bytes - size_) return fail(kInvalidSglLength);
        if (pieces_.size() == kMaxPieces) return fail(kInvalidSglCount);
        pieces_.push_back({nullptr, descriptor.length});
        size_ += descriptor.length;
        break;
      case SglType::segment:
      case SglType::last_segment: {
        if (left != 0 || last_segment) return fail(kInvalidSglSegment);
        if (descriptor.length == 0 || descriptor.length % sizeof(SglDescriptor) != 0) {
          return fail(kInvalidSglSegment);
        }
        if (++segments > kMaxSegments) return fail(kInvalidSglCount);
        next = dma.find_all(descriptor.address, descriptor.length);
        if (next == nullptr) return fail(kDataTransferError);
        left = descriptor.length / sizeof(SglDescriptor);
        last_segment = static_cast<SglType>(descriptor.type) == SglType::last_segment;
        break;
      }
      default: return fail(kInvalidSglType);
    }
  }
  return size_ == bytes ? CompletionStatus{} : fail(kInvalidSglLength);
}

void DataTransfer::to_host(std::span<const std::byte> data) const {
  for (const Piece& piece : pieces_) {
    const size_t bytes = std::min(piece.bytes, data.size());
    if (bytes == 0) return;
    if (piece.data != nullptr) std::memcpy(piece.data, data.data(), bytes);
    data = data.subspan(bytes);
  }
}

void DataTransfer::from_host(std::span<std::byte> data) const {
  for (const Piece& piece : pieces_) {
    const size_t bytes = std::min(piece.bytes, data.size());
    if (bytes == 0) return;
    std::memcpy(data.data(), piece.data, bytes);
    data = data.subspan(bytes);
  }
}

bool DataTransfer::equals(std::span<const std::byte> data) const {
  for (const Piece& piece : pieces_) {
    const size_t bytes = std::min(piece.bytes, data.size());
    if (bytes == 0) break;
    if (std::memcmp(data.data(), piece.data, bytes) != 0) return false;
    data = data.subspan(bytes);
  }
  return true;
}

void DataTransfer::flip(size_t offset) const {
  for (const Piece& piece : pieces_) {
    if (offset < piece.bytes) {
      if (piece.data != nullptr) piece.data[offset] = ~piece.data[offset];
      return;
    }
    offset -= piece.bytes;
  }
}

}  // namespace basalt::nvme::model
