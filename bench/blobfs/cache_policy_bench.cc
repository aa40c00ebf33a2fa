// What the page cache keeps: its replacement policy against plain LRU, on the same traces.
//
//   cache_policy_bench     # hits and lru_hits: share of the random reads that were served from memory
//
// A trace mixes skewed random reads (what a cache is for) with what a database does beside them: full
// scans, and compactions that read their inputs once, write outputs and delete the inputs. The cache
// holds 16 384 pages, the data 65 536; where the reads go on during a compaction of everything, the data is 10 240, so
// that it fits, but not beside its successor. LRU here knows nothing but the order of accesses, as the
// kernel's page cache would if it had one list. Times are those of running the trace, not of I/O.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <list>
#include <random>
#include <unordered_map>
#include <vector>

#include "blobfs/page_cache.h"

namespace basalt::blobfs {
namespace {

constexpr uint64_t kCachePages = 16384;
constexpr uint64_t kDataPages = 65536;
constexpr uint64_t kFilePages = 4096;  // 16 MiB

struct Access {
  enum class Kind : uint8_t { get, scan, once, write, remove } kind;
  uint64_t file, page;
};
using Trace = std::vector<Access>;

// The database: which file holds each part of the data at the moment.
class Database {
 public:
  explicit Database(uint64_t pages = kDataPages, double skew = 0.9) : pages_(pages) {
    for (uint64_t i = 0; i < (pages + kFilePages - 1) / kFilePages; ++i)
      files_.push_back(next_file_++);
    double sum = 0;
    for (uint64_t rank = 1; rank <= pages; ++rank) {
      cumulative_.push_back(sum += 1 / std::pow(static_cast<double>(rank), skew));
    }
  }

  void gets(Trace& trace, int count) {
    std::uniform_real_distribution<double> any(0, cumulative_.back());
    while (count-- > 0) {
      const auto rank = std::lower_bound(cumulative_.begin(), cumulative_.end(), any(random_));
      // Popular pages lie anywhere.
      const uint64_t page = static_cast<uint64_t>(rank - cumulative_.begin()) * 40503 % pages_;
      trace.push_back({Access::Kind::get, files_[page / kFilePages], page % kFilePages});
    }
  }
  void scan(Trace& trace) {
    for (const uint64_t file : files_) {
      for (uint64_t page = 0; page < kFilePages; ++page) {
        trace.push_back({Access::Kind::scan, file, page});
      }
    }
  }
  // Rewrites a quarter of the files.
  void compact(Trace& trace) {
    for (size_t i = 0; i < files_.size() / 4; ++i) {
      const size_t victim = random_() % files_.size();
      const uint64_t from = files_[victim], to = next_file_++;
      for (uint64_t page = 0; page < kFilePages; ++page) {
        trace.push_back({Access::Kind::once, from, page});
        trace.push_back({Access::Kind::write, to, page});
      }
      files_[victim] = to;
      trace.push_back({Access::Kind::remove, from, 0});
    }
  }
  // Rewrites all files; their successors are read when the last is there.
  void compact_all(Trace& trace, int gets_per_page) {
    const std::vector<uint64_t> inputs = files_;
    for (uint64_t page = 0; page < pages_; ++page) {
      trace.push_back({Access::Kind::once, inputs[page / kFilePages], page % kFilePages});
      trace.push_back({Access::Kind::write, next_file_ + page / kFilePages, page % kFilePages});
      gets(trace, gets_per_page);
    }
    for (uint64_t& file : files_) file = next_file_++;
    for (const uint64_t file : inputs) trace.push_back({Access::Kind::remove, file, 0});
  }

