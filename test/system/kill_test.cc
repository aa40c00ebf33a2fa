// Goal: kill -9 loses nothing that RocksDB acknowledged, with sync=1 and with sync=0.
//
// Method: each round starts a child that writes from several threads, flushes, compacts and reopens
// its database, and sends every acknowledged write down a pipe; the parent kills it at a random
// moment, drains the pipe, checks the store as it was left, reopens the database, and looks up
// every key. A thread has one write in flight, so a key may be at most one write ahead of its last
// acknowledgement, never behind, and never hold anything else.
//
//   kill_test [--rounds N] [--seed S] [--sync 0|1] [--file PATH] [--size 1G] [--keys MORE]
//   [--verbose 1]
#include <basalt/context.h>
#include <basalt/devices.h>
#include <basalt/rocksdb.h>
#include <fcntl.h>
#include <rocksdb/db.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr unsigned kThreads = 3;
constexpr uint64_t kKeysPerThread = 5000;

struct Options {
  unsigned rounds = 10;
  uint64_t seed = 1;
  bool sync = true;
  bool verbose = false;
  bool child = false;
  std::string file;
  std::string size = "1G";
  std::string keys;                                                 // more of the URI, "&cache=…"
  std::vector<uint64_t> next = std::vector<uint64_t>(kThreads, 0);  // first write of each thread

  std::string uri() const { return "basalt://file:" + file + "?create=" + size + keys; }
};

// Sent once per acknowledged write; less than PIPE_BUF, so threads' records never mix.
struct Acknowledgement {
  uint32_t thread = 0;
  uint32_t unused = 0;
  uint64_t number = 0;
};

[[noreturn]] void fail(const std::string& message) {
  std::fprintf(stderr, "kill_test: %s\n", message.c_str());
  std::exit(1);
}

void require(const rocksdb::Status& status, const std::string& what) {
  if (!status.ok()) fail(what + ": " + status.ToString());
}

// Write `number` of a thread goes to one of its keys; the value tells number and key and fills up.
std::string key_of(unsigned thread, uint64_t number) {
  return "t" + std::to_string(thread) + "-" + std::to_string(number % kKeysPerThread);
}
std::string value_of(unsigned thread, uint64_t number) {
  const std::string head = key_of(thread, number) + "=" + std::to_string(number) + ";";
  return head + std::string(20 + number * 37 % 700, static_cast<char>('a' + number % 26));
}

rocksdb::Options database_options(rocksdb::Env* env) {
  rocksdb::Options options;
  options.env = env;
  options.create_if_missing = true;
  options.write_buffer_size = 512 << 10;  // flushes and compactions all the time
  options.target_file_size_base = 512 << 10;
  options.max_bytes_for_level_base = 2 << 20;
  options.level0_file_num_compaction_trigger = 2;
  options.keep_log_file_num = 3;
  options.paranoid_checks = true;
  return options;
}

struct Database {
  std::unique_ptr<rocksdb::Env> env;
  std::unique_ptr<rocksdb::DB> db;

  explicit Database(const Options& options) {
    require(basalt::NewRocksdbEnv(options.uri(), &env), "mount");
    rocksdb::DB* raw = nullptr;
    require(rocksdb::DB::Open(database_options(env.get()), "/db", &raw), "open the database");
    db.reset(raw);
  }
};

// The child. Never returns: it is killed, or fails.

void write_some(rocksdb::DB& db, unsigned thread, const Options& options, uint64_t& number,
                uint64_t count) {
  rocksdb::WriteOptions write;
  write.sync = options.sync;
  for (uint64_t i = 0; i < count; ++i, ++number) {
    require(db.Put(write, key_of(thread, number), value_of(thread, number)), "put");
    const Acknowledgement done{.thread = thread, .number = number};
    if (::write(STDOUT_FILENO, &done, sizeof(done)) != sizeof(done)) std::_Exit(2);
  }
}

[[noreturn]] void run_child(const Options& options) {
  std::mt19937_64 random(options.seed);
  std::vector<uint64_t> next = options.next;
  for (;;) {
    Database database(options);
    const uint64_t count = options.sync ? 50 + random() % 2000 : 1000 + random() % 20'000;
    std::vector<std::thread> threads;
    for (unsigned t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] { write_some(*database.db, t, options, next[t], count); });
    }
    for (auto& thread : threads) thread.join();
    if (random() % 2 == 0) require(database.db->Flush({}), "flush");
    if (random() % 4 == 0) require(database.db->CompactRange({}, nullptr, nullptr), "compact");
  }
}

