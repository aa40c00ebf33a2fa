// Keys of the trees in words, for what check_store and dump_store say.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "blob/format.h"

namespace basalt::blob {

// Printable bytes as they are, the others as \xNN, in quotation marks.
std::string quoted(std::string_view text);

// "catalog", "objects tree", …
std::string_view tree_name(TreeId tree);

// What a part of a tree holds: "catalog entries from … up to, not including, …". `low` empty: from the
// first key on; `high` null: to the last. `name_catalog_key` puts a catalog key into words, because only
// who uses the catalog knows them; without it they are quoted. Keys may be any bytes.
std::string describe_keys(TreeId tree, std::string_view low, const std::string* high,
                          const std::function<std::string(std::string_view key)>& name_catalog_key);

}  // namespace basalt::blob
