// Files that hold one key, as nvme-cli makes them ("DHHC-1:…").
#pragma once

#include <basalt/status.h>

#include <string>

namespace basalt {

// The file's first line. Errors: not_found, permission_denied (others than its owner may read it), invalid_argument (empty,
// or longer than any key).
Result<std::string> read_key_file(const std::string& path);

}  // namespace basalt
