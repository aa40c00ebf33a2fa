// A disk that times out, once, for a while or for good, and a disk that vanishes and returns, with its cache or
// without: whatever the moment, nothing that the file system has promised to keep is lost, and what it cannot
// promise any more it says. Method: random histories, on one thread or on three that take turns as the seed
// decides; when an operation has failed, and the disk is well again, everything is asked to be synced once more,
// and each promise counts. Then the power goes, or the store is unmounted and mounted again on the same disk,
// and what is found is compared with the model; it must check clean, and an emptied store have all its space.
#include <gtest/gtest.h>

#include <iostream>
#include <memory>
#include <vector>

#include "base/sim_scheduler.h"
#include "base/sync.h"
#include "crash/machine.h"
#include "crash/operation.h"
#include "crash/pattern.h"
#include "crash/round.h"
#include "crash/settings.h"
#include "crash/workload.h"

namespace basalt::crash {
namespace {

constexpr OpSet kAllOps{Op::read, Op::write, Op::write_zeroes, Op::discard, Op::flush};

enum class Trouble : uint8_t {
  some_timeouts,
  only_timeouts,  // from some command on
  vanishes_with_cache,
  vanishes_without_cache,
};

struct Seen {
  unsigned stopped = 0;         // histories that an error ended
  unsigned promised_after = 0;  // syncs that succeeded after it
  unsigned refused_after = 0;   // histories after which at least one did not
  unsigned unmounted = 0;       // cleanly, after it
};

class DeviceFault : public testing::TestWithParam<Trouble> {
 protected:
  void run_round(uint64_t seed, unsigned threads, Clock* clock) {
    random_ = sim::Random(seed);
    MachineOptions options = machine_options(random_.next());
    options.clock = clock;
    if (threads > 1) options.background = Background::thread;
    machine_ = std::make_unique<Machine>(options);
    must(machine_->format());
    must(machine_->mount());
    const uint64_t empty_bytes = machine_->fs().space().free_bytes;
    models_.clear();
    for (unsigned i = 0; i < threads; ++i) {
      models_.push_back(std::make_unique<TreeModel>("/t" + std::to_string(i)));
      must(machine_->fs().make_directory(models_.back()->root()));
    }
    must(machine_->fs().sync_all());
    for (unsigned generation = 0; generation < 3 && !HasFailure(); ++generation) {
      live();
      if (!HasFailure()) end();
      if (!HasFailure()) compare();
    }
    if (!HasFailure()) empty_it(empty_bytes);
    machine_.reset();
  }

  // The whole round in a simulation: where locks and waits hand over is the seed's choice.
  void run_scheduled_round(uint64_t seed, unsigned threads) {
    sim::Scheduler scheduler({.seed = seed});
    const Status status = scheduler.run([&] { run_round(seed, threads, &scheduler.clock()); });
    EXPECT_TRUE(status.ok()) << status.to_string();
  }

  void empty_it(uint64_t empty_bytes) {
    must(remove_all(machine_->fs(), ""));
    must(machine_->unmount());
    check();
    must(machine_->mount());
    if (HasFailure()) return;
    EXPECT_EQ(machine_->fs().space().free_bytes, empty_bytes);
  }

  void report(uint64_t histories) const {
    std::cout << "device faults: " << seen_.stopped << " histories of " << histories
              << " ended by one, " << seen_.promised_after << " promises after it, "
              << seen_.refused_after << " with a refusal, " << seen_.unmounted
              << " clean unmounts\n";
  }

  static void must(const Status& status) { EXPECT_TRUE(status.ok()) << status.to_string(); }

  void start_trouble() {
    sim::SimDisk& disk = machine_->disk();
    const uint64_t soon = random_.below(random_.chance(50) ? 30 : 300);
    if (GetParam() == Trouble::vanishes_with_cache ||
        GetParam() == Trouble::vanishes_without_cache) {
      return disk.vanish_after(1 + soon);
    }
    sim::SimFault fault{.ops = kAllOps,
                        .first = Lba{0},
                        .block_count = BlockCount{disk.block_count()},
                        .kind = sim::FaultKind::timeout};
    fault.skip = soon;
    fault.late_polls = static_cast<unsigned>(random_.below(6));
    if (GetParam() == Trouble::some_timeouts) fault.times = 1 + random_.below(3);
    disk.inject(fault);
  }

