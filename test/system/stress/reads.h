// Every way to read the database, with one kind of answer: for each key, the change whose value is
// there. A value that no change wrote to its key, a key outside of the key space, keys out of order and
// errors end the process with a report. Any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "system/stress/database.h"
#include "system/stress/values.h"

namespace basalt::stress {

using Found = std::optional<uint64_t>;

// Neighbouring keys of one family.
struct KeyRange {
  uint32_t family = 0;
  uint32_t first = 0;
  uint32_t count = 0;
  std::vector<Key> keys() const;
};

enum class Direction : uint8_t { forward, backward };

Found read_key(const Database& database, const rocksdb::ReadOptions& options, Key key);
// One MultiGet of keys of one family.
std::vector<Found> read_keys(const Database& database, const rocksdb::ReadOptions& options,
                             std::span<const Key> keys);
// One Found for each key of the range.
std::vector<Found> scan(const Database& database, const rocksdb::ReadOptions& options,
                        const KeyRange& range, Direction direction);
// The same with an iterator that there is already; it may be bounded by the range or by nothing.
std::vector<Found> collect(rocksdb::Iterator& it, const KeyRange& range, Direction direction);

}  // namespace basalt::stress
