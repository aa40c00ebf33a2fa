// Paths: what a caller writes, split into the names of the components.
//
// The rules are those of <basalt/file_system.h>: absolute, '/'-separated, "." and empty components
// dropped, ".." refused, a component 1 … 255 bytes without NUL, a path at most 4096 bytes. Pure
// functions; the views point into the caller's string.
#pragma once

#include <basalt/status.h>

#include <string>
#include <string_view>
#include <vector>

namespace basalt::blobfs {

inline constexpr size_t kMaxPathBytes = 4096;
inline constexpr size_t kMaxNameBytes = 255;

using PathComponents = std::vector<std::string_view>;

// The components from the root down; empty for the root itself. invalid_argument says what is wrong.
Result<PathComponents> split_path(std::string_view path);

// The one spelling of a path: "/" or "/a/b".
std::string join_path(const PathComponents& components);

}  // namespace basalt::blobfs
