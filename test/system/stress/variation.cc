// See variation.h. Only options that keep RocksDB's own promise are varied: what was acknowledged
// survives the death of the process, synced or not.
#include "system/stress/variation.h"

#include <rocksdb/cache.h>
#include <rocksdb/convenience.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/table.h>
#include <rocksdb/version.h>

#include <algorithm>
#include <initializer_list>
#include <sstream>

#include "sim/random.h"

namespace basalt::stress {
namespace {

// Chooses, and notes what it chose.
class Chooser {
 public:
  explicit Chooser(uint64_t seed) : random_(seed) {}

  template <typename T>
  T pick(const char* name, std::initializer_list<T> values) {
    const T value = *(values.begin() + random_.below(values.size()));
    text_ << " " << name << "=" << value;
    return value;
  }
  bool flip(const char* name, unsigned percent = 50) {
    const bool value = random_.chance(percent);
    text_ << " " << name << "=" << value;
    return value;
  }
  std::string text() const { return text_.str(); }

 private:
  sim::Random random_;
  std::ostringstream text_;
};

std::string choose_mount(Chooser& chooser) {
  std::string keys;
  keys += std::string("&cache=") + chooser.pick("cache", {"0", "1M", "16M", "64M"});
  keys += std::string("&tail=") + chooser.pick("tail", {"1M", "4M", "32M"});
  keys += std::string("&metadata_cache=") + chooser.pick("metadata_cache", {"1M", "64M"});
  if (chooser.flip("flush_to_device", 20)) keys += "&flush=device";
  if (chooser.flip("scrub", 30)) keys += "&scrub_rate=20M";
  return keys;
}

void choose_log(Chooser& chooser, rocksdb::Options& options, uint32_t family_count) {
  options.wal_recovery_mode = rocksdb::WALRecoveryMode::kPointInTimeRecovery;
  // RocksDB 7.8 recycles in one mode of recovery only; and where it syncs closed logs, with several
  // families or an atomic flush, it closes the file of a log and then asks it for its size
  // (MarkLogsSynced crashes, on every file system).
  if (family_count == 1 && chooser.flip("recycle", 25)) {
    options.recycle_log_file_num = 4;
    options.wal_recovery_mode = rocksdb::WALRecoveryMode::kSkipAnyCorruptedRecords;
  } else if (chooser.flip("archive", 15)) {
    options.WAL_ttl_seconds = 5;
    options.WAL_size_limit_MB = 4;
  } else {
    options.track_and_verify_wals_in_manifest = chooser.flip("verify_wals", 30);
  }
  options.wal_bytes_per_sync = chooser.pick("wal_bytes_per_sync", {0, 0, 64 << 10});
  options.max_total_wal_size = chooser.pick("max_total_wal_size", {0, 0, 4 << 20});
  options.avoid_flush_during_recovery = chooser.flip("avoid_flush_during_recovery");
  options.avoid_flush_during_shutdown = chooser.flip("avoid_flush_during_shutdown");
  options.enable_pipelined_write = chooser.flip("pipelined", 30);
  // Before 8.0 an atomic flush beside another one may fail an assertion about their reasons
  // (github.com/facebook/rocksdb/pull/11111), which Debian's library has.
  constexpr bool kAtomicFlushIsSound = ROCKSDB_MAJOR >= 8;
  options.atomic_flush = kAtomicFlushIsSound && options.recycle_log_file_num == 0 &&
                         !options.enable_pipelined_write && chooser.flip("atomic_flush", 25);
}

void choose_tree(Chooser& chooser, rocksdb::Options& options) {
  options.write_buffer_size = chooser.pick("write_buffer", {64 << 10, 256 << 10, 1 << 20, 8 << 20});
  options.max_write_buffer_number = chooser.pick("write_buffers", {2, 4});
  options.target_file_size_base = chooser.pick("table_size", {64 << 10, 256 << 10, 2 << 20});
  options.max_bytes_for_level_base = 4 * options.target_file_size_base;
  options.level0_file_num_compaction_trigger = chooser.pick("l0_trigger", {2, 4});
  options.max_background_jobs = chooser.pick("background_jobs", {1, 2, 4});
  options.max_subcompactions = chooser.pick("subcompactions", {1u, 3u});
  options.max_open_files = chooser.pick("open_files", {-1, 20});
  if (chooser.flip("blob_files", 15)) {
    options.enable_blob_files = true;
    options.min_blob_size = 200;
    options.enable_blob_garbage_collection = true;
  }
}

void choose_io(Chooser& chooser, rocksdb::Options& options) {
  options.use_direct_reads = chooser.flip("direct_reads", 30);
  options.use_direct_io_for_flush_and_compaction = chooser.flip("direct_compaction", 30);
  options.bytes_per_sync = chooser.pick("bytes_per_sync", {0, 0, 64 << 10});
  options.strict_bytes_per_sync = chooser.flip("strict", 20);
  options.paranoid_file_checks = chooser.flip("paranoid_files", 20);
  if (chooser.flip("handoff", 30)) {
    for (const auto type : {rocksdb::FileType::kWalFile, rocksdb::FileType::kTableFile,
                            rocksdb::FileType::kDescriptorFile, rocksdb::FileType::kBlobFile}) {
      options.checksum_handoff_file_types.Add(type);
    }
  }
  const auto compressions = rocksdb::GetSupportedCompressions();
  const bool lz4 = std::find(compressions.begin(), compressions.end(), rocksdb::kLZ4Compression) !=
                   compressions.end();
  options.compression =
      chooser.flip("lz4") && lz4 ? rocksdb::kLZ4Compression : rocksdb::kNoCompression;

  rocksdb::BlockBasedTableOptions table;
  const int block_cache = chooser.pick("block_cache", {0, 64 << 10, 4 << 20});
  table.no_block_cache = block_cache == 0;
  if (block_cache > 0) table.block_cache = rocksdb::NewLRUCache(static_cast<size_t>(block_cache));
  table.block_size = static_cast<size_t>(chooser.pick("block", {1 << 10, 4 << 10, 16 << 10}));
  if (chooser.flip("bloom", 30)) table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
}

}  // namespace

Variation vary(uint64_t seed, uint32_t family_count) {
  Chooser chooser(seed);
  Variation result;
  result.sync_percent = chooser.pick("sync_percent", {0u, 5u, 30u, 100u});
  result.uri_keys = choose_mount(chooser);
  result.options.create_if_missing = true;
  result.options.create_missing_column_families = true;
  result.options.paranoid_checks = true;
  result.options.keep_log_file_num = 3;
  choose_log(chooser, result.options, family_count);
  choose_tree(chooser, result.options);
  choose_io(chooser, result.options);
  result.text = chooser.text();
  return result;
}

}  // namespace basalt::stress
