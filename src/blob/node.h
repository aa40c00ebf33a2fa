// Node: a B+tree node in one 4 KiB metadata page, edited in place.
//
// After the page header come the cell offsets (le16 each, in key order); cells grow down from the end
// of the page: le16 key length, le16 value length, key, value. Erasing leaves garbage that the next
// insertion without room compacts. A Node is a view; it owns nothing and is not synchronised.
#pragma once

#include "blob/format.h"

#include <span>
#include <string_view>

namespace basalt::blob {

// No key of any tree is longer: a name with the blob id and kind in front of it.
inline constexpr size_t kMaxKeyLimit = 312;

inline std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}
template <typename T>
std::string_view struct_text(const T& value) {
  static_assert(std::has_unique_object_representations_v<T>);
  return {reinterpret_cast<const char*>(&value), sizeof(T)};
}

class Node {
 public:
  explicit Node(std::byte* page) : page_(page) {}

  // Room for cells and their offsets in an empty node.
  static constexpr size_t kCapacity = kBlockBytes - sizeof(PageHeader);
  static size_t cell_bytes(std::string_view key, std::string_view value) {
    return 2 + 4 + key.size() + value.size();  // with its offset
  }

  void initialise(TreeId tree, uint8_t level);
  PageHeader& header() { return *reinterpret_cast<PageHeader*>(page_); }
  const PageHeader& header() const { return *reinterpret_cast<const PageHeader*>(page_); }

  unsigned count() const { return header().cell_count; }
  unsigned level() const { return header().level; }
  std::string_view key(unsigned i) const;
  std::string_view value(unsigned i) const;
  PageRef child(unsigned i) const;
  size_t used_bytes() const { return header().live_bytes + 2 * count(); }

  // The first cell whose key is not less than `key`; `exact` tells whether it is equal.
  unsigned lower_bound(std::string_view key, bool& exact) const;
  // In an inner node: the child that covers `key`. The first child's key is never looked at: it
  // covers everything below the second.
  unsigned child_index(std::string_view key) const;

  // False when there is no room; the node is unchanged.
  bool insert(unsigned i, std::string_view key, std::string_view value);
  bool replace(unsigned i, std::string_view value);
  void set_child(unsigned i, const PageRef& ref);
  void erase(unsigned i);
  // Moves cells [from, count) to the end of `to`, which has room for them.
  void move_tail(unsigned from, Node& to);

  // Whether offsets, lengths and order make sense: for bytes from a device.
  bool well_formed() const;

 private:
  std::byte* cell(unsigned i) const;
  le16* slots() { return reinterpret_cast<le16*>(page_ + sizeof(PageHeader)); }
  const le16* slots() const { return reinterpret_cast<const le16*>(page_ + sizeof(PageHeader)); }
  void compact();

  std::byte* page_;
};

}  // namespace basalt::blob
