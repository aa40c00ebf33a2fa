// Addresses and sizes that must not be mixed up, as distinct types.
//
// Quantity<Tag> is a uint64_t that neither converts to another quantity nor comes from a bare integer
// by accident: explicit in (Lba{7}), explicit out (lba.value). Positions advance by their own count
// type: Lba + BlockCount is an Lba, Lba - Lba is a BlockCount.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>

namespace basalt {

template <typename Tag>
struct Quantity {
  uint64_t value = 0;
  constexpr Quantity() = default;
  constexpr explicit Quantity(uint64_t v) : value(v) {}
  friend constexpr auto operator<=>(Quantity, Quantity) = default;
};

// A number of device blocks; the block size is the device's.
struct BlockCount : Quantity<BlockCount> {
  using Quantity::Quantity;
  friend constexpr BlockCount operator+(BlockCount a, BlockCount b) {
    return BlockCount{a.value + b.value};
  }
  friend constexpr BlockCount operator-(BlockCount a, BlockCount b) {
    return BlockCount{a.value - b.value};
  }
};

// The address of a device block, counted from the start of the device.
struct Lba : Quantity<Lba> {
  using Quantity::Quantity;
  friend constexpr Lba operator+(Lba a, BlockCount n) { return Lba{a.value + n.value}; }
  friend constexpr BlockCount operator-(Lba a, Lba b) { return BlockCount{a.value - b.value}; }
};

// The identity of a blob in its store: never zero, never used twice.
struct BlobId : Quantity<BlobId> {
  using Quantity::Quantity;
};

}  // namespace basalt

template <>
struct std::hash<basalt::BlobId> {
  size_t operator()(basalt::BlobId id) const noexcept { return std::hash<uint64_t>{}(id.value); }
};
