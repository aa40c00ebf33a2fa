// All that a store's metadata says, as text, for comparing what is found after damage with what was there.
#pragma once

#include "base/try.h"
#include "blob/blob_store.h"

#include <map>
#include <string>
#include <vector>

namespace basalt::blob {

using StoreContent = std::map<std::string, std::string>;

// Or the first error.
inline Result<StoreContent> content_of(BlobStore& store) {
  StoreContent content;
  BASALT_TRY(store.catalog_scan("", [&](std::string_view key, std::string_view value) {
    content.emplace(key, value);
    return true;
  }));
  std::vector<BlobId> ids;
  BASALT_TRY(store.for_each_blob([&](BlobId id, const BlobInfo& info) {
    content["blob " + std::to_string(id.value)] =
        std::to_string(info.size_bytes) + " " + std::to_string(info.allocated_blocks);
    ids.push_back(id);
    return true;
  }));
  for (const BlobId id : ids) {
    BASALT_TRY_ASSIGN(content["name " + std::to_string(id.value)], store.attribute(id, "name"));
    BASALT_TRY_ASSIGN(auto blob, store.open_blob(id));
    for (const Extent& extent : store.extents(*blob, {0, kMaxBlobBlocks})) {
      content["extent " + std::to_string(id.value) + " " + std::to_string(extent.logical)] =
          std::to_string(extent.physical) + " " + std::to_string(extent.count);
    }
  }
  const StoreSpace space = store.space();
  content["free clusters"] = std::to_string(space.free_clusters);
  return content;
}

}  // namespace basalt::blob
