// See explorer.h.
#include "crash/explorer.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/try.h"
#include "blob/format.h"
#include "blob/superblock.h"
#include "crash/round.h"
#include "sim/sim_device.h"

namespace basalt::crash {
namespace {

using Selection = sim::FrozenDisk::Selection;

constexpr size_t kFewUnits = 5;   // so many: every subset of them
constexpr size_t kFewWrites = 4;  // so many: every subset of whole writes
// One state in so many is emptied; the recovery of one in so many is explored.
constexpr unsigned kEmptied = 16;
constexpr unsigned kRecovered = 12;
constexpr uint64_t kRecoveryStates = 3;  // of each moment of a recovery

// The states of `disk` to look at: the two extremes, then whatever fits into `most`.
std::vector<Selection> choose_states(const sim::FrozenDisk& disk, uint64_t most,
                                     sim::Random& random) {
  const size_t units = disk.units().size(), writes = disk.write_count();
  std::vector<Selection> chosen{Selection(units, false)};
  if (units == 0) return chosen;
  chosen.push_back(Selection(units, true));
  if (units <= kFewUnits && (uint64_t{1} << units) <= most) {
    for (uint64_t bits = 1; bits + 1 < uint64_t{1} << units; ++bits) {
      Selection kept(units);
      for (size_t i = 0; i < units; ++i) kept[i] = (bits >> i & 1) != 0;
      chosen.push_back(std::move(kept));
    }
    return chosen;
  }
  if (writes > 1 && writes <= kFewWrites && (uint64_t{1} << writes) <= most) {
    for (uint64_t bits = 1; bits + 1 < uint64_t{1} << writes; ++bits) {
      chosen.push_back(disk.select_writes(bits));
    }
  }
  while (chosen.size() < most) {
    Selection kept(units);
    const unsigned whole_percent = random.chance(50) ? 100 : 50;  // of the writes that are not torn
    const unsigned keep_percent = static_cast<unsigned>(random.between(10, 90));
    for (size_t i = 0; i < units;) {
      const uint64_t write = disk.units()[i].write;
      const bool whole = random.chance(whole_percent), keep = random.chance(keep_percent);
      for (; i < units && disk.units()[i].write == write; ++i) {
        kept[i] = whole ? keep : random.chance(keep_percent);
      }
    }
    chosen.push_back(std::move(kept));
  }
  return chosen;
}

// The newer superblock becomes unreadable. False: there is only one.
bool lose_newest_superblock(sim::SimImage& image) {
  std::optional<uint64_t> newest;
  uint64_t generation = 0;
  for (unsigned slot = 0; slot < 2; ++slot) {
    std::vector<std::byte> bytes(blob::kBlockBytes);
    image.read(blob::kSuperblockOffset[slot], bytes);
    const auto parsed = blob::parse_superblock(bytes, slot, image.size_bytes());
    if (!parsed) return false;
    if (!newest || parsed->generation > generation) newest = blob::kSuperblockOffset[slot];
    generation = std::max<uint64_t>(generation, parsed->generation);
  }
  image.write(*newest, std::vector<std::byte>(blob::kBlockBytes, std::byte{0x5a}));
  return true;
}

}  // namespace

class Explorer::Run {
 public:
  Run(Explorer& explorer, const ExplorerOptions& options, std::unordered_set<uint64_t>& seen)
      : explorer_(explorer),
        options_(options),
        seen_(seen),
        random_(options.seed),
        machine_(explorer.options_for(options.seed)) {
    MachineOptions looking = explorer.options_for(options.seed);
    looking.mount.flush_to = MountOptions::FlushTo::device;  // nobody appends: no memory to share
    looking_ = std::make_unique<Machine>(looking);
  }

  Exploration run() {
    const auto disk = std::make_shared<sim::SimDisk>(machine_options().disk, *explorer_.store_);
    machine_.start_on(disk);
    disk->ignore_flush(options_.ignored_flush);
    TreeModel model("/s");
    Session* session = nullptr;
    disk->on_command([&](const sim::FrozenDisk& frozen) {
      ++found_.commands;
      look_at_moment(frozen, model, session);
    });
    const Status mounted = machine_.mount();
    if (!mounted.ok()) return fail("mount before any crash: " + mounted.to_string());
    {
      Session histories(
          machine_.fs(), model, [] { return false; },
          SessionOptions{.expect_no_space = explorer_.scenario_.may_run_full});
      session = &histories;
      explorer_.scenario_.run(histories, machine_);
      histories.close_all();
      for (const std::string& problem : histories.problems()) fail(problem + histories.recent());
      if (explorer_.scenario_.may_run_full && histories.no_space_answers() == 0) {
        return fail("the store was never full");
      }
      if (!found_.problem.empty()) return found_;
      const Status status = machine_.unmount();
      if (!status.ok()) return fail("unmount: " + status.to_string());
      look_at_moment(disk->freeze(), model, session);
    }
    disk->on_command({});
    const sim::SimCounters counters = disk->counters();
    found_.flushes = counters.flushes + counters.fua_writes;
    return found_;
  }

 private:
  const MachineOptions& machine_options() const { return explorer_.options_; }

  const Exploration& fail(const std::string& problem) {
    if (found_.problem.empty()) found_.problem = problem;
    return found_;
  }

