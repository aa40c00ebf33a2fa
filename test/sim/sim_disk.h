// SimDisk: a disk with a volatile write cache, in RAM, whose power can be cut.
//
// The disk keeps what a reader sees (`current`), what is on stable media (`durable`) and the writes in
// between, in the order they were executed. A flush makes durable what had *completed* before it was
// submitted, on any channel, and nothing more; a FUA write only itself. power_cut() freezes the disk: from
// then on every command fails with device_removed and nothing is acknowledged any more. What a machine
// would find after the cut is surviving_image(seed): the durable bytes plus any subset of the unflushed
// writes, each possibly torn at the atomic unit. One frozen disk gives as many survivors as there are
// seeds. A disk may also vanish and return as the same disk, with its cache or with what a power loss of its
// own has left of it. What else it does wrong is said in sim_faults.h.
// Invariants: a write that was durable never loses to an older one; `durable` changes only by completions
// and, when the disk returns without its cache, by what survives of that.
//
// The code: commands in sim_disk.cc, power and survivors in sim_disk_power.cc, faults in sim_disk_faults.cc.
// The device over it is in sim_device.h. Thread rules: every member may be called from any thread.
#pragma once

#include <basalt/device.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "base/sync.h"
#include "sim/frozen_disk.h"
#include "sim/random.h"
#include "sim/sim_faults.h"
#include "sim/sim_image.h"
#include "sim/sim_trace.h"

namespace basalt::sim {

struct SimOptions {
  uint64_t size_bytes = uint64_t{32} << 20;
  uint32_t block_bytes = 512;
  uint32_t atomic_blocks = 1;        // power-fail atomic unit; aligned to its own size
  bool volatile_cache = true;        // false: a completed write is durable
  bool native_fua = true;            // false: the block core makes FUA of write and flush
  bool ignore_flush = false;         // a dishonest disk: flush and FUA answer ok and do nothing
  bool log_commands = false;         // keep every command for commands()
  uint32_t max_transfer_blocks = 0;  // largest command the disk takes; 0: any
  // Completion: each command waits for 0 … max_delay_polls further polls, in seeded random order.
  unsigned max_delay_polls = 2;
  Duration latency{};  // and at least this long
  uint64_t seed = 1;
  std::shared_ptr<SimTrace> trace{};  // gets every command of this disk and its survivors
};

// One command as the disk executed it.
struct SimCommand {
  Op op = Op::read;
  bool fua = false;
  Lba lba;
  BlockCount block_count;
  StatusCode status = StatusCode::ok;
};

struct SimCounters {
  uint64_t reads = 0, writes = 0, fua_writes = 0, flushes = 0, discards = 0, write_zeroes = 0;
  uint64_t read_bytes = 0, written_bytes = 0;
  // Commands that can change what survives: everything but reads. The clock of cut_after().
  uint64_t media_commands = 0;
  // Writes whose buffer the caller changed before the completion: a breach of the Io's contract.
  uint64_t buffers_changed = 0;
  uint64_t injected_faults = 0;  // commands that a fault struck
};

enum class Damage : uint8_t { flip_bit, zeros, garbage };

// Of the Io's bytes.
uint32_t crc_of(const Io& io);

class SimDisk {
 public:
  static constexpr uint64_t kNever = ~uint64_t{0};

  explicit SimDisk(const SimOptions& options);
  SimDisk(const SimOptions& options, SimImage image);  // the image is durable

  const SimOptions& options() const { return options_; }
  uint64_t block_count() const { return options_.size_bytes / options_.block_bytes; }

  // ---- Power
  void power_cut();
  // Cuts the power when `commands` more media commands have been executed: the last of them is executed
  // but never completes. kNever takes it back.
  void cut_after(uint64_t commands);
  bool is_cut() const;
  // After each media command has been executed and before it completes: the moments at which power loss
  // can leave something new. Must not call back into the disk.
  void on_command(std::function<void(FrozenDisk)> action);
  FrozenDisk freeze() const;
  // The flush or FUA write of this number, counted from 0 and from this call on, is acknowledged and not
  // carried out.
  void ignore_flush(uint64_t number);
  // Runs once, at the moment of the cut, before any other command; must not call back into the disk.
  void on_cut(std::function<void()> action);
  // The disk after the cut. Seed 0 loses every unflushed write, seed 1 keeps all, others choose.
  std::shared_ptr<SimDisk> surviving_image(uint64_t seed) const;
  // The disk after the death of the process that used it: what was executed is there, what was not
  // flushed is still only in the cache. Cut this one first, so that its users stop.
  std::shared_ptr<SimDisk> image_after_process_death(uint64_t seed) const;

