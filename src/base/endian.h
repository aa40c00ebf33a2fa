// Integers with a fixed byte order, for on-disk and wire structs.
//
// le<T> and be<T> hold bytes, so structs made of them have alignment 1, no padding, and look the
// same on every machine. The conversion goes through bit_cast, which compilers fold to a single
// load.
#pragma once

#include <array>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace basalt {

template <std::unsigned_integral T>
constexpr T byte_swap(T v) {
  if constexpr (sizeof(T) == 1) return v;
  if constexpr (sizeof(T) == 2) return __builtin_bswap16(v);
  if constexpr (sizeof(T) == 4) return __builtin_bswap32(v);
  if constexpr (sizeof(T) == 8) return __builtin_bswap64(v);
}

template <std::unsigned_integral T, std::endian Order>
class ordered {
 public:
  constexpr ordered() = default;
  constexpr ordered(T v) : bytes_(std::bit_cast<Bytes>(to_order(v))) {}
  constexpr operator T() const { return to_order(std::bit_cast<T>(bytes_)); }

 private:
  using Bytes = std::array<std::byte, sizeof(T)>;
  static constexpr T to_order(T v) { return Order == std::endian::native ? v : byte_swap(v); }
  Bytes bytes_{};
};

template <std::unsigned_integral T>
using le = ordered<T, std::endian::little>;
template <std::unsigned_integral T>
using be = ordered<T, std::endian::big>;

using le16 = le<uint16_t>;
using le32 = le<uint32_t>;
using le64 = le<uint64_t>;
using be16 = be<uint16_t>;
using be32 = be<uint32_t>;
using be64 = be<uint64_t>;

static_assert(sizeof(le64) == 8 && alignof(le64) == 1);
static_assert(std::has_unique_object_representations_v<le32>);

}  // namespace basalt
