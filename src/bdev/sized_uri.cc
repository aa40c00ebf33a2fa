#include "bdev/sized_uri.h"

#include "base/try.h"

namespace basalt {

Result<Geometry> parse_sized_uri(const Uri& uri) {
  const auto wrong = [&](const std::string& why) {
    return error(StatusCode::invalid_argument,
                 uri.to_string() + ": " + why + "; expected as in " + uri.scheme + ":4G");
  };
  if (!uri.children.empty()) return wrong("the size stands where a nested device is given");
  const Result<uint64_t> bytes = parse_size(uri.argument);
  if (!bytes) return wrong(std::string(bytes.error().message()));
  UriOptions options(uri);
  BASALT_TRY_ASSIGN(const size_t block, options.take_choice("block", {"512", "4096"}, 0));
  BASALT_TRY(options.finish());
  Geometry geometry;
  geometry.block_size = block == 0 ? 512 : 4096;
  if (*bytes == 0 || *bytes % geometry.block_size != 0 || *bytes > ~uint64_t{0} >> 1) {
    return wrong("the size must be between one block and 8E - 1 B, in whole blocks of " +
                 std::to_string(geometry.block_size) + " B");
  }
  geometry.block_count = BlockCount{*bytes / geometry.block_size};
  return geometry;
}

Result<const Uri*> only_child(const Uri& uri) {
  if (uri.children.size() == 1) return &uri.children.front();
  return error(StatusCode::invalid_argument, uri.to_string() + ": " + uri.scheme +
                                                 ": takes one device, in parentheses, not " +
                                                 std::to_string(uri.children.size()) +
                                                 "; expected as in " + uri.scheme + ":(ram:4G)");
}

}  // namespace basalt