  void look_at_moment(const sim::FrozenDisk& frozen, const TreeModel& now, Session* session) {
    const bool wanted = options_.only_command == 0 || options_.only_command == found_.commands;
    if (!wanted || !found_.problem.empty() || options_.states_per_moment == 0) return;
    random_ =
        sim::Random(options_.seed + (found_.commands << 32));  // whatever was looked at before
    const std::shared_ptr<TreeModel> model = now.clone();
    std::unordered_set<uint64_t> looked_at;
    unsigned number = 0;
    for (const Selection& kept : choose_states(frozen, options_.states_per_moment, random_)) {
      const bool extreme = number++ < 2;
      const uint64_t hash = frozen.hash(kept);
      if (!looked_at.insert(hash).second) continue;
      seen_.insert(hash);
      sim::SimImage image = frozen.survivor(kept);
      std::string problem = look_at_state(image, *model, looked_at, 1);
      // Of the two extremes, also without the newer superblock.
      if (problem.empty() && extreme && lose_newest_superblock(image)) {
        ++found_.without_newest;
        problem = look_at_state(std::move(image), *model, looked_at, 1);
        if (!problem.empty()) problem = "without the newer superblock: " + problem;
      }
      if (problem.empty()) continue;
      fail("power lost after command " + std::to_string(found_.commands) + ", with " +
           std::to_string(std::count(kept.begin(), kept.end(), true)) + " of " +
           std::to_string(kept.size()) + " unflushed units kept:\n" + problem +
           "\nlast operations:\n" + (session == nullptr ? "  mount\n" : session->recent()) +
           "log:\n" + looking_->log_text());
      return;
    }
  }

  // Empty, or what is wrong with it. `looked_at`: the states that were compared with this model.
  std::string look_at_state(sim::SimImage image, TreeModel& model,
                            std::unordered_set<uint64_t>& looked_at, unsigned depth) {
    ++found_.states;
    if (depth > 1) ++found_.in_recovery;
    const bool explores_recovery = depth < kMaxDepth && random_.below(kRecovered) == 0;
    const bool empties = random_.below(kEmptied) == 0;
    std::vector<sim::FrozenDisk> recovery;
    sim::SimOptions disk_options = machine_options().disk;
    disk_options.seed = random_.next();
    const auto disk = std::make_shared<sim::SimDisk>(disk_options, std::move(image));
    looking_->start_on(disk);
    if (explores_recovery) {
      disk->on_command([&](sim::FrozenDisk frozen) { recovery.push_back(std::move(frozen)); });
    }
    std::string problem = recover_and_compare(model);
    disk->on_command({});
    if (problem.empty() && empties) problem = empty_it();
    if (looking_->mounted()) looking_->stop();  // quicker than to unmount
    for (const sim::FrozenDisk& frozen : recovery) {
      for (const Selection& kept : choose_states(frozen, kRecoveryStates, random_)) {
        if (!problem.empty()) return problem;
        const uint64_t hash = frozen.hash(kept);
        if (!looked_at.insert(hash).second) continue;
        seen_.insert(hash);
        problem = look_at_state(frozen.survivor(kept), model, looked_at, depth + 1);
        if (!problem.empty()) problem = "in the recovery from that, power lost again: " + problem;
      }
    }
    return problem;
  }

  std::string recover_and_compare(TreeModel& model) {
    const Result<CheckReport> report = looking_->check();
    if (!report) return "check: " + report.error().to_string();
    if (!report->clean()) return "check: " + report->problems.front();
    const Status mounted = looking_->mount();
    if (!mounted.ok()) return "mount: " + mounted.to_string();
    const Result<FoundTree> found = find_all(looking_->fs(), "/s", random_.next());
    if (!found) return "looking at what survived: " + found.error().to_string();
    const auto problems = model.verify(*found, Crash::power_loss, TreeModel::Then::look_only);
    return problems.empty() ? "" : problems.front();
  }

  // The space is all there again when everything is removed, and after a clean end nothing is amiss.
  std::string empty_it() {
    ++found_.emptied;
    Status status = remove_all(looking_->fs(), "");
    if (status.ok()) status = looking_->unmount();
    if (!status.ok()) return "emptying: " + status.to_string();
    const Result<CheckReport> report = looking_->check();
    if (!report) return "check of the emptied store: " + report.error().to_string();
    if (!report->clean()) return "check of the emptied store: " + report->problems.front();
    status = looking_->mount();
    if (!status.ok()) return "mount of the emptied store: " + status.to_string();
    const uint64_t free_bytes = looking_->fs().space().free_bytes;
    if (free_bytes == explorer_.empty_bytes_) return "";
    return "the emptied store has " + std::to_string(free_bytes) + " B free, not " +
           std::to_string(explorer_.empty_bytes_);
  }

  Explorer& explorer_;
  const ExplorerOptions options_;
  std::unordered_set<uint64_t>& seen_;
  sim::Random random_;
  Exploration found_;
  Machine machine_;                   // runs the scenario
  std::unique_ptr<Machine> looking_;  // boots on what a crash left
};

Explorer::Explorer(const Scenario& scenario, const MachineOptions& options)
    : scenario_(scenario), options_(options) {
  options_.disk.size_bytes = scenario.disk_bytes;
  Machine machine(options_);
  const auto must = [](const Status& status) {
    BASALT_CHECK(status.ok(), "a new store on an honest disk");
  };
  must(machine.format());
  must(machine.mount());
  empty_bytes_ = machine.fs().space().free_bytes;
  must(machine.fs().make_directory("/s"));
  must(machine.unmount());
  store_ = std::make_unique<sim::SimImage>(machine.disk().image());
}

Explorer::~Explorer() = default;

MachineOptions Explorer::options_for(uint64_t seed) const {
  MachineOptions options = options_;
  options.disk.seed = seed;
  return options;
}

Exploration Explorer::run(const ExplorerOptions& options, std::unordered_set<uint64_t>& seen) {
  return Run(*this, options, seen).run();
}

uint64_t Explorer::count_commands(uint64_t seed) {
  std::unordered_set<uint64_t> none;
  return run({.seed = seed, .states_per_moment = 0}, none).commands;
}

}  // namespace basalt::crash