// The parent.

pid_t start_child(const Options& options, uint64_t seed, int pipe_write) {
  std::string next;
  for (uint64_t number : options.next) next += (next.empty() ? "" : ",") + std::to_string(number);
  const std::vector<std::string> arguments = {"kill_test",
                                              "--child",
                                              "1",
                                              "--seed",
                                              std::to_string(seed),
                                              "--sync",
                                              options.sync ? "1" : "0",
                                              "--file",
                                              options.file,
                                              "--size",
                                              options.size,
                                              "--keys",
                                              options.keys,
                                              "--next",
                                              next};
  std::vector<char*> argv;
  for (const std::string& a : arguments) argv.push_back(const_cast<char*>(a.c_str()));
  argv.push_back(nullptr);
  const pid_t pid = ::fork();
  if (pid != 0) return pid;
  ::dup2(pipe_write, STDOUT_FILENO);
  ::execv("/proc/self/exe", argv.data());
  ::_exit(127);
}

// Reads what has been acknowledged until `deadline`, or to the end of the pipe without one; false
// at the end of the pipe. Keeps the last number of each key.
using Acknowledged = std::map<std::string, uint64_t>;

bool collect(int pipe_read, std::chrono::steady_clock::time_point deadline, Options& options,
             Acknowledged& acknowledged) {
  std::vector<Acknowledgement> batch(4096);
  for (;;) {
    if (std::chrono::steady_clock::now() >= deadline) return true;
    const ssize_t length = ::read(pipe_read, batch.data(), batch.size() * sizeof(batch[0]));
    if (length == 0) return false;
    if (length < 0) {
      if (errno != EAGAIN) fail("reading the pipe failed");
      std::this_thread::sleep_for(std::chrono::microseconds(200));
      continue;
    }
    if (length % sizeof(batch[0]) != 0) fail("half a record in the pipe");
    for (size_t i = 0; i < length / sizeof(batch[0]); ++i) {
      acknowledged[key_of(batch[i].thread, batch[i].number)] = batch[i].number;
      options.next[batch[i].thread] = batch[i].number + 1;
    }
  }
}

void check_store(const Options& options, const std::string& when) {
  auto context = basalt::Context::create();
  if (!context) fail(context.error().to_string());
  basalt::register_standard_schemes(**context);
  basalt::DeviceOpenOptions open;
  open.mode = basalt::OpenMode::read_only;
  auto device = basalt::open_device(**context, "file:" + options.file, open);
  if (!device) fail(when + ": " + device.error().to_string());
  auto report = basalt::FileSystem::check(**context, **device);
  if (!report) fail(when + ": check: " + report.error().to_string());
  for (const std::string& problem : report->problems) {
    std::fprintf(stderr, "kill_test: %s: check: %s\n", when.c_str(), problem.c_str());
  }
  if (!report->clean()) fail(when + ": the store has problems");
}

// Every acknowledged key has its value, or that of the one write that was in flight.
uint64_t verify(rocksdb::DB& db, const Options& options, const Acknowledged& acknowledged) {
  std::string value;
  for (const auto& [key, number] : acknowledged) {
    const rocksdb::Status status = db.Get({}, key, &value);
    require(status, "acknowledged key " + key + " (write " + std::to_string(number) + ")");
    const unsigned thread = static_cast<unsigned>(key[1] - '0');
    if (value == value_of(thread, number)) continue;
    const uint64_t in_flight = options.next[thread];
    if (key_of(thread, in_flight) == key && value == value_of(thread, in_flight)) continue;
    fail("key " + key + ": expected write " + std::to_string(number) + ", found " +
         value.substr(0, 60));
  }
  // Nothing else than what was written is there.
  uint64_t found = 0;
  std::unique_ptr<rocksdb::Iterator> it(db.NewIterator({}));
  for (it->SeekToFirst(); it->Valid(); it->Next(), ++found) {
    if (it->value().starts_with(it->key().ToString() + "=")) continue;
    fail("key " + it->key().ToString() + " holds " + it->value().ToString().substr(0, 60));
  }
  require(it->status(), "iterate");
  if (found < acknowledged.size()) fail("fewer keys than acknowledged");
  return found;
}

