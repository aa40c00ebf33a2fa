// Machine: a simulated computer with one disk, on which a file system is formatted, mounted, and crashes.
//
// A machine boots with a boot id, a directory for shared memory and a Context of its own. A crash has
// two steps. stop() ends the disk for the running stack (unless a cut_after() did so before), which then
// fails at everything; the test destroys its files. restart() destroys what is left of the stack and
// boots on what the crash left behind:
// - power loss: a survivor of the disk, another boot id, and the shared memory either empty (as after a
//   real power cut) or still there (a stale tail, which must not be replayed);
// - process death: the same boot id, the shared memory as it was at the moment of the cut, and everything
//   the disk had executed.
// With Background::stepped the run depends on the seed alone, as long as the test uses one thread. With
// Background::thread and the scheduler's clock (base/sim_scheduler.h) it does so with many.
#pragma once

#include <basalt/context.h>
#include <basalt/file_system.h>

#include <memory>
#include <string>

#include "crash/file_model.h"
#include "sim/seeded_random.h"
#include "sim/sim_disk.h"
#include "sim/step_clock.h"
#include "sim/step_executor.h"

namespace basalt::crash {

enum class Background : uint8_t { stepped, thread };

struct MachineOptions {
  sim::SimOptions disk;
  FormatOptions format;
  MountOptions mount{
      .cache_bytes = 1 << 20, .metadata_cache_bytes = 1 << 20, .tail_bytes = 2 << 20};
  Background background = Background::stepped;
  uint64_t seed = 1;
  Clock* clock = nullptr;  // null: stepped, a StepClock; with a thread, the system's
};

class Machine {
 public:
  explicit Machine(const MachineOptions& options);
  ~Machine();

  Status format();
  Status mount();
  Status mount(const MountOptions& options);
  // Cleanly.
  Status unmount();
  FileSystem& fs() { return *fs_; }
  bool mounted() const { return fs_ != nullptr; }
  // Gives the mounted file system away, to be destroyed before the next crash.
  std::unique_ptr<FileSystem> take_fs() { return std::move(fs_); }
  // Of the disk as it is now, on a copy; the file system must not be mounted.
  Result<CheckReport> check();

  // What stop(), or the cut_after() that comes before it, is to be. Holds for the present disk.
  void plan(Crash crash);
  void stop() { disk_->power_cut(); }
  void restart(uint64_t seed);
  // Destroys what is left of the stack and boots after a power loss that left `disk`; the shared memory
  // of the boot before is still there.
  void start_on(std::shared_ptr<sim::SimDisk> disk);

  sim::SimDisk& disk() { return *disk_; }
  std::shared_ptr<sim::SimDisk> shared_disk() { return disk_; }
  void replace_disk(std::shared_ptr<sim::SimDisk> disk) { disk_ = std::move(disk); }
  Context& context() { return *context_; }
  // Lets background work go on by one task; nothing with Background::thread.
  void step_background() { executor_.run_one(); }
  // What the stack logged since the last boot.
  std::string log_text();
  const std::string& shared_memory_dir() const { return shared_memory_dir_; }

 private:
  class Log;
  void boot(bool same_boot_id);
  std::string make_shared_memory_dir();

  const MachineOptions options_;
  std::shared_ptr<sim::SimDisk> disk_;
  std::string base_dir_;
  std::string shared_memory_dir_;
  Crash crash_ = Crash::power_loss;
  std::string dead_process_dir_;  // the shared memory at the moment of the cut
  unsigned directories_ = 0;
  unsigned boots_ = 0;
  std::unique_ptr<Log> log_;
  sim::SeededRandom random_;
  sim::StepClock clock_;
  sim::StepExecutor executor_;
  std::unique_ptr<Context> context_;
  std::unique_ptr<FileSystem> fs_;
};

}  // namespace basalt::crash