  void end_trouble(sim::Random& random) {
    machine_->disk().clear_faults();
    machine_->disk().vanish_after(sim::SimDisk::kNever);
    machine_->disk().come_back(GetParam() == Trouble::vanishes_without_cache
                                   ? sim::SimDisk::Cache::lost
                                   : sim::SimDisk::Cache::kept,
                               random.next());
  }

  void live() {
    const auto disk = machine_->shared_disk();
    const auto troubles = [disk] { return disk->counters().injected_faults + disk->absences(); };
    const uint64_t before = troubles();
    std::vector<std::unique_ptr<Session>> sessions;
    for (const auto& model : models_) {
      sessions.push_back(
          std::make_unique<Session>(machine_->fs(), *model, [=] { return troubles() != before; }));
    }
    start_trouble();
    if (sessions.size() == 1) {
      run_history(*sessions[0], random_.next());
    } else {
      std::vector<Thread> threads;
      for (const auto& session : sessions) {
        threads.emplace_back(
            "history", [this, &session, seed = random_.next()] { run_history(*session, seed); });
      }
      for (Thread& thread : threads) thread.join();
    }
    end_trouble(random_);
    recent_.clear();
    for (const auto& session : sessions) {
      ask_again(*session);
      recent_ += "last operations below " + session->model().root() + ":\n" + session->recent();
    }
    for (const auto& session : sessions) {
      session->close_all();
      EXPECT_EQ(session->problems(), std::vector<std::string>{}) << session->recent();
    }
    EXPECT_EQ(disk->counters().buffers_changed, 0u);
  }

  void run_history(Session& session, uint64_t seed) {
    sim::Random random(seed);
    HistoryRunner runner(session, [this] { machine_->step_background(); });
    const unsigned steps = models_.size() == 1 ? 250 : 80;
    const unsigned background = models_.size() == 1 ? 15 : 0;
    for (const Operation& operation :
         make_history(session.model(), random.next(), steps, {.background_percent = background})) {
      if (!runner.run(operation)) return;
      // A short absence may pass without anybody having asked.
      if (machine_->disk().is_away() && random.chance(20)) end_trouble(random);
    }
  }

  void ask_again(Session& session) {
    const unsigned wanted = static_cast<unsigned>(session.files().size()) + 2;
    const bool stopped = session.stopped();
    const unsigned promised = session.ask_again();
    if (!stopped) return;
    ++seen_.stopped;
    seen_.promised_after += promised;
    if (promised < wanted) ++seen_.refused_after;
  }

  void end() {
    if (random_.chance(50)) {
      machine_->stop();
      machine_->restart(random_.next());
    } else {
      const Status status = machine_->unmount();
      if (status.ok()) {
        ++seen_.unmounted;
        for (const auto& model : models_) model->synced(model->confirmed());
      }
    }
    check();
    must(machine_->mount());
  }

  void check() {
    const Result<CheckReport> report = machine_->check();
    ASSERT_TRUE(report) << report.error().to_string();
    EXPECT_EQ(report->problems, std::vector<std::string>{}) << recent_ << machine_->log_text();
  }

  void compare() {
    for (const auto& model : models_) {
      const Result<FoundTree> found = find_all(machine_->fs(), model->root(), random_.next());
      ASSERT_TRUE(found) << found.error().to_string();
      EXPECT_EQ(model->verify(*found, Crash::power_loss, TreeModel::Then::restart),
                std::vector<std::string>{})
          << recent_ << "log:\n"
          << machine_->log_text();
    }
  }

