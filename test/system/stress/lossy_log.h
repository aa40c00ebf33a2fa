// A file system that loses some of what is appended to write-ahead logs, and says it did not: what the
// harness must notice. Everything else goes through. Any thread.
#pragma once

#include <rocksdb/file_system.h>

#include <memory>

namespace basalt::stress {

std::shared_ptr<rocksdb::FileSystem> losing_log_appends(
    std::shared_ptr<rocksdb::FileSystem> target);

}  // namespace basalt::stress
