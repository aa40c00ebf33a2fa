// MemoryDisk: a block device in memory shared with child processes, for tests of what survives.
//
// The contents outlive every Device opened on them and the death of a child process. Writes go to a
// volatile cache (`contents`) and reach `stable` by flush or FUA; power_cut() throws away what did not.
// Commands are counted; writes can be made to fail. Not for concurrent use by several processes.
#pragma once

#include <basalt/device.h>

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

namespace basalt {

struct MemoryDiskOptions {
  uint64_t bytes = uint64_t{64} << 20;
  uint32_t block_bytes = 4096;
  uint32_t atomic_blocks = 1;
};

class MemoryDisk {
 public:
  explicit MemoryDisk(const MemoryDiskOptions& options = {});
  ~MemoryDisk();

  std::unique_ptr<Device> open();
  // Unflushed blocks go back to what is stable; with a seed, each block by the toss of a coin.
  void power_cut();
  void power_cut(uint64_t seed);

  struct Counters {
    uint64_t reads = 0, writes = 0, fua_writes = 0, flushes = 0, written_bytes = 0;
    Counters operator-(const Counters& o) const {
      return {reads - o.reads, writes - o.writes, fua_writes - o.fua_writes, flushes - o.flushes,
              written_bytes - o.written_bytes};
    }
  };
  Counters counters();

  // Writes and flushes for which this returns true fail with io_error.
  void fail_if(std::function<bool(const Io&)> predicate);
  void fail_reads(bool fail) { fail_reads_.store(fail); }
  std::byte* contents() { return contents_; }
  // Changes bytes behind everyone's back, stable too.
  void damage(uint64_t offset, size_t length);
  const MemoryDiskOptions& options() const { return options_; }

 private:
  friend class MemoryChannel;
  StatusCode execute(Io& io);
  void make_stable(uint64_t block);

  const MemoryDiskOptions options_;
  const uint64_t blocks_;
  std::mutex mutex_;
  std::function<bool(const Io&)> fail_;
  std::atomic<bool> fail_reads_{false};
  size_t map_bytes_ = 0;
  std::byte* contents_ = nullptr;
  std::byte* stable_ = nullptr;
  std::byte* dirty_ = nullptr;  // a byte a block
  Counters* counters_ = nullptr;
};

}  // namespace basalt
