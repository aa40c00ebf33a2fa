#include "blob/node.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace basalt::blob {
namespace {

struct CellHeader {
  le16 key_bytes;
  le16 value_bytes;
};

CellHeader load(const std::byte* cell) {
  CellHeader header;
  std::memcpy(&header, cell, sizeof header);
  return header;
}

size_t stored_bytes(const std::byte* cell) {
  const CellHeader header = load(cell);
  return sizeof header + header.key_bytes + header.value_bytes;
}

}  // namespace

void Node::initialise(TreeId tree, uint8_t level) {
  std::memset(page_, 0, kBlockBytes);
  header().magic = kPageMagic;
  header().kind = static_cast<uint8_t>(PageKind::tree_node);
  header().tree = static_cast<uint8_t>(tree);
  header().level = level;
  header().cell_start = kBlockBytes;
}

std::byte* Node::cell(unsigned i) const { return page_ + slots()[i]; }

std::string_view Node::key(unsigned i) const {
  const std::byte* at = cell(i);
  return {reinterpret_cast<const char*>(at + sizeof(CellHeader)), load(at).key_bytes};
}

std::string_view Node::value(unsigned i) const {
  const std::byte* at = cell(i);
  const CellHeader header = load(at);
  return {reinterpret_cast<const char*>(at + sizeof(CellHeader) + header.key_bytes),
          header.value_bytes};
}

PageRef Node::child(unsigned i) const {
  PageRef ref{};
  const std::string_view bytes = value(i);
  if (bytes.size() == sizeof ref) std::memcpy(&ref, bytes.data(), sizeof ref);
  return ref;
}

unsigned Node::lower_bound(std::string_view wanted, bool& exact) const {
  unsigned low = 0, high = count();
  exact = false;
  while (low < high) {
    const unsigned middle = (low + high) / 2;
    const int order = key(middle).compare(wanted);
    if (order == 0) exact = true;
    if (order < 0) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

unsigned Node::child_index(std::string_view wanted) const {
  unsigned low = 1, high = count();
  while (low < high) {
    const unsigned middle = (low + high) / 2;
    if (key(middle).compare(wanted) <= 0) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low - 1;
}

bool Node::insert(unsigned i, std::string_view new_key, std::string_view new_value) {
  const size_t bytes = sizeof(CellHeader) + new_key.size() + new_value.size();
  if (used_bytes() + bytes + 2 > kCapacity) return false;
  const size_t slots_end = sizeof(PageHeader) + 2 * (count() + 1);
  if (header().cell_start < slots_end + bytes) compact();
  header().cell_start = static_cast<uint16_t>(header().cell_start - bytes);
  std::byte* at = page_ + header().cell_start;
  const CellHeader sizes{static_cast<uint16_t>(new_key.size()),
                         static_cast<uint16_t>(new_value.size())};
  std::memcpy(at, &sizes, sizeof sizes);
  std::memcpy(at + sizeof sizes, new_key.data(), new_key.size());
  std::memcpy(at + sizeof sizes + new_key.size(), new_value.data(), new_value.size());
  std::memmove(slots() + i + 1, slots() + i, 2 * (count() - i));
  slots()[i] = header().cell_start;
  header().cell_count = static_cast<uint16_t>(count() + 1);
  header().live_bytes = static_cast<uint32_t>(header().live_bytes + bytes);
  return true;
}

bool Node::replace(unsigned i, std::string_view new_value) {
  std::byte* at = cell(i);
  CellHeader sizes = load(at);
  if (sizes.value_bytes == new_value.size()) {
    std::memcpy(at + sizeof sizes + sizes.key_bytes, new_value.data(), new_value.size());
    return true;
  }
  if (used_bytes() - sizes.value_bytes + new_value.size() > kCapacity) return false;
  char key_copy[kMaxKeyLimit];
  const size_t key_bytes = sizes.key_bytes;
  std::memcpy(key_copy, at + sizeof sizes, key_bytes);
  erase(i);
  return insert(i, {key_copy, key_bytes}, new_value);
}

void Node::set_child(unsigned i, const PageRef& ref) { (void)replace(i, struct_text(ref)); }

void Node::erase(unsigned i) {
  header().live_bytes = static_cast<uint32_t>(header().live_bytes - stored_bytes(cell(i)));
  std::memmove(slots() + i, slots() + i + 1, 2 * (count() - i - 1));
  header().cell_count = static_cast<uint16_t>(count() - 1);
  if (count() == 0) header().cell_start = kBlockBytes;
}

void Node::move_tail(unsigned from, Node& to) {
  for (unsigned i = from; i < count(); ++i) (void)to.insert(to.count(), key(i), value(i));
  while (count() > from) erase(count() - 1);
}

void Node::compact() {
  std::byte copy[kBlockBytes];
  std::memcpy(copy, page_, kBlockBytes);
  size_t start = kBlockBytes;
  for (unsigned i = 0; i < count(); ++i) {
    const std::byte* from = copy + slots()[i];
    const size_t bytes = stored_bytes(from);
    start -= bytes;
    std::memcpy(page_ + start, from, bytes);
    slots()[i] = static_cast<uint16_t>(start);
  }
  header().cell_start = static_cast<uint16_t>(start);
}

bool Node::well_formed() const {
  const unsigned cells = count();
  if (cells == 0) return false;  // empty nodes are unlinked, never written
  const size_t slots_end = sizeof(PageHeader) + 2 * size_t{cells};
  const size_t start = header().cell_start;
  if (slots_end > kBlockBytes || start < slots_end || start > kBlockBytes) return false;
  size_t live = 0;
  std::array<uint16_t, kCapacity / 2> places;
  for (unsigned i = 0; i < cells; ++i) {
    const size_t at = slots()[i];
    if (at < start || at + sizeof(CellHeader) > kBlockBytes) return false;
    const size_t bytes = stored_bytes(page_ + at);
    if (at + bytes > kBlockBytes || load(page_ + at).key_bytes > kMaxKeyLimit) return false;
    places[i] = static_cast<uint16_t>(at);
    if (level() > 0 && value(i).size() != sizeof(PageRef)) return false;
    if (i > (level() > 0 ? 1 : 0) && key(i - 1).compare(key(i)) >= 0) return false;
    live += bytes;
  }
  // Cells that overlapped would spoil each other when they are changed in place.
  std::sort(places.begin(), places.begin() + cells);
  for (unsigned i = 0; i + 1 < cells; ++i) {
    if (places[i] + stored_bytes(page_ + places[i]) > places[i + 1]) return false;
  }
  return live == header().live_bytes && live <= kBlockBytes - start;
}

}  // namespace basalt::blob
