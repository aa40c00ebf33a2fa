// The options of one opening of the database, chosen by a seed: what the store is mounted with, how
// RocksDB uses it, and how many of the writes are synced.
#pragma once

#include <rocksdb/options.h>

#include <cstdint>
#include <string>

namespace basalt::stress {

struct Variation {
  std::string uri_keys;       // "&cache=0&tail=4M"
  unsigned sync_percent = 0;  // of the writes
  rocksdb::Options options;   // without env
  std::string text;           // all of it, for people
};

// The same for the same arguments.
Variation vary(uint64_t seed, uint32_t family_count);

}  // namespace basalt::stress