// A write in flight may have landed unacknowledged; the next round counts on from what is there.
void adopt_in_flight(rocksdb::DB& db, Options& options, Acknowledged& acknowledged) {
  for (unsigned thread = 0; thread < kThreads; ++thread) {
    const uint64_t number = options.next[thread];
    const std::string key = key_of(thread, number);
    std::string value;
    if (!db.Get({}, key, &value).ok() || value != value_of(thread, number)) continue;
    acknowledged[key] = number;
    ++options.next[thread];
  }
}

void run_round(unsigned round, Options& options, std::mt19937_64& random,
               Acknowledged& acknowledged) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) fail("pipe");
  ::fcntl(ends[0], F_SETFL, O_NONBLOCK);
  const pid_t child = start_child(options, random(), ends[1]);
  ::close(ends[1]);
  // Half the kills come early (recovery, the first log), half anywhere in the steady state.
  const auto delay =
      std::chrono::microseconds(random() % (random() % 2 == 0 ? 300'000 : 2'000'000));
  const auto start = std::chrono::steady_clock::now();
  if (!collect(ends[0], start + delay, options, acknowledged)) {
    fail("round " + std::to_string(round) + ": the child ended by itself");
  }
  ::kill(child, SIGKILL);
  collect(ends[0], std::chrono::steady_clock::time_point::max(), options, acknowledged);
  int status = 0;
  ::waitpid(child, &status, 0);
  ::close(ends[0]);
  if (!WIFSIGNALED(status)) fail("round " + std::to_string(round) + ": the child ended by itself");

  const std::string name = "round " + std::to_string(round);
  check_store(options, name + ", as killed");
  uint64_t found = 0;
  {
    Database database(options);
    found = verify(*database.db, options, acknowledged);
    adopt_in_flight(*database.db, options, acknowledged);
  }
  check_store(options, name + ", closed again");
  if (options.verbose) {
    std::printf("round %u: killed after %.0f ms, %zu keys acknowledged, %llu found\n", round,
                static_cast<double>(delay.count()) / 1000, acknowledged.size(),
                static_cast<unsigned long long>(found));
  }
}

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i];
    const std::string value = argv[i + 1];
    if (name == "--rounds")
      options.rounds = static_cast<unsigned>(std::stoul(value));
    else if (name == "--seed")
      options.seed = std::stoull(value);
    else if (name == "--sync")
      options.sync = value == "1";
    else if (name == "--file")
      options.file = value;
    else if (name == "--size")
      options.size = value;
    else if (name == "--keys")
      options.keys = value;
    else if (name == "--verbose")
      options.verbose = value == "1";
    else if (name == "--child")
      options.child = value == "1";
    else if (name == "--next") {
      size_t at = 0;
      for (uint64_t& number : options.next) {
        number = std::stoull(value.substr(at));
        at = value.find(',', at) + 1;
      }
    } else {
      fail("unknown option " + name + "; the head of kill_test.cc lists them");
    }
  }
  return options;
}

}  // namespace

int main(int argc, char** argv) {
  Options options = parse(argc, argv);
  if (options.child) run_child(options);
  std::string directory = (std::filesystem::temp_directory_path() / "basalt-kill-XXXXXX").string();
  const bool own_file = options.file.empty();
  if (own_file) {
    if (::mkdtemp(directory.data()) == nullptr) fail("mkdtemp " + directory);
    options.file = directory + "/store.img";
  }
  std::mt19937_64 random(options.seed);
  Acknowledged acknowledged;
  {
    Database created(options);
  }  // a kill while a store is made leaves no store; not the subject here
  for (unsigned round = 1; round <= options.rounds; ++round) {
    run_round(round, options, random, acknowledged);
  }
  uint64_t writes = 0;
  for (uint64_t number : options.next) writes += number;
  std::printf("%u kills with sync=%d: %llu acknowledged writes, none lost\n", options.rounds,
              options.sync ? 1 : 0, static_cast<unsigned long long>(writes));
  if (own_file) std::filesystem::remove_all(directory);  // kept when something was wrong
  return writes == 0 && options.rounds > 3 ? 1 : 0;
}
