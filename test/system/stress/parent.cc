// See parent.h. Seeds of children and moments of kills follow from the seed, so that the same command
// gives the same sequence; how far each child comes until it is killed depends on the machine.
#include "system/stress/parent.h"

#include <basalt/context.h>
#include <basalt/device.h>
#include <basalt/devices.h>
#include <basalt/file_system.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "sim/random.h"
#include "system/stress/expected_state.h"
#include "system/stress/report.h"

namespace basalt::stress {
namespace {

using SteadyClock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds kPoll{5};
constexpr auto kHung = std::chrono::seconds(90);  // without any progress
constexpr unsigned kSabotagedChildren = 20;       // one of these must report what was done wrong

// How a child ended.
enum class End : uint8_t { killed, finished, reported };

pid_t start(const RunOptions& options) {
  std::vector<std::string> arguments = options.arguments();
  arguments.insert(arguments.begin(), "rocksdb_stress");
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  const pid_t pid = ::fork();
  if (pid != 0) return pid;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::execv("/proc/self/exe", argv.data());
  ::_exit(127);
}

// Nothing while the child lives. Ends in a way nobody planned are failures.
std::optional<End> ended(pid_t child, int wait_options) {
  int status = 0;
  if (::waitpid(child, &status, wait_options) == 0) return {};
  if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) return End::killed;
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return End::finished;
  if (WIFEXITED(status) && WEXITSTATUS(status) == kFailedExit) return End::reported;
  fail(WIFSIGNALED(status) ? "a child died of signal " + std::to_string(WTERMSIG(status))
                           : "a child ended with exit code " + std::to_string(WEXITSTATUS(status)));
}

// Lets the child live until the moment of its death, then kills it. A child that does not move any more
// is a failure, not a victim.
End let_live_and_kill(pid_t child, milliseconds life, bool must_move, const ExpectedState& state) {
  const auto death = SteadyClock::now() + life;
  while (SteadyClock::now() < death) {
    if (const auto end = ended(child, WNOHANG)) return *end;
    std::this_thread::sleep_for(std::min<SteadyClock::duration>(kPoll, death - SteadyClock::now()));
  }
  const uint64_t progress = state.counted(Counter::progress);
  while (must_move && state.counted(Counter::progress) == progress) {
    if (const auto end = ended(child, WNOHANG)) return *end;
    if (SteadyClock::now() > death + kHung) {
      ::kill(child, SIGABRT);
      fail("the child hangs: nothing was done for 90 s");
    }
    std::this_thread::sleep_for(milliseconds(1));
  }
  ::kill(child, SIGKILL);
  return *ended(child, 0);
}

// The store, read by itself while nobody has it mounted.
struct ClosedStore {
  std::unique_ptr<Context> context;
  std::unique_ptr<Device> device;

  explicit ClosedStore(const RunOptions& options) {
    auto made = Context::create();
    if (!made) fail(made.error().to_string());
    context = std::move(*made);
    register_standard_schemes(*context);
    DeviceOpenOptions open;
    open.mode = OpenMode::read_only;
    auto opened = open_device(*context, "file:" + options.store_file(), open);
    if (!opened) fail(opened.error().to_string());
    device = std::move(*opened);
  }
};

void check_store(const RunOptions& options) {
  if (options.plain) return;
  const ClosedStore store(options);
  const auto report = FileSystem::check(*store.context, *store.device);
  if (!report) fail("check: " + report.error().to_string());
  std::string problems;
  for (const std::string& problem : report->problems) problems += "\n    " + problem;
  if (!report->clean()) fail("check of the store as the child left it:" + problems);
}

// The files of this store in shared memory; after a clean end there should be none.
std::vector<std::filesystem::path> tails_of(const RunOptions& options) {
  std::vector<std::filesystem::path> result;
  if (options.plain) return result;
  const ClosedStore store(options);
  std::string dump;
  const Status dumped = FileSystem::dump(*store.context, *store.device, dump);
  const size_t uuid = dump.find(" uuid ");
  if (!dumped.ok() || uuid == std::string::npos) fail("dump: " + dumped.to_string());
  const std::string prefix = "basalt-" + dump.substr(uuid + 6, 32) + "-";
  for (const auto& entry : std::filesystem::directory_iterator("/dev/shm")) {
    if (entry.path().filename().string().starts_with(prefix)) result.push_back(entry.path());
  }
  return result;
}

// The first acknowledged key is said to have another value than it was given.
void falsify(ExpectedState& state) {
  for (uint32_t index = 0; index < state.key_count(); ++index) {
    const Key key{.family = 0, .index = index};
    const Expectation expected = state.expectation(key);
    if (expected.is_pending() || !expected.acknowledged.present()) continue;
    state.settle(key, State::put(expected.acknowledged.change() - 1));
    return;
  }
}

class Parent {
 public:
  explicit Parent(const RunOptions& options)
      : options_(options),
        random_(options.seed),
        state_(options.state_file(), options.family_count, options.key_count) {}

