// See copies.h.
#include "system/stress/copies.h"

#include <rocksdb/utilities/backup_engine.h>
#include <rocksdb/utilities/checkpoint.h>

#include "sim/random.h"
#include "system/stress/report.h"
#include "system/stress/verify.h"

namespace basalt::stress {
namespace {

// In the root.
constexpr const char* kBackups = "/backups";
constexpr const char* kRestored = "/restored";
constexpr uint32_t kBackupsKept = 3;

// Opening for writing replays the copy's log and writes to it; for reading only leaves it as it is.
void verify_and_remove(const rocksdb::Options& options, const std::string& path,
                       ExpectedState& state, const std::vector<Expectation>& before,
                       const std::vector<Expectation>& after, Database::Mode mode) {
  rocksdb::Options copy_options = options;
  copy_options.create_if_missing = false;
  copy_options.create_missing_column_families = false;
  std::unique_ptr<Database> copy;
  require(Database::open(copy_options, path, state.family_count(), mode, &copy), "open " + path);
  verify_copy(*copy, state, before, after, path);
  const rocksdb::Status closed = copy->close();
  if (mode == Database::Mode::read_write) require(closed, "close " + path);
  copy.reset();
  require(remove_tree(*options.env, path), "remove " + path);
}

Database::Mode any_mode(sim::Random& random) {
  return random.chance(50) ? Database::Mode::read_only : Database::Mode::read_write;
}

std::unique_ptr<rocksdb::BackupEngine> open_backups(rocksdb::Env& env, const std::string& root,
                                                    sim::Random& random) {
  rocksdb::BackupEngineOptions options(root + kBackups);
  options.sync = random.chance(50);
  options.max_background_operations = random.chance(50) ? 2 : 1;
  rocksdb::BackupEngine* raw = nullptr;
  require(rocksdb::BackupEngine::Open(&env, options, &raw), "open the backups");
  return std::unique_ptr<rocksdb::BackupEngine>(raw);
}

}  // namespace

void make_and_verify_checkpoint(const Database& database, const rocksdb::Options& options,
                                ExpectedState& state, const std::string& path, uint64_t seed) {
  sim::Random random(seed);
  rocksdb::Checkpoint* raw = nullptr;
  require(rocksdb::Checkpoint::Create(&database.db(), &raw), "Checkpoint::Create");
  const std::unique_ptr<rocksdb::Checkpoint> checkpoint(raw);
  const std::vector<Key> keys = every_key(state);
  const std::vector<Expectation> before = expectations(state, keys);
  // The size of the log from which it is flushed instead of copied.
  const uint64_t flush_from = random.chance(50) ? 0 : ~uint64_t{0};
  require(checkpoint->CreateCheckpoint(path, flush_from), "CreateCheckpoint " + path);
  const std::vector<Expectation> after = expectations(state, keys);
  verify_and_remove(options, path, state, before, after, any_mode(random));
}

void make_and_verify_backup(const Database& database, const rocksdb::Options& options,
                            ExpectedState& state, const std::string& root, uint64_t seed) {
  sim::Random random(seed);
  const std::string restored = root + kRestored;
  const auto engine = open_backups(*options.env, root, random);
  const std::vector<Key> keys = every_key(state);
  const std::vector<Expectation> before = expectations(state, keys);
  require(engine->CreateNewBackup(&database.db(), random.chance(50)), "CreateNewBackup");
  const std::vector<Expectation> after = expectations(state, keys);
  std::vector<rocksdb::BackupInfo> infos;
  engine->GetBackupInfo(&infos);
  if (infos.empty()) fail("the backup just made is not listed");
  require(engine->VerifyBackup(infos.back().backup_id, true), "VerifyBackup");
  state.count(Counter::progress);
  require(engine->RestoreDBFromLatestBackup(restored, restored), "RestoreDBFromLatestBackup");
  verify_and_remove(options, restored, state, before, after, any_mode(random));
  require(engine->PurgeOldBackups(kBackupsKept), "PurgeOldBackups");
  if (random.chance(20)) require(engine->GarbageCollect(), "GarbageCollect");
}

void tidy_copies(rocksdb::Env& env, const std::string& root) {
  require(env.CreateDirIfMissing(root), "make " + root);
  std::vector<std::string> names;
  require(env.GetChildren(root, &names), "list " + root);
  for (const std::string& name : names) {
    if (name != "db" && name != "backups") {
      require(remove_tree(env, root + "/" + name), "remove " + root + "/" + name);
    }
  }
  sim::Random random(1);
  const auto engine = open_backups(env, root, random);
  require(engine->GarbageCollect(), "GarbageCollect");
  std::vector<rocksdb::BackupID> corrupt;
  engine->GetCorruptedBackups(&corrupt);
  if (!corrupt.empty()) fail("backup " + std::to_string(corrupt.front()) + " is damaged");
  std::vector<rocksdb::BackupInfo> infos;
  engine->GetBackupInfo(&infos);
  for (const rocksdb::BackupInfo& info : infos) {
    require(engine->VerifyBackup(info.backup_id, true), "backup " + std::to_string(info.backup_id));
  }
}

}  // namespace basalt::stress