  sim::Random random_{1};
  std::unique_ptr<Machine> machine_;
  std::vector<std::unique_ptr<TreeModel>> models_;
  std::string recent_;
  Seen seen_;
};

TEST_P(DeviceFault, LosesNothingThatWasPromised) {
  const uint64_t count = rounds(25);
  for (uint64_t i = 0; i < count; ++i) {
    const uint64_t seed = first_seed() + i;
    SCOPED_TRACE(replay_hint(seed));
    run_round(seed, 1, nullptr);
    ASSERT_FALSE(HasFailure());
  }
  report(3 * count);
  // The faults are met, and told, most of the time.
  EXPECT_GE(seen_.stopped, count);
  EXPECT_GE(seen_.refused_after + 1, count / 4);
}

TEST_P(DeviceFault, LosesNothingOfThreeThreads) {
  const uint64_t count = rounds(8);
  for (uint64_t i = 0; i < count; ++i) {
    const uint64_t seed = first_seed() + i;
    SCOPED_TRACE(replay_hint(seed));
    run_scheduled_round(seed, 3);
    ASSERT_FALSE(HasFailure());
  }
  report(9 * count);
  EXPECT_GE(seen_.stopped, count);
}

INSTANTIATE_TEST_SUITE_P(Kinds, DeviceFault,
                         testing::Values(Trouble::some_timeouts, Trouble::only_timeouts,
                                         Trouble::vanishes_with_cache,
                                         Trouble::vanishes_without_cache),
                         [](const auto& test) -> std::string {
                           switch (test.param) {
                             case Trouble::some_timeouts: return "some_timeouts";
                             case Trouble::only_timeouts: return "only_timeouts";
                             case Trouble::vanishes_with_cache: return "vanishes_with_cache";
                             case Trouble::vanishes_without_cache: return "vanishes_without_cache";
                           }
                           return "?";
                         });

// ---- One thing at a time

class Absence : public testing::TestWithParam<FileKind> {
 protected:
  void SetUp() override {
    ASSERT_TRUE(machine_.format().ok());
    ASSERT_TRUE(machine_.mount().ok());
  }
  std::unique_ptr<File> create(const std::string& path) {
    auto file = machine_.fs().create(path, GetParam(), {});
    EXPECT_TRUE(file) << file.error().to_string();
    return std::move(*file);
  }
  static MachineOptions machine_options() {
    MachineOptions options;
    options.disk.native_fua = false;
    options.mount.flush_to =
        MountOptions::FlushTo::device;  // flushed bytes are in the disk's cache
    return options;
  }
  Machine machine_{machine_options()};
};

// The disk goes and comes while nobody uses it, and its cache is empty afterwards. What was flushed to it before
// can be lost: no sync may cover it up. (Only the device's event tells; the store had not listened.)
TEST_P(Absence, ThatNobodyMetStillEndsEveryPromise) {
  const std::string bytes = pattern(1, 1, 0, 20'000);
  const auto kept = create("/kept"), hit = create("/hit");
  ASSERT_TRUE(kept->append(as_bytes(bytes)).ok());
  ASSERT_TRUE(kept->sync().ok());
  ASSERT_TRUE(machine_.fs().sync_all().ok());
  ASSERT_TRUE(hit->append(as_bytes(bytes)).ok());
  ASSERT_TRUE(hit->start_writeback(0, bytes.size()).ok());
  machine_.step_background();
  const uint64_t unflushed = machine_.disk().unflushed_writes();
  EXPECT_GT(unflushed, 0u) << "some of it waits in the disk's cache";
  machine_.disk().vanish();
  machine_.disk().come_back(sim::SimDisk::Cache::lost, 0);

  EXPECT_FALSE(hit->sync().ok());
  EXPECT_FALSE(machine_.fs().sync_all().ok());
  EXPECT_FALSE(machine_.fs().make_directory("/more").ok() &&
               machine_.fs().sync_directory("/").ok());
  std::string back(bytes.size(), '\xee');
  const auto length = kept->read(0, as_writable_bytes(back));
  ASSERT_TRUE(length) << "reading goes on: " << length.error().to_string();
  EXPECT_EQ(back, bytes);
}

// A mount of a disk that is away fails and says why; when the disk is back it mounts, and all is there.
TEST_P(Absence, OfTheDiskAtMountIsToldAndPasses) {
  const std::string bytes = pattern(1, 1, 0, 5000);
  {
    const auto file = create("/file");
    ASSERT_TRUE(file->append(as_bytes(bytes)).ok());
    ASSERT_TRUE(file->sync().ok());
  }
  machine_.disk().vanish();
  const Status unmounted = machine_.unmount();
  EXPECT_FALSE(unmounted.ok());
  const Status away = machine_.mount();
  EXPECT_EQ(away.code(), StatusCode::device_removed) << away.to_string();
  machine_.disk().come_back(sim::SimDisk::Cache::lost, 0);
  const Status back = machine_.mount();
  ASSERT_TRUE(back.ok()) << back.to_string();
  const auto file = machine_.fs().open("/file", OpenMode::read_only);
  ASSERT_TRUE(file) << file.error().to_string();
  std::string found(bytes.size() + 1, '\xee');
  const auto length = (*file)->read(0, as_writable_bytes(found));
  ASSERT_TRUE(length) << length.error().to_string();
  EXPECT_EQ(found.substr(0, *length), bytes);
}

INSTANTIATE_TEST_SUITE_P(Kinds, Absence, testing::Values(FileKind::table, FileKind::log),
                         [](const auto& test) {
                           return test.param == FileKind::table ? "table" : "log";
                         });

}  // namespace
}  // namespace basalt::crash