 private:
  uint64_t pages_;
  std::mt19937_64 random_{7};
  std::vector<uint64_t> files_;
  std::vector<double> cumulative_;
  uint64_t next_file_ = 1;
};

class Lru {
 public:
  bool access(uint64_t file, uint64_t page) {
    const uint64_t key = file * kFilePages + page;
    const auto found = where_.find(key);
    const bool hit = found != where_.end();
    if (hit) order_.erase(found->second);
    order_.push_front(key);
    where_[key] = order_.begin();
    if (order_.size() > kCachePages) {
      where_.erase(order_.back());
      order_.pop_back();
    }
    return hit;
  }
  void remove(uint64_t file) {
    for (uint64_t page = 0; page < kFilePages; ++page) {
      const auto found = where_.find(file * kFilePages + page);
      if (found == where_.end()) continue;
      order_.erase(found->second);
      where_.erase(found);
    }
  }

 private:
  std::list<uint64_t> order_;
  std::unordered_map<uint64_t, std::list<uint64_t>::iterator> where_;
};

class Cache {
 public:
  Cache() { (void)cache_.reserve(kCachePages * PageCache::kPageBytes); }
  bool access(const Access& access) {
    using Kind = Access::Kind;
    if (access.kind != Kind::write) {
      const auto touch = access.kind == Kind::get    ? PageCache::Touch::reuse
                         : access.kind == Kind::scan ? PageCache::Touch::scan
                                                     : PageCache::Touch::last;
      if (read(access, touch)) return true;
      insert(access);
      if (touch != PageCache::Touch::reuse) read(access, touch);  // read ahead, then used
      return false;
    }
    insert(access);
    return false;
  }
  void remove(uint64_t file) { cache_.erase(file, 0, kFilePages); }

 private:
  bool read(const Access& access, PageCache::Touch touch) {
    return cache_.read(access.file, access.page * PageCache::kPageBytes, page_, touch) != 0;
  }
  void insert(const Access& access) {
    cache_.insert(access.file, access.page, page_, generation_, 0);
  }
  PageCache cache_;
  std::atomic<uint64_t> generation_{0};
  std::vector<std::byte> page_ = std::vector<std::byte>(PageCache::kPageBytes);
};

void run(benchmark::State& state, const Trace& trace) {
  uint64_t gets = 0, hits = 0, lru_hits = 0;
  for (auto _ : state) {
    Cache cache;
    Lru lru;
    gets = hits = lru_hits = 0;
    for (size_t i = 0; i < trace.size(); ++i) {
      const Access& access = trace[i];
      if (access.kind == Access::Kind::remove) {
        cache.remove(access.file);
        lru.remove(access.file);
        continue;
      }
      const bool hit = cache.access(access);
      const bool lru_hit = lru.access(access.file, access.page);
      if (access.kind != Access::Kind::get || i < trace.size() / 4) continue;  // warm-up
      ++gets;
      hits += hit;
      lru_hits += lru_hit;
    }
  }
  state.counters["hits"] = static_cast<double>(hits) / static_cast<double>(gets);
  state.counters["lru_hits"] = static_cast<double>(lru_hits) / static_cast<double>(gets);
}

void gets_alone(benchmark::State& state) {
  Database database;
  Trace trace;
  database.gets(trace, 1000000);
  run(state, trace);
}
void gets_and(benchmark::State& state, void (Database::*beside)(Trace&)) {
  Database database;
  Trace trace;
  for (int i = 0; i < 10; ++i) {
    database.gets(trace, 100000);
    (database.*beside)(trace);
  }
  run(state, trace);
}
// Uniform reads, so that each page is worth the same.
void gets_during_compactions(benchmark::State& state) {
  Database database(10240, 0);
  Trace trace;
  for (int i = 0; i < 10; ++i) {
    database.gets(trace, 50000);
    database.compact_all(trace, static_cast<int>(state.range(0)));
  }
  run(state, trace);
}

BENCHMARK(gets_alone)->Iterations(1)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(gets_and, scans, &Database::scan)->Iterations(1)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(gets_and, compactions, &Database::compact)
    ->Iterations(1)
    ->Unit(benchmark::kMillisecond);
BENCHMARK(gets_during_compactions)
    ->ArgName("per_page")
    ->Arg(0)
    ->Arg(1)
    ->Arg(4)
    ->Iterations(1)
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace basalt::blobfs

BENCHMARK_MAIN();