  // ---- Vanishing. The disk goes away: every command fails with device_removed, those under way too, until it
  // returns. A cut disk neither vanishes nor returns.
  enum class Cache : uint8_t { kept, lost };
  void vanish();
  // As cut_after(): the last of so many more media commands is executed but never completes.
  void vanish_after(uint64_t commands);
  // Cache::lost: of the unflushed writes survives what surviving_image(seed) would have chosen.
  void come_back(Cache cache, uint64_t seed = 0);
  bool is_away() const;
  bool is_gone() const;  // away or cut
  // How often it has vanished so far.
  uint64_t absences() const { return absences_.load(); }
  // Told with the disk's lock held: must not call back into it.
  struct Watcher {
    virtual ~Watcher() = default;
    virtual void disk_vanished() = 0;
    virtual void disk_returned() = 0;
  };
  void add_watcher(Watcher& watcher);
  void remove_watcher(Watcher& watcher);

  // ---- Faults
  void inject(const SimFault& fault);
  void clear_faults();
  // Damages bytes at rest, durable and cached alike.
  void corrupt(uint64_t offset, uint64_t length, Damage damage, uint64_t seed = 1);
  void corrupt_block(uint64_t block, Damage damage = Damage::garbage) {
    corrupt(block * options_.block_bytes, options_.block_bytes, damage, block + 1);
  }

  // ---- Looking at it
  SimCounters counters() const;
  std::vector<SimCommand> commands() const;
  void clear_commands();
  uint64_t unflushed_writes() const;
  // What a reader sees; for saving to a file, comparing, taking apart.
  SimImage image() const;
  SimImage durable_image() const;

  // ---- For the device
  // A command between its execution and its completion.
  struct Execution {
    uint64_t number = 0;       // of the command, for the trace
    uint64_t absences = 0;     // before it
    uint64_t write = 0;        // sequence of the cached write; 0: none
    uint64_t flush_point = 0;  // completions a flush covers
    uint32_t data_crc = 0;     // of a write's bytes
    bool honest = true;        // the flush or FUA is carried out
    bool takes_effect = true;  // the completion applies what it promises
    unsigned late_polls = 0;
    StatusCode status = StatusCode::ok;
  };
  // To be called when a flush is submitted.
  uint64_t flush_point() const;
  // A command that was submitted `absences` ago; one that has seen the disk vanish fails.
  Execution execute(const Io& io, uint64_t flush_point, uint64_t absences);
  Execution execute(const Io& io, uint64_t flush_point) {
    return execute(io, flush_point, absences());
  }
  // Applies what the completion promises; device_removed when the disk went in between.
  StatusCode complete(const Io& io, const Execution& execution);
  // For the device's own choices of order and delay: all from one sequence, whichever channel asks.
  Random fork_random();

 private:
  struct CachedWrite {
    uint64_t sequence = 0;
    uint64_t completed_at = 0;  // 0: not yet
    uint64_t first_block = 0;
    std::shared_ptr<const std::vector<std::byte>> bytes;
    std::vector<bool> superseded;  // blocks that newer durable bytes have replaced; empty: none
    uint64_t blocks(uint32_t block_bytes) const { return bytes->size() / block_bytes; }
    bool is_superseded(uint64_t block) const { return !superseded.empty() && superseded[block]; }
  };

  // Power
  bool gone() const { return cut_ || away_; }
  void cut();
  void go_away();
  FrozenDisk freeze_locked() const;
  SimImage choose_survivors(uint64_t seed, Random& random) const;
  void finish_cached_writes();
  // Commands
  bool flush_is_honest();
  // What the command asks for, at `at` instead of its own blocks.
  void carry_out(const Io& io, Lba at, uint64_t flush_point, Execution& execution);
  void carry_out_with(const SimFault& fault, const Io& io, uint64_t flush_point,
                      Execution& execution);
  void time_out(const Io& io, uint64_t flush_point, Execution& execution);
  void carry_out_partly(const Io& io);
  void count_down(const Io& io);
  void trace_execution(const Io& io, const Execution& execution) const;
  StatusCode finish(const Io& io, const Execution& execution);
  std::vector<std::byte> new_content(const Io& io, Lba at);
  uint64_t cache(uint64_t first_block, std::vector<std::byte> bytes);
  void make_durable(CachedWrite&& write);
  void make_durable_up_to(uint64_t flush_point);
  void write_block(SimImage& image, const CachedWrite& write, uint64_t index) const;
  void survive(SimImage& image, const CachedWrite& write, unsigned tear_percent,
               Random& random) const;
  void count(const Io& io);

  const SimOptions options_;
  mutable Mutex mutex_;  // protects everything below
  SimImage current_;
  SimImage durable_;
  std::vector<CachedWrite> cache_;  // in order of execution
  SimFaults faults_;
  std::vector<SimCommand> commands_;
  SimCounters counters_;
  Random random_;
  uint64_t next_sequence_ = 1;
  uint64_t next_number_ = 1;  // of a command in the trace
  uint64_t completions_ = 0;
  uint64_t commands_until_cut_ = kNever;
  uint64_t commands_until_vanishing_ = kNever;
  bool cut_ = false;
  bool away_ = false;
  std::atomic<uint64_t> absences_{0};  // changes under mutex_
  std::vector<Watcher*> watchers_;
  std::function<void()> on_cut_;
  std::function<void(FrozenDisk)> on_command_;
  uint64_t flushes_until_ignored_ = kNever;
};

}  // namespace basalt::sim
