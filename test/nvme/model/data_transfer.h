// DataTransfer: the host memory that a command's data pointer names, as a list of pieces.
//
// parse_prps() (NVMe base 2.0 §4.1.1) and parse_sgl() (§4.1.2) walk the data pointer, check it and look
// each piece up in the DmaTable; pieces that meet in this process's memory become one. The other calls
// copy. Reused for each command, so the list is allocated once. Errors of parsing are NVMe status
// codes; after one the list is empty. Memory that is not mapped: data transfer error. Not synchronised:
// the model's lock.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "nvme/model/dma.h"
#include "wire/nvme/command.h"

namespace basalt::nvme::model {

enum class Direction : uint8_t { to_host, from_host };

class DataTransfer {
 public:
  static constexpr size_t kMaxPieces = 70'000;  // 256 MiB in pages, and some

  DataTransfer() { pieces_.reserve(kMaxPieces); }

  CompletionStatus parse_prps(const DmaTable& dma, uint32_t page_bytes, const DataPointer& data,
                              size_t bytes);
  // `bit_bucket` descriptors are taken for data to the host.
  CompletionStatus parse_sgl(const DmaTable& dma, const DataPointer& data, size_t bytes,
                             Direction direction);

  // Copies to or from all pieces in order, at most as many bytes as were parsed.
  void to_host(std::span<const std::byte> data) const;
  void from_host(std::span<std::byte> data) const;
  bool equals(std::span<const std::byte> data) const;
  // Flips all bits of one byte of the host's memory.
  void flip(size_t offset) const;
  size_t size() const { return size_; }

 private:
  // A piece with null data swallows what is sent to it.
  struct Piece {
    std::byte* data = nullptr;
    size_t bytes = 0;
  };
  bool add(const DmaTable& dma, uint64_t iova, size_t bytes);  // false: not mapped, or too many
  CompletionStatus parse_prp_list(const DmaTable& dma, uint32_t page_bytes, uint64_t list,
                                  size_t bytes);
  CompletionStatus fail(CompletionStatus status);

  std::vector<Piece> pieces_;
  size_t size_ = 0;
};

}  // namespace basalt::nvme::model
