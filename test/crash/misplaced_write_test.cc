// A disk that acknowledges a write and does not do it, or does it elsewhere, and a disk that reads from elsewhere:
// names, logs and checksummed tables are never wrong in silence. Either the damage is harmless (a page's or a superblock's second
// copy, a place that is written again), or it is told: an operation, the mount or a read fails with corruption.
// Method: a history runs once undisturbed, and its writes are noted; then again with each of them dropped in
// turn, and with many of them landing where another one belongs; at the end the power goes, or the store is
// unmounted. What follows the faulty write syncs each kind of thing again, so that it is never the very last
// one of a journal or a log: damage to that one is like a write that power loss tore, and nothing can tell
// (docs/guide/durability.md, "Damage").
//
// Of a table the name and the size are compared, and its bytes on the disk whose store has checksums of data.
#include <gtest/gtest.h>

#include <iostream>
#include <memory>
#include <vector>

#include "blob/format.h"
#include "crash/machine.h"
#include "crash/session.h"
#include "crash/settings.h"

namespace basalt::crash {
namespace {

constexpr OpSet kWrites{Op::write};

MachineOptions options_for(unsigned disk) {
  MachineOptions options;
  options.disk.size_bytes = uint64_t{16} << 20;
  options.disk.block_bytes = disk == 1 ? 4096 : 512;
  options.disk.native_fua = disk == 2;
  options.disk.log_commands = true;
  options.format.journal_bytes = uint64_t{1} << 20;
  options.format.data_checksums = disk == 2;
  options.mount.tail_bytes = uint64_t{1} << 20;
  options.mount.cache_bytes = 0;
  options.mount.metadata_cache_bytes = 256 << 10;
  return options;
}

enum class End : uint8_t { power_loss, unmount };

struct Totals {
  unsigned runs = 0, told_running = 0, told_at_mount = 0, told_reading = 0, harmless = 0;
  unsigned noted = 0;  // harmless, and check() says what it met
  unsigned both_superblocks = 0;
};

class MisplacedWrite : public testing::TestWithParam<unsigned> {
 protected:
  void TearDown() override {
    std::cout << "misplaced writes: " << totals_.runs << " runs: told while running "
              << totals_.told_running << ", at mount " << totals_.told_at_mount << ", reading "
              << totals_.told_reading << ", harmless " << totals_.harmless
              << " (of which check() noted " << totals_.noted << "), both superblocks "
              << totals_.both_superblocks << "\n";
  }

  void start() {
    machine_ = std::make_unique<Machine>(options_for(GetParam()));
    model_ = std::make_unique<TreeModel>("/s");
    const Status formatted = machine_->format();
    ASSERT_TRUE(formatted.ok()) << formatted.to_string();
    const Status mounted = machine_->mount();
    ASSERT_TRUE(mounted.ok()) << mounted.to_string();
    ASSERT_TRUE(machine_->fs().make_directory("/s").ok());
    ASSERT_TRUE(machine_->fs().sync_all().ok());
    machine_->disk().clear_commands();
  }

  // A synced append to the log, a name, and now and then a table, something removed, background work.
  static bool step(Session& session, Machine& machine, unsigned number) {
    const std::string name = std::to_string(number);
    Session::Open* log = &session.files().front();
    if (!session.append(*log, 300 + 171 * (number % 5)) || !session.sync(*log)) return false;
    if (!session.make_directory("/s/d" + name) || !session.sync_directory("/s")) return false;
    if (number % 3 == 0) {
      const bool made = session.create("/s/t" + name, FileKind::table) &&
                        session.append(session.files().back(), 9000) &&
                        session.sync(session.files().back()) &&
                        session.close(session.files().back());
      if (!made) return false;
    }
    if (number % 4 == 3 && !session.remove_directory("/s/d" + std::to_string(number - 2))) {
      return false;
    }
    if (number % 4 == 1) machine.step_background();
    return session.sync_all();
  }

  // Two openings of the store with a clean end between. False: an operation failed, with status_.
  bool run_history(const std::function<bool()>& has_struck) {
    constexpr unsigned kStepsPerOpening = 8;
    for (unsigned opening = 0; opening < 2; ++opening) {
      Session session(machine_->fs(), *model_, has_struck);
      const bool there =
          opening == 0 ? session.create("/s/log", FileKind::log) : session.open("/s/log");
      bool going = there;
      for (unsigned i = 0; i < kStepsPerOpening && going; ++i) {
        const unsigned number = opening * kStepsPerOpening + i;
        // The last steps make what came before them not the last.
        if (opening == 1 && i + 2 == kStepsPerOpening) last_write_ = writes();
        going = step(session, *machine_, number);
      }
      EXPECT_EQ(session.problems(), std::vector<std::string>{}) << session.recent();
      status_ = session.failure();
      session.close_all();
      if (!going) return false;
      if (opening == 1) return true;
      status_ = machine_->unmount();
      if (!status_.ok()) return false;
      status_ = machine_->mount();
      if (!status_.ok()) return false;
    }
    return true;
  }

