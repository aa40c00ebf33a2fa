// Goal: a page that Node::well_formed() accepts can be searched and edited without leaving the page, and
// stays well formed. Method: the input's bytes as a page; the first ones also choose an edit.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "blob/node.h"

namespace {

using basalt::blob::kBlockBytes;
using basalt::blob::Node;

void require(bool condition) {
  if (!condition) std::abort();
}

void search(const Node& node) {
  for (unsigned i = 0; i < node.count(); ++i) {
    const std::string key(node.key(i)), value(node.value(i));
    bool exact = false;
    if (node.level() == 0) {
      require(node.lower_bound(key, exact) == i && exact);
    } else {
      require(node.child_index(key) < node.count());
      static_cast<void>(node.child(i));
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // On the heap and of the exact size, so that a step beyond it is seen.
  std::vector<std::byte> page(kBlockBytes);
  if (size > 0) std::memcpy(page.data(), data, std::min(size, page.size()));
  Node node(page.data());
  if (!node.well_formed()) return 0;
  search(node);
  if (node.level() > 0) return 0;
  const uint8_t choice = size > 0 ? data[size - 1] : 0;
  const unsigned at = choice % node.count();
  if (choice & 0x80) {
    const std::string key = std::string(node.key(at)) + '\x01';
    bool exact = false;
    const unsigned place = node.lower_bound(key, exact);
    if (!exact && key.size() <= basalt::blob::kMaxKeyLimit) {
      node.insert(place, key, std::string(choice, 'v'));
    }
  } else if (choice & 0x40) {
    node.replace(at, std::string(choice, 'r'));
  } else if (node.count() > 1) {
    node.erase(at);
  }
  require(node.well_formed());
  search(node);
  return 0;
}
