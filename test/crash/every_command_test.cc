// The power goes after every device command of a few small scenarios, mount and unmount included, one
// command after the other. For each moment several survivors are mounted and compared with the model: all
// unflushed writes lost, all kept, and some subsets.
#include <gtest/gtest.h>

#include "crash/machine.h"
#include "crash/round.h"
#include "crash/session.h"
#include "crash/settings.h"

namespace basalt::crash {
namespace {

using Scenario = void (*)(Session& session, Machine& machine);

// A write-ahead log as a database uses it.
void synced_log(Session& session, Machine&) {
  if (!session.create("/s/wal", FileKind::log)) return;
  for (size_t length : {100, 400, 12, 5000, 31, 9000}) {
    if (!session.append(session.files().back(), length) || !session.sync(session.files().back())) {
      return;
    }
  }
  session.close_all();
}

// A table, then the manifest that names it, then CURRENT replaced.
void install_table(Session& session, Machine&) {
  for (unsigned i = 1; i <= 3; ++i) {
    const std::string name = std::to_string(i);
    const bool done =
        session.create("/s/" + name + ".sst", FileKind::table) &&
        session.append(session.files().back(), 70'000) && session.sync(session.files().back()) &&
        session.close(session.files().back()) &&
        session.create("/s/manifest" + name, FileKind::log) &&
        session.append(session.files().back(), 300) && session.sync(session.files().back()) &&
        session.close(session.files().back()) && session.create("/s/tmp", FileKind::table) &&
        session.append(session.files().back(), 16) && session.sync(session.files().back()) &&
        session.close(session.files().back()) && session.rename("/s/tmp", "/s/current") &&
        session.sync_directory("/s");
    if (!done) return;
    if (i > 1 && !session.remove("/s/manifest" + std::to_string(i - 1))) return;
  }
}

// Space that one file frees is taken by the next at once.
void recycled_space(Session& session, Machine&) {
  for (unsigned i = 0; i < 6; ++i) {
    const FileKind kind = i % 2 == 0 ? FileKind::log : FileKind::table;
    const std::string path = "/s/f" + std::to_string(i);
    if (!session.create(path, kind) || !session.append(session.files().back(), 40'000)) return;
    if (i % 3 != 2 && !session.sync(session.files().back())) return;
    if (!session.close(session.files().back())) return;
    if (i > 0 && !session.remove("/s/f" + std::to_string(i - 1))) return;
  }
}

// Overwriting, cutting and punching a table that is already synced; truncating a log and going on.
void changed_in_place(Session& session, Machine&) {
  if (!session.create("/s/table", FileKind::table) ||
      !session.append(session.files().back(), 100'000) || !session.sync(session.files().back()) ||
      !session.write(session.files().back(), 5000, 3000) ||
      !session.truncate(session.files().back(), 60'000) ||
      !session.punch(session.files().back(), 3000, 20'000) ||
      !session.sync(session.files().back()) ||
      !session.write(session.files().back(), 80'000, 1000) ||
      !session.close(session.files().back())) {
    return;
  }
  if (!session.create("/s/log", FileKind::log) || !session.append(session.files().back(), 20'000) ||
      !session.sync(session.files().back()) || !session.truncate(session.files().back(), 777) ||
      !session.append(session.files().back(), 5000) || !session.sync(session.files().back())) {
    return;
  }
  session.close_all();
}

// Many names, so that checkpoints and journal records pass each other.
void many_names(Session& session, Machine& machine) {
  for (unsigned i = 0; i < 12; ++i) {
    const std::string directory = "/s/d" + std::to_string(i);
    if (!session.make_directory(directory)) return;
    for (unsigned j = 0; j < 3; ++j) {
      const std::string path = directory + "/" + std::to_string(j);
      if (!session.create(path, FileKind::table) || !session.append(session.files().back(), 10) ||
          !session.close(session.files().back())) {
        return;
      }
    }
    if (!session.link(directory + "/0", directory + "/same")) return;
    if (i % 3 == 0 && !session.rename(directory, "/s/renamed" + std::to_string(i))) return;
    if (i % 4 == 0 && !session.sync_all()) return;
    machine.step_background();
  }
}

struct Case {
  const char* name;
  Scenario scenario;
};
constexpr Case kCases[] = {{"synced_log", synced_log},
                           {"install_table", install_table},
                           {"recycled_space", recycled_space},
                           {"changed_in_place", changed_in_place},
                           {"many_names", many_names}};
constexpr const char* kDisks[] = {"512", "4096", "512FuaAtomic4096"};

MachineOptions options_for(unsigned disk) {
  MachineOptions options;
  options.disk.size_bytes = uint64_t{16} << 20;
  options.disk.block_bytes = disk == 1 ? 4096 : 512;
  options.disk.atomic_blocks = disk == 2 ? 8 : 1;
  options.disk.native_fua = disk == 2;
  options.disk.max_delay_polls = 1;
  options.format.journal_bytes = uint64_t{1} << 20;
  return options;
}

class EveryCommand : public testing::TestWithParam<std::tuple<unsigned, unsigned>> {
 protected:
  EveryCommand() : options_(options_for(std::get<1>(GetParam()))) {}

  // A closed store with the scenario's directory.
  void make_store() {
    Machine machine(options_);
    ASSERT_TRUE(machine.format().ok());
    ASSERT_TRUE(machine.mount().ok());
    ASSERT_TRUE(machine.fs().make_directory("/s").ok());
    const Status status = machine.unmount();
    ASSERT_TRUE(status.ok()) << status.to_string();
    store_ = std::make_unique<sim::SimImage>(machine.disk().image());
  }

  // False when the scenario ended before `command`.
  bool crash_at(uint64_t command, uint64_t survivors) {
    Machine machine(options_);
    machine.replace_disk(std::make_shared<sim::SimDisk>(options_.disk, *store_));
    const auto disk = machine.shared_disk();
    disk->cut_after(command);
    TreeModel model("/s");
    const Status mounted = machine.mount();
    EXPECT_TRUE(mounted.ok() || disk->is_cut()) << mounted.to_string();
    std::string history;
    if (mounted.ok()) {
      Session session(machine.fs(), model, [disk] { return disk->is_cut(); });
      kCases[std::get<0>(GetParam())].scenario(session, machine);
      session.close_all();
      EXPECT_EQ(session.problems(), std::vector<std::string>{});
      history = session.recent();
    }
    if (machine.mounted()) {
      const Status status = machine.unmount();
      EXPECT_TRUE(status.ok() || disk->is_cut()) << status.to_string();
      if (!disk->is_cut()) return false;
    }
    for (uint64_t seed = 0; seed < survivors; ++seed) look_at(machine, disk, model, seed, history);
    return true;
  }

  void look_at(Machine& machine, const std::shared_ptr<sim::SimDisk>& disk, TreeModel& model,
               uint64_t seed, const std::string& history) {
    SCOPED_TRACE("survivor " + std::to_string(seed) + " after\n" + history);
    machine.replace_disk(disk);
    machine.restart(seed);
    const Result<CheckReport> report = machine.check();
    ASSERT_TRUE(report) << report.error().to_string();
    EXPECT_EQ(report->problems, std::vector<std::string>{});
    const Status status = machine.mount();
    ASSERT_TRUE(status.ok()) << status.to_string();
    const Result<FoundTree> found = find_all(machine.fs(), "/s", seed);
    ASSERT_TRUE(found) << found.error().to_string();
    EXPECT_EQ(model.verify(*found, Crash::power_loss, TreeModel::Then::look_only),
              std::vector<std::string>{});
  }

  const MachineOptions options_;
  std::unique_ptr<sim::SimImage> store_;
};

TEST_P(EveryCommand, LeavesALegalState) {
  ASSERT_NO_FATAL_FAILURE(make_store());
  const uint64_t survivors = setting("BASALT_CRASH_SURVIVORS", 4);
  uint64_t command = setting("BASALT_CRASH_COMMAND", 1);
  while (crash_at(command, survivors)) {
    ASSERT_FALSE(HasFailure()) << "the power went at command " << command
                               << "; replay: BASALT_CRASH_COMMAND=" << command;
    ++command;
  }
  EXPECT_FALSE(HasFailure()) << "without a cut";
  RecordProperty("commands", static_cast<int>(command - 1));
}

INSTANTIATE_TEST_SUITE_P(
    Scenarios, EveryCommand,
    testing::Combine(testing::Range(0u, static_cast<unsigned>(std::size(kCases))),
                     testing::Range(0u, static_cast<unsigned>(std::size(kDisks)))),
    [](const auto& test) {
      return std::string(kCases[std::get<0>(test.param)].name) + "_" +
             kDisks[std::get<1>(test.param)];
    });

}  // namespace
}  // namespace basalt::crash
