// What RocksDB's file names mean to Basalt: absolute paths, and the kind of file behind a name.
#pragma once

#include <basalt/file_system.h>

#include <string>
#include <string_view>

namespace basalt::rocksdb_env {

// `path` as Basalt wants it: absolute ("db" means "/db"; a store has no working directory), without
// empty and "." components, with ".." resolved by name (there are no symbolic links).
std::string normalize_path(std::string_view path);

// The directory that holds `path`, which is normalized and not "/".
std::string_view parent_path(std::string_view path);

// Log files take small synced appends: WALs (*.log) and MANIFEST-*. The info LOG is one as well: it
// is never synced, and the end of a log is found by scanning, so after a power loss it still shows
// what reached the device, where a table's size would be the last one journaled.
FileKind file_kind_of(std::string_view path);

}  // namespace basalt::rocksdb_env
