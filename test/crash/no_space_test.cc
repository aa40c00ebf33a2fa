// A full store: operations fail with no_space and harm nothing, everything can be deleted, the space
// comes back, also with a crash in between. Method: sessions that expect no_space on a small disk, compared
// with their model after each phase.
#include <gtest/gtest.h>

#include "crash/machine.h"
#include "crash/round.h"
#include "crash/session.h"
#include "crash/settings.h"

namespace basalt::crash {
namespace {

class NoSpace : public testing::TestWithParam<FileKind> {
 protected:
  void start(uint64_t seed) {
    MachineOptions options = machine_options(seed);
    options.disk.size_bytes = uint64_t{24} << 20;
    machine_ = std::make_unique<Machine>(options);
    model_ = std::make_unique<TreeModel>("/s");
    ASSERT_TRUE(machine_->format().ok());
    ASSERT_TRUE(machine_->mount().ok());
    empty_bytes_ = machine_->fs().space().free_bytes;
    ASSERT_TRUE(machine_->fs().make_directory("/s").ok());
    ASSERT_TRUE(machine_->fs().sync_all().ok());
  }

  std::unique_ptr<Session> session() {
    const auto disk = machine_->shared_disk();
    return std::make_unique<Session>(
        machine_->fs(), *model_, [disk] { return disk->is_cut(); },
        SessionOptions{.expect_no_space = true});
  }

  // Files of the kind until nothing more fits.
  void fill(Session& session, uint64_t seed) {
    sim::Random random(seed);
    for (unsigned i = 0; session.no_space_answers() == 0 && !session.stopped(); ++i) {
      ASSERT_LT(i, 10'000u) << "a 24 MiB store is never full";
      const std::string path = "/s/f" + std::to_string(files_++);
      if (!session.create(path, GetParam())) break;
      const unsigned appends = 1 + static_cast<unsigned>(random.below(6));
      for (unsigned j = 0; j < appends; ++j) {
        if (!session.append(session.files().back(), 1 + random.below(150'000))) break;
        if (random.chance(40) && !session.sync(session.files().back())) break;
      }
      if (!session.stopped()) session.close(session.files().back());
    }
    EXPECT_EQ(session.problems(), std::vector<std::string>{}) << session.recent();
  }

  void crash(uint64_t seed) {
    machine_->stop();
    machine_->restart(seed);
    const Status status = machine_->mount();
    ASSERT_TRUE(status.ok()) << status.to_string();
    compare(Crash::power_loss, TreeModel::Then::restart);
  }

  void compare(Crash kind, TreeModel::Then then) {
    const Result<FoundTree> found = find_all(machine_->fs(), "/s", 1);
    ASSERT_TRUE(found) << found.error().to_string();
    EXPECT_EQ(model_->verify(*found, kind, then), std::vector<std::string>{});
  }

  void remove_some(Session& session, unsigned percent, uint64_t seed) {
    sim::Random random(seed);
    std::vector<std::string> paths;
    for (const auto& [path, entry] : model_->tree()) paths.push_back(path);
    for (const std::string& path : paths) {
      if (!random.chance(percent)) continue;
      EXPECT_TRUE(session.remove(path)) << session.recent();
    }
  }

  void check_clean() {
    const Result<CheckReport> report = machine_->check();
    ASSERT_TRUE(report) << report.error().to_string();
    EXPECT_EQ(report->problems, std::vector<std::string>{});
  }

  std::unique_ptr<Machine> machine_;
  std::unique_ptr<TreeModel> model_;
  uint64_t empty_bytes_ = 0;
  unsigned files_ = 0;
};

TEST_P(NoSpace, FillDeleteAndFillAgainWithCrashesBetween) {
  for (uint64_t i = 0; i < rounds(3); ++i) {
    const uint64_t seed = first_seed() + i;
    SCOPED_TRACE(replay_hint(seed));
    sim::Random random(seed);
    ASSERT_NO_FATAL_FAILURE(start(random.next()));
    for (unsigned phase = 0; phase < 3; ++phase) {
      SCOPED_TRACE("phase " + std::to_string(phase));
      {
        const auto filling = session();
        ASSERT_NO_FATAL_FAILURE(fill(*filling, random.next()));
        ASSERT_FALSE(HasFailure());
        // No space was the store's answer; it did not take anything away.
        ASSERT_NO_FATAL_FAILURE(compare(Crash::process_death, TreeModel::Then::look_only));
        if (random.chance(50)) {
          EXPECT_TRUE(filling->sync_all());
        }
      }
      if (random.chance(70)) {
        ASSERT_NO_FATAL_FAILURE(crash(random.next()));
      }
      {
        const auto removing = session();
        remove_some(*removing, phase == 2 ? 100 : 60, random.next());
        if (random.chance(50)) {
          EXPECT_TRUE(removing->sync_all());
        }
      }
      if (random.chance(50)) {
        ASSERT_NO_FATAL_FAILURE(crash(random.next()));
      }
      ASSERT_FALSE(HasFailure());
    }
    ASSERT_TRUE(remove_all(machine_->fs(), "").ok());
    const Status status = machine_->unmount();
    ASSERT_TRUE(status.ok()) << status.to_string();
    check_clean();
    ASSERT_TRUE(machine_->mount().ok());
    EXPECT_EQ(machine_->fs().space().free_bytes, empty_bytes_);
    ASSERT_FALSE(HasFailure());
  }
}

// Names alone fill the metadata region: creating fails, removing everything still works.
TEST_P(NoSpace, MetadataFullOfNames) {
  SCOPED_TRACE(replay_hint(first_seed()));
  ASSERT_NO_FATAL_FAILURE(start(first_seed()));
  const std::string stem = "/s/" + std::string(200, 'n');
  for (unsigned i = 0;; ++i) {
    ASSERT_LT(i, 200'000u) << "the metadata region is never full";
    const auto file = machine_->fs().create(stem + std::to_string(i), GetParam(), {});
    if (file) continue;
    ASSERT_EQ(file.error().code(), StatusCode::no_space) << file.error().to_string();
    break;
  }
  const Status sync = machine_->fs().sync_all();
  EXPECT_TRUE(sync.ok()) << sync.to_string();
  const Status removed = remove_all(machine_->fs(), "");
  ASSERT_TRUE(removed.ok()) << removed.to_string();
  {
    const auto file = machine_->fs().create("/again", GetParam(), {});
    ASSERT_TRUE(file) << file.error().to_string();
  }
  ASSERT_TRUE(machine_->fs().remove("/again").ok());
  ASSERT_TRUE(machine_->unmount().ok());
  check_clean();
  ASSERT_TRUE(machine_->mount().ok());
  EXPECT_EQ(machine_->fs().space().free_bytes, empty_bytes_);
}

INSTANTIATE_TEST_SUITE_P(Kinds, NoSpace, testing::Values(FileKind::table, FileKind::log),
                         [](const auto& test) {
                           return test.param == FileKind::table ? "table" : "log";
                         });

}  // namespace
}  // namespace basalt::crash
