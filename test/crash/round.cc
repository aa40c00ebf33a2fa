// See round.h. A round is: format; then per generation: histories until the crash, perhaps crashes during
// recovery, comparison with the models, perhaps a clean unmount and check; at the end everything is
// removed and the free space compared with that of the empty store.
#include "crash/round.h"

#include <cstdlib>
#include <memory>

#include "base/sim_scheduler.h"
#include "base/sync.h"
#include "base/try.h"
#include "crash/workload.h"

namespace basalt::crash {
namespace {

class Round {
 public:
  Round(const RoundOptions& options, Clock* clock)
      : options_(options), random_(options.seed), machine_(make_machine(clock)) {}

  RoundResult run() {
    if (!set_up()) return std::move(result_);
    for (unsigned i = 0; i < options_.generations && result_.ok(); ++i) {
      live();
      if (!result_.ok() || !recover()) break;
      compare(TreeModel::Then::restart);
      if (result_.ok() && random_.chance(40)) pass_cleanly();
    }
    if (result_.ok()) empty_it();
    return std::move(result_);
  }

 private:
  MachineOptions make_machine(Clock* clock) {
    MachineOptions options = machine_options(options_.seed);
    options.clock = clock;
    options.disk.ignore_flush = options_.ignore_flush;
    options.disk.trace = options_.trace;
    if (options_.threads > 1) {
      options.background = Background::thread;
      if (random_.chance(50)) options.disk.latency = std::chrono::microseconds(50);
    }
    return options;
  }

  void trace(const std::string& line) {
    if (options_.trace) options_.trace->add(line);
  }
  bool problem(std::string what) {
    result_.problems.push_back(std::move(what));
    result_.history += "log since the last boot:\n" + machine_.log_text();
    keep_image();
    return false;
  }
  void keep_image() {
    const char* directory = std::getenv("BASALT_CRASH_KEEP");
    if (directory == nullptr || crashed_ == nullptr) return;
    const std::string path = std::string(directory) + "/crashed-" + std::to_string(options_.seed);
    const Status status = crashed_->save(path);
    result_.history += status.ok() ? "crashed disk: " + path + "\n" : status.to_string() + "\n";
  }
  bool good(const Status& status, const std::string& what) {
    trace(what + " = " + status.to_string());
    return status.ok() || problem(what + ": " + status.to_string());
  }

  bool set_up() {
    if (!good(machine_.format(), "format") || !good(machine_.mount(), "first mount")) return false;
    empty_bytes_ = machine_.fs().space().free_bytes;
    for (unsigned i = 0; i < options_.threads; ++i) {
      models_.push_back(std::make_unique<TreeModel>("/t" + std::to_string(i)));
      if (!good(machine_.fs().make_directory(models_[i]->root()), "mkdir")) return false;
    }
    if (!good(machine_.fs().sync_all(), "sync_all")) return false;
    if (options_.drop_flushes) {
      machine_.disk().inject({.ops = {Op::flush},
                              .first = Lba{0},
                              .block_count = BlockCount{machine_.disk().block_count()},
                              .kind = sim::FaultKind::dropped});
    }
    return true;
  }

  // Histories until the crash.
  void live() {
    crash_ = options_.process_death && (!options_.power_loss || random_.chance(50))
                 ? Crash::process_death
                 : Crash::power_loss;
    machine_.plan(crash_);
    if (random_.chance(85)) {
      machine_.disk().cut_after(1 + random_.below(random_.chance(50) ? 40 : 600));
    }
    std::vector<std::unique_ptr<Session>> sessions;
    const auto disk = machine_.shared_disk();
    const size_t first = result_.histories.size();
    for (const auto& model : models_) {
      sessions.push_back(std::make_unique<Session>(
          machine_.fs(), *model, [disk] { return disk->is_cut(); },
          SessionOptions{.crash = crash_, .trace = options_.trace.get()}));
      result_.histories.push_back(next_history(*model, random_.next()));
    }
    if (sessions.size() == 1) {
      run_history(*sessions[0], result_.histories[first]);
    } else {
      std::vector<Thread> threads;
      for (size_t i = 0; i < sessions.size(); ++i) {
        threads.emplace_back("history", [this, &sessions, first, i] {
          run_history(*sessions[i], result_.histories[first + i]);
        });
      }
      for (Thread& thread : threads) thread.join();
    }
    machine_.stop();
    result_.history.clear();
    for (const auto& session : sessions) {
      for (const std::string& what : session->problems()) result_.problems.push_back(what);
      result_.history +=
          "last operations below " + session->model().root() + ":\n" + session->recent();
    }
    if (disk->counters().buffers_changed > 0) {
      problem(std::to_string(disk->counters().buffers_changed) +
              " buffers were changed while being written");
    }
    if (!result_.ok()) result_.history += "log since the last boot:\n" + machine_.log_text();
  }

  History next_history(const TreeModel& model, uint64_t seed) const {
    if (options_.histories != nullptr) {
      const size_t number = result_.histories.size();
      return number < options_.histories->size() ? (*options_.histories)[number] : History{};
    }
    sim::Random random(seed);
    WorkloadOptions options;
    options.sync_percent = random.chance(50) ? 12 : 3;
    if (options_.threads == 1) options.background_percent = 15;
    return make_history(model, random.next(), options_.steps, options);
  }

  void run_history(Session& session, const History& history) {
    HistoryRunner runner(session, [this] { machine_.step_background(); });
    for (const Operation& operation : history) {
      if (!runner.run(operation)) return;
    }
  }

