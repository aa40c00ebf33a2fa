// See child.h.
#include "system/stress/child.h"

#include <basalt/rocksdb.h>

#include <chrono>
#include <cstdio>
#include <memory>
#include <thread>

#include "system/stress/copies.h"
#include "system/stress/lossy_log.h"
#include "system/stress/operations.h"
#include "system/stress/report.h"
#include "system/stress/verify.h"

namespace basalt::stress {
namespace {

std::unique_ptr<rocksdb::Env> mount(const RunOptions& options, const std::string& uri_keys) {
  std::shared_ptr<rocksdb::FileSystem> file_system;
  const std::string uri = options.uri(uri_keys);
  if (options.plain) {
    file_system = rocksdb::FileSystem::Default();
  } else {
    require(NewRocksdbFileSystem(uri, &file_system), "mount " + uri);
  }
  if (options.sabotage == Sabotage::write) file_system = losing_log_appends(file_system);
  return rocksdb::NewCompositeEnv(file_system);
}

void work(Opening& opening, const RunOptions& options, std::chrono::milliseconds duration,
          sim::Random& random) {
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < options.threads; ++i) {
    threads.emplace_back([&opening, i, seed = random.next()] {
      Worker worker(opening, i, seed);
      worker.run();
    });
  }
  std::this_thread::sleep_for(duration);
  opening.stop = true;
  for (std::thread& thread : threads) thread.join();
}

}  // namespace

void run_child(const RunOptions& options) {
  ExpectedState state(options.state_file(), options.family_count, options.key_count);
  KeyLocks locks(options.family_count, options.key_count);
  sim::Random random(options.seed);
  std::unique_ptr<rocksdb::Env> env;
  std::string mounted_with;
  for (unsigned number = 0;; ++number) {
    Variation variation = vary(random.next(), options.family_count);
    const bool fresh_mount = env == nullptr || random.chance(40);
    if (fresh_mount) mounted_with = variation.uri_keys;
    set_circumstances("  child: " + options.command() + "\n  opening " + std::to_string(number) +
                      ":" + variation.text + " store=" + mounted_with);
    if (options.verbose) {
      std::printf("  opening %u:%s store=%s\n", number, variation.text.c_str(),
                  mounted_with.c_str());
      std::fflush(stdout);
    }
    if (fresh_mount) {
      env.reset();
      env = mount(options, mounted_with);
      state.count(Counter::mount);
    }
    tidy_copies(*env, options.root());
    variation.options.env = env.get();
    std::unique_ptr<Database> database;
    require(Database::open(variation.options, options.root() + kDatabase, options.family_count,
                           Database::Mode::read_write, &database),
            "open the database");
    verify_every_key(*database, state, random.next());
    state.count(Counter::open);
    Opening opening{.database = *database,
                    .root = options.root(),
                    .options = variation.options,
                    .sync_percent = variation.sync_percent,
                    .async_reads = options.async_reads,
                    .split_batches = options.sabotage == Sabotage::batch,
                    .state = state,
                    .locks = locks};
    work(opening, options, std::chrono::milliseconds(200 + random.below(3000)), random);
    require(database->close(), "close the database");
  }
}

void run_verification(const RunOptions& options) {
  set_circumstances("  " + options.command());
  ExpectedState state(options.state_file(), options.family_count, options.key_count);
  const std::unique_ptr<rocksdb::Env> env = mount(options, "");
  tidy_copies(*env, options.root());
  rocksdb::Options database_options;
  database_options.env = env.get();
  database_options.create_if_missing = true;
  database_options.create_missing_column_families = true;
  std::unique_ptr<Database> database;
  require(Database::open(database_options, options.root() + kDatabase, options.family_count,
                         Database::Mode::read_write, &database),
          "open the database");
  for (uint64_t seed = 1; seed <= 4; ++seed) verify_every_key(*database, state, seed);
  require(database->db().VerifyChecksum(), "VerifyChecksum");
  require(database->close(), "close the database");
}

}  // namespace basalt::stress
