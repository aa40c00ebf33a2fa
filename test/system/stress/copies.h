// Copies of the running database inside its own store, each opened and verified key by key against
// what was acknowledged before it was begun and announced before it was done. Any thread; one backup at
// a time.
#pragma once

#include <cstdint>
#include <string>

#include "system/stress/database.h"
#include "system/stress/expected_state.h"

namespace basalt::stress {

// A checkpoint at `path`, opened, verified and removed.
void make_and_verify_checkpoint(const Database& database, const rocksdb::Options& options,
                                ExpectedState& state, const std::string& path, uint64_t seed);

// A further backup in `root`/backups, checked, restored elsewhere and verified there; the oldest of
// more than three go.
void make_and_verify_backup(const Database& database, const rocksdb::Options& options,
                            ExpectedState& state, const std::string& root, uint64_t seed);

// After a death: whatever was being made is removed, every finished backup must be whole.
void tidy_copies(rocksdb::Env& env, const std::string& root);

}  // namespace basalt::stress
