// Goal: the file system's catalog records and paths: what is accepted is in range and encodes back to the
// same bytes; anything else is an error with a sentence. Method: the input as record, entry, key and path.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "blobfs/inode.h"
#include "blobfs/path.h"

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace basalt::blobfs;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto record = decode_inode(17, text)) {
    const auto again = decode_inode(17, encode(*record));
    require(again && *again == *record);
  } else {
    require(!record.error().message().empty());
  }
  if (const auto entry = decode_entry(1, "name", text)) {
    require(encode(*entry) == text && entry->id != 0);
  } else {
    require(!entry.error().message().empty());
  }
  static_cast<void>(check_file_system_record(text));
  uint64_t id = 0;
  std::string_view name;
  if (parse_entry_key(text, id, name)) require(entry_key(id, name) == text);
  if (parse_inode_key(text, id)) require(inode_key(id) == text);
  if (const auto components = split_path(text)) {
    for (const std::string_view component : *components) {
      require(!component.empty() && component.size() <= kMaxNameBytes && component != ".." &&
              component.find('/') == std::string_view::npos);
    }
    const std::string joined = join_path(*components);
    const auto again = split_path(joined);
    require(again && *again == *components);
  }
  return 0;
}