  // Restarts and mounts, with further crashes in between.
  bool recover() {
    machine_.restart(random_.next());
    for (unsigned tries = 0; random_.chance(40) && tries < 4; ++tries) {
      if (random_.chance(50) && !check("the crashed store")) return false;
      // The power may go after the process has died, but a dead process cannot undo a power cut.
      Crash next = crash_;
      if (options_.power_loss && random_.chance(30)) next = Crash::power_loss;
      machine_.plan(next);
      machine_.disk().cut_after(1 + random_.below(25));
      const Status status = machine_.mount();
      const bool cut = machine_.disk().is_cut();
      trace("mount = " + status.to_string());
      result_.history += std::string(next == Crash::power_loss ? "power loss " : "process death ") +
                         (cut ? "during recovery: " + status.to_string() : "after recovery") + "\n";
      if (!status.ok() && !cut)
        return good(status, "mount after " + std::to_string(tries) + " cuts");
      if (cut) ++result_.cuts_in_recovery;
      machine_.stop();
      crash_ = next;
      machine_.restart(random_.next());
    }
    crashed_ = std::make_unique<sim::SimImage>(machine_.disk().image());
    return check("the crashed store") && good(machine_.mount(), "mount after the crash");
  }

  bool check(const std::string& what) {
    const Result<CheckReport> report = machine_.check();
    if (!report) return good(report.error(), "check of " + what);
    for (const std::string& found : report->problems) problem("check of " + what + ": " + found);
    return report->clean();
  }

  void compare(TreeModel::Then then) {
    for (const auto& model : models_) {
      const Result<FoundTree> found = find_all(machine_.fs(), model->root(), random_.next());
      if (!found) {
        good(found.error(), "looking at what survived below " + model->root());
        continue;
      }
      for (const std::string& what : model->verify(*found, crash_, then)) {
        problem(std::string(crash_ == Crash::power_loss ? "after power loss: "
                                                        : "after process death: ") +
                what);
      }
    }
  }

  void pass_cleanly() {
    if (good(machine_.unmount(), "unmount") && check("the cleanly unmounted store") &&
        good(machine_.mount(), "mount after a clean unmount")) {
      crash_ = Crash::process_death;  // nothing may be lost
      compare(TreeModel::Then::look_only);
    }
  }

  void empty_it() {
    if (!good(remove_all(machine_.fs(), ""), "removing everything") ||
        !good(machine_.unmount(), "unmount of the emptied store") || !check("the emptied store") ||
        !good(machine_.mount(), "mount of the emptied store")) {
      return;
    }
    const uint64_t free_bytes = machine_.fs().space().free_bytes;
    if (free_bytes != empty_bytes_) {
      problem("the emptied store has " + std::to_string(free_bytes) + " B free, the new one had " +
              std::to_string(empty_bytes_));
    }
  }

  const RoundOptions options_;
  sim::Random random_;
  RoundResult result_;
  Machine machine_;
  std::vector<std::unique_ptr<TreeModel>> models_;
  std::unique_ptr<sim::SimImage> crashed_;  // as it was before the last mount
  Crash crash_ = Crash::power_loss;
  uint64_t empty_bytes_ = 0;
};

}  // namespace

std::string RoundResult::text() const {
  std::string text;
  for (const std::string& problem : problems) text += problem + "\n";
  return text + history;
}

RoundResult run_round(const RoundOptions& options) {
  if (!options.scheduled) return Round(options, nullptr).run();
  sim::Scheduler scheduler({.seed = options.seed});
  RoundResult result;
  const Status status = scheduler.run([&] { result = Round(options, &scheduler.clock()).run(); });
  if (!status.ok()) result.problems.push_back("the threads' scheduler: " + status.to_string());
  return result;
}

MachineOptions machine_options(uint64_t seed) {
  sim::Random random(~seed);
  MachineOptions options;
  options.seed = seed;
  options.disk.seed = random.next();
  options.disk.size_bytes = uint64_t{32} << 20;
  options.disk.block_bytes = random.chance(50) ? 512 : 4096;
  if (random.chance(30)) options.disk.atomic_blocks = 4096 / options.disk.block_bytes;
  options.disk.volatile_cache = random.chance(90);
  options.disk.native_fua = random.chance(50);
  options.disk.max_delay_polls = static_cast<unsigned>(random.below(4));
  if (random.chance(20)) options.disk.max_transfer_blocks = 65536 / options.disk.block_bytes;
  options.format.journal_bytes = uint64_t{1} << 20;
  options.format.cluster_bytes = random.chance(50) ? 65536 : 16384;
  options.format.data_checksums = seed % 2 == 0;
  options.mount.cache_bytes = random.chance(30) ? 0 : uint64_t{1} << 20;
  options.mount.metadata_cache_bytes = random.chance(30) ? 256 << 10 : 4 << 20;
  options.mount.discard = random.chance(30);
  if (random.chance(25)) options.mount.flush_to = MountOptions::FlushTo::device;
  return options;
}

Status remove_all(FileSystem& fs, const std::string& directory) {
  BASALT_TRY_ASSIGN(const auto entries, fs.list(directory.empty() ? "/" : directory));
  for (const DirectoryEntry& entry : entries) {
    const std::string path = directory + "/" + entry.name;
    if (entry.is_directory) {
      BASALT_TRY(remove_all(fs, path));
      BASALT_TRY(fs.remove_directory(path));
    } else {
      BASALT_TRY(fs.remove(path));
    }
  }
  return {};
}

}  // namespace basalt::crash