  // False when a child reported a failure.
  bool run() {
    set_circumstances(circumstances());
    if (!verify()) return false;  // it makes the store; being killed in that is another subject
    const auto end =
        SteadyClock::now() + milliseconds(static_cast<int64_t>(options_.minutes * 6e4));
    const bool sabotaged = options_.sabotage != Sabotage::none;
    while (sabotaged ? children_ < kSabotagedChildren : SteadyClock::now() < end) {
      if (!run_child()) return false;
      check_store(options_);
      if (options_.sabotage == Sabotage::state) falsify(state_);
    }
    return verify();
  }

  void print_summary() const {
    const auto counted = [&](Counter counter) {
      return static_cast<unsigned long long>(state_.counted(counter));
    };
    std::string operations;
    for (auto i = 0u; i <= static_cast<uint32_t>(Counter::backup); ++i) {
      const auto counter = static_cast<Counter>(i);
      operations += " " + std::string(name_of(counter)) + " " + std::to_string(counted(counter));
    }
    std::printf(
        "rocksdb_stress: %u children, %u kills, %llu openings, %llu mounts; operations:%s; %llu "
        "acknowledged writes of keys, %llu keys verified, %llu changes landed unacknowledged; "
        "%zu "
        "tails left in shared memory; 0 lost\n",
        children_, kills_, counted(Counter::open), counted(Counter::mount), operations.c_str(),
        counted(Counter::acknowledged_key), counted(Counter::verified_key),
        counted(Counter::landed_in_flight), tails_of(options_).size());
  }

  std::string circumstances() const {
    RunOptions look = options_;
    look.verify = true;
    look.sabotage = Sabotage::none;
    return "  child " + std::to_string(children_) + " of seed " + std::to_string(options_.seed) +
           "; store and expected state are kept in " + options_.directory +
           "\n  replay the run: " + replay_ + "\n  look again:     " + look.command();
  }

  void set_replay(std::string command) { replay_ = std::move(command); }

 private:
  bool run_child() {
    RunOptions child = options_;
    child.child = true;
    child.seed = random_.next();
    ++children_;
    set_circumstances(circumstances());
    // A third dies early: while it mounts, recovers or verifies, sometimes several in a row.
    const bool early = random_.chance(35);
    const double first_s = early ? 0 : options_.kill_after_min_s;
    const double last_s = !early ? options_.kill_after_max_s : random_.chance(50) ? 0.06 : 0.4;
    const milliseconds life(random_.between(static_cast<uint64_t>(first_s * 1000),
                                            static_cast<uint64_t>(last_s * 1000)));
    const uint64_t before = state_.counted(Counter::acknowledged_key);
    const End end = let_live_and_kill(start(child), life, !early, state_);
    if (end == End::finished) fail("a child ended by itself");
    if (end == End::reported) return false;
    ++kills_;
    if (options_.verbose) {
      std::printf(
          "child %u (seed %llu): killed after %lld ms, %llu writes of keys\n", children_,
          static_cast<unsigned long long>(child.seed), static_cast<long long>(life.count()),
          static_cast<unsigned long long>(state_.counted(Counter::acknowledged_key) - before));
      std::fflush(stdout);
    }
    return true;
  }

  // A child that verifies and ends.
  bool verify() const {
    RunOptions child = options_;
    child.verify = true;
    child.sabotage = Sabotage::none;
    return *ended(start(child), 0) == End::finished;
  }

  const RunOptions options_;
  sim::Random random_;
  ExpectedState state_;
  std::string replay_;
  unsigned children_ = 0;
  unsigned kills_ = 0;
};

}  // namespace

int run_parent(const RunOptions& given) {
  RunOptions options = given;
  const bool own_directory = options.directory.empty();
  if (own_directory) {
    options.directory = (std::filesystem::temp_directory_path() / "basalt-stress-XXXXXX").string();
    if (::mkdtemp(options.directory.data()) == nullptr) fail("make " + options.directory);
  } else {
    std::filesystem::create_directories(options.directory);
  }
  Parent parent(options);
  RunOptions replay = given;
  replay.directory.clear();  // there the store is no longer as it was in the beginning
  parent.set_replay(replay.command());
  const bool went_well = parent.run();
  const bool as_wanted = went_well == (options.sabotage == Sabotage::none);
  if (went_well) parent.print_summary();
  if (!went_well) std::fprintf(stderr, "%s\n", parent.circumstances().c_str());
  if (!went_well && as_wanted) std::printf("rocksdb_stress: the sabotage was noticed\n");
  if (went_well && !as_wanted) std::printf("rocksdb_stress: NOBODY NOTICED THE SABOTAGE\n");
  if (as_wanted && own_directory) {
    for (const auto& tail : tails_of(options)) std::filesystem::remove(tail);
    std::filesystem::remove_all(options.directory);
  }
  return as_wanted ? 0 : 1;
}

}  // namespace basalt::stress
