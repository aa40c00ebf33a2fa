// How the stress driver fails: one report with the circumstances it happened in, and the end of the
// process, without closing anything, so that the store stays as it was found. Any thread; the first
// failure wins.
#pragma once

#include <rocksdb/status.h>

#include <string>

namespace basalt::stress {

// The exit code of a process that found something wrong (and said so), told apart from a crash.
inline constexpr int kFailedExit = 3;

// Printed with a failure: seeds, options, how to run it again. Replaces what was set before.
void set_circumstances(const std::string& text);

[[noreturn]] void fail(const std::string& what);

// Fails unless `status` is ok.
void require(const rocksdb::Status& status, const std::string& what);

}  // namespace basalt::stress