  uint64_t writes() const {
    const sim::SimCounters counters = machine_->disk().counters();
    return counters.writes + counters.fua_writes;
  }

  // The undisturbed run.
  void note_writes() {
    ASSERT_NO_FATAL_FAILURE(start());
    const uint64_t before = writes();
    ASSERT_TRUE(run_history([] { return false; })) << status_.to_string();
    usable_writes_ = last_write_ - before;
    for (const sim::SimCommand& command : machine_->disk().commands()) {
      if (command.op == Op::write) places_.push_back(command.lba);
    }
    ASSERT_GT(usable_writes_, 40u);
    machine_->stop();
  }

  void run_with(const sim::SimFault& fault, End end) {
    ++totals_.runs;
    ASSERT_NO_FATAL_FAILURE(start());
    const auto disk = machine_->shared_disk();
    disk->inject(fault);
    const bool ran = run_history([disk] { return disk->counters().injected_faults > 0; });
    ASSERT_EQ(disk->counters().injected_faults, 1u);
    if (!ran) {
      ASSERT_FALSE(status_.ok());
      ++totals_.told_running;
      return machine_->stop();
    }
    const Status unmounted = end == End::unmount ? machine_->unmount() : Status();
    if (!unmounted.ok()) {
      ++totals_.told_running;
      return machine_->stop();
    }
    machine_->stop();
    machine_->restart(1);  // all that the disk has acknowledged, but for what it did not do
    look(hits_both_superblocks(fault));
    machine_->stop();
  }

  // A superblock that lands on the other one costs both, the one write that can: what is left is an older state,
  // and only that a superblock is damaged is told.
  bool hits_both_superblocks(const sim::SimFault& fault) const {
    const auto is_superblock = [&](Lba lba) {
      const uint64_t offset = lba.value * machine_->disk().options().block_bytes;
      return offset == blob::kSuperblockOffset[0] || offset == blob::kSuperblockOffset[1];
    };
    return fault.kind == sim::FaultKind::misdirected && is_superblock(fault.elsewhere) &&
           is_superblock(places_[fault.skip]) && fault.elsewhere != places_[fault.skip];
  }

  void look(bool both_superblocks) {
    const Result<CheckReport> report = machine_->check();
    const bool noted = !report || !report->clean() || !report->notes.empty();
    const Status mounted = machine_->mount();
    if (!mounted.ok()) {
      ++totals_.told_at_mount;
      EXPECT_EQ(mounted.code(), StatusCode::corruption) << mounted.to_string();
      EXPECT_TRUE(noted) << "check() finds nothing, but it does not mount: " << mounted.to_string();
      return;
    }
    Result<FoundTree> found = find_all(machine_->fs(), "/s", 1);
    if (!found) {
      ++totals_.told_reading;
      EXPECT_EQ(found.error().code(), StatusCode::corruption) << found.error().to_string();
      EXPECT_TRUE(noted || (has_checksums() && scrub_finds_damage()))
          << "check() and scrub() find nothing, but: " << found.error().to_string();
      return;
    }
    ignore_table_data(*found);
    const auto wrong = model_->verify(*found, Crash::power_loss, TreeModel::Then::look_only);
    if (both_superblocks) {
      ++totals_.both_superblocks;
      EXPECT_TRUE(wrong.empty() || noted);
      return;
    }
    EXPECT_EQ(wrong, std::vector<std::string>{}) << "wrong in silence\n" << machine_->log_text();
    ++totals_.harmless;
    if (noted) ++totals_.noted;
  }

  bool has_checksums() const { return options_for(GetParam()).format.data_checksums; }

  // check() reads no table.
  bool scrub_finds_damage() const {
    const Result<ScrubReport> report = machine_->fs().scrub({});
    return !report || !report->damages.empty();
  }

  // Without checksums of data only the size of a table is compared.
  void ignore_table_data(FoundTree& found) const {
    if (has_checksums()) return;
    for (auto& [path, entry] : found) {
      const auto expected = model_->tree().find(path);
      const bool is_table = !entry.info.is_directory && entry.info.kind == FileKind::table;
      if (!is_table || expected == model_->tree().end() || expected->second.is_directory())
        continue;
      const std::string& content = expected->second.file->content();
      if (entry.content.size() == content.size()) entry.content = content;
    }
  }

  sim::SimFault fault(sim::FaultKind kind, uint64_t write, Lba elsewhere) const {
    return {.ops = kWrites,
            .first = Lba{0},
            .block_count = BlockCount{machine_->disk().block_count()},
            .times = 1,
            .kind = kind,
            .skip = write,
            .elsewhere = elsewhere};
  }

  std::unique_ptr<Machine> machine_;
  std::unique_ptr<TreeModel> model_;
  Status status_;   // why the history ended early
  Status mounted_;  // by the last look
  uint64_t reads_ = 0;
  uint64_t last_write_ = 0;
  uint64_t usable_writes_ = 0;  // that are not among the last of anything
  std::vector<Lba> places_;     // where the undisturbed run wrote
  Totals totals_;
};

TEST_P(MisplacedWrite, EachOneDropped) {
  ASSERT_NO_FATAL_FAILURE(note_writes());
  for (uint64_t write = 0; write < usable_writes_; ++write) {
    SCOPED_TRACE("write " + std::to_string(write) + " of " + std::to_string(usable_writes_) +
                 " dropped");
    ASSERT_NO_FATAL_FAILURE(run_with(fault(sim::FaultKind::dropped, write, {}),
                                     write % 2 == 0 ? End::power_loss : End::unmount));
    ASSERT_FALSE(HasFailure());
  }
  // Of single copies, journal records and log blocks, the loss is told.
  EXPECT_GT(totals_.told_running + totals_.told_at_mount + totals_.told_reading, totals_.runs / 10);
  EXPECT_GT(totals_.harmless, totals_.runs / 10);
}

TEST_P(MisplacedWrite, ManyLandWhereAnotherBelongs) {
  ASSERT_NO_FATAL_FAILURE(note_writes());
  for (uint64_t i = 0; i < rounds(250); ++i) {
    const uint64_t seed = first_seed() + i;
    sim::Random random(seed);
    const uint64_t write = random.below(usable_writes_);
    const Lba elsewhere = places_[random.below(places_.size())];
    SCOPED_TRACE("write " + std::to_string(write) + " landed at block " +
                 std::to_string(elsewhere.value) + "; " + replay_hint(seed));
    ASSERT_NO_FATAL_FAILURE(run_with(fault(sim::FaultKind::misdirected, write, elsewhere),
                                     random.chance(50) ? End::power_loss : End::unmount));
    ASSERT_FALSE(HasFailure());
  }
}

// A read of a mount, or of looking at everything, brings what lies elsewhere. The journal is not read again by
// anybody, and bytes that are no record are its end: the store is closed here, so that it is empty.
TEST_P(MisplacedWrite, ManyReadsFromElsewhere) {
  ASSERT_NO_FATAL_FAILURE(note_writes());
  ASSERT_NO_FATAL_FAILURE(start());
  ASSERT_TRUE(run_history([] { return false; })) << status_.to_string();
  ASSERT_TRUE(machine_->unmount().ok());
  const sim::SimImage image = machine_->disk().image();
  const auto look_with = [&](const sim::SimFault* misread) {
    const auto disk = std::make_shared<sim::SimDisk>(options_for(GetParam()).disk, image);
    machine_->start_on(disk);
    if (misread != nullptr) disk->inject(*misread);
    mounted_ = machine_->mount();
    Result<FoundTree> found = error(mounted_);
    if (mounted_.ok()) found = find_all(machine_->fs(), "/s", 1);
    reads_ = disk->counters().reads;
    machine_->stop();
    return found;
  };
  ASSERT_TRUE(look_with(nullptr));
  const uint64_t reads = reads_;
  ASSERT_GT(reads, 20u);
  for (uint64_t i = 0; i < rounds(100); ++i) {
    const uint64_t seed = first_seed() + i;
    sim::Random random(seed);
    const uint64_t read = random.below(reads);
    sim::SimFault misread =
        fault(sim::FaultKind::misdirected, read, places_[random.below(places_.size())]);
    misread.ops = {Op::read};
    SCOPED_TRACE("read " + std::to_string(read) + " came from block " +
                 std::to_string(misread.elsewhere.value) + "; " + replay_hint(seed));
    ++totals_.runs;
    Result<FoundTree> found = look_with(&misread);
    if (!found) {
      ++(mounted_.ok() ? totals_.told_reading : totals_.told_at_mount);
      EXPECT_EQ(found.error().code(), StatusCode::corruption) << found.error().to_string();
    } else {
      ++totals_.harmless;
      ignore_table_data(*found);
      EXPECT_EQ(model_->verify(*found, Crash::power_loss, TreeModel::Then::look_only),
                std::vector<std::string>{});
    }
    ASSERT_FALSE(HasFailure());
  }
}

INSTANTIATE_TEST_SUITE_P(Disks, MisplacedWrite, testing::Values(0u, 1u, 2u), [](const auto& test) {
  return std::string(test.param == 0 ? "512" : test.param == 1 ? "4096" : "512FuaChecksums");
});

}  // namespace
}  // namespace basalt::crash
