// Hosts that come, work and go without a word, beside many that only hold their connections: nothing is left of those that
// have gone, and the memory stays what it was.
//
// BASALT_CHURN_SECONDS (2) and BASALT_CHURN_HELD (100): for how long, and how many connections are held meanwhile.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <random>
#include <thread>

#include "test/nvme/kept_log.h"
#include "test/targets/nvmf/raw_host.h"
#include "test/targets/nvmf/served_target.h"

namespace basalt {
namespace {

constexpr unsigned kHosts = 64, kThreads = 4;

// A sanitizer keeps memory that was freed, to find who still uses it.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kKeepsFreedMemory = true;
#elif defined(__has_feature)
constexpr bool kKeepsFreedMemory =
    __has_feature(address_sanitizer) || __has_feature(thread_sanitizer);
#else
constexpr bool kKeepsFreedMemory = false;
#endif

int setting(const char* name, int otherwise) {
  const char* const text = std::getenv(name);
  return text != nullptr ? std::atoi(text) : otherwise;
}

size_t resident_kib() {
  std::ifstream file("/proc/self/statm");
  size_t size = 0, resident = 0;
  file >> size >> resident;
  return resident * static_cast<size_t>(::sysconf(_SC_PAGESIZE)) / 1024;
}

// Throws what is logged away: a line for each host that goes is too much to keep.
struct NoLog final : LogSink {
  void log(LogLevel, std::string_view, std::string_view) override {}
};

nvme::Command transfer(nvme::IoOpcode opcode, uint32_t lba, uint32_t blocks) {
  nvme::Command command;
  command.opcode = static_cast<uint8_t>(opcode);
  command.nsid = 1;
  command.cdw10 = lba;
  command.cdw12 = blocks - 1;
  return command;
}

// One host's visit: an admin queue, perhaps an I/O queue and some work; then it is gone, answered or not.
void visit(const nvmf::ListenAddress& address, std::mt19937& random) {
  RawHost admin(address);
  if (random() % 8 == 0) return;
  const uint16_t controller = admin.become_admin(ServedTarget::kNqn, random() % 2 == 0 ? 0 : 500);
  if (random() % 4 == 0) return;
  RawHost io(address);
  io.become_io(ServedTarget::kNqn, controller);
  const std::vector<std::byte> data(4096, std::byte{1});
  const unsigned commands = random() % 32;
  for (unsigned left = commands; left > 0; --left) {
    const auto lba = static_cast<uint32_t>(random() % 1024);
    switch (random() % 4) {
      case 0: io.submit(transfer(nvme::IoOpcode::read, lba, 128), {}, 65536); break;
      case 1: io.submit(transfer(nvme::IoOpcode::write, lba, 8), data); break;
      case 2: io.submit(transfer(nvme::IoOpcode::write, lba, 128), {}, 65536); break;  // never sent
      default: io.submit(transfer(nvme::IoOpcode::flush, 0, 1)); break;
    }
  }
  if (commands > 0 && random() % 2 == 0) io.receive();
}

TEST(NvmfChurn, LeavesNothingBehind) {
  const int held = setting("BASALT_CHURN_HELD", 100);
  const auto time = std::chrono::seconds(setting("BASALT_CHURN_SECONDS", 2));
  rlimit files{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &files), 0);
  files.rlim_cur = files.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &files);
  NoLog log;
  ServedTarget served({"ram:8M"}, 2, {}, &log);
  std::vector<std::unique_ptr<RawHost>> holding;
  for (int i = 0; i < held; ++i) {
    holding.push_back(std::make_unique<RawHost>(served.address));
    holding.back()->become_admin(ServedTarget::kNqn);
  }
  const auto settle = [&] {
    for (int i = 0; i < 20'000; ++i) {
      if (served.target->connection_count() == static_cast<size_t>(held)) return true;
      sleep_for(std::chrono::milliseconds(1));
    }
    return false;
  };
  const auto churn = [&](std::chrono::milliseconds duration, unsigned seed) {
    std::vector<std::thread> threads;
    std::atomic<unsigned> visits{0};
    for (unsigned i = 0; i < kThreads; ++i) {
      threads.emplace_back([&, i] {
        std::mt19937 random(seed + i);
        const auto end = std::chrono::steady_clock::now() + duration;
        while (std::chrono::steady_clock::now() < end) {
          for (unsigned host = 0; host < kHosts / kThreads; ++host) visit(served.address, random);
          visits += kHosts / kThreads;
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    return visits.load();
  };
  // The pools grow to what such a crowd needs.
  churn(time / 2, 1);
  ASSERT_TRUE(settle()) << served.target->connection_count() << " connections are left";
  const size_t before = resident_kib();
  const unsigned visits = churn(time, 100);
  ASSERT_TRUE(settle()) << served.target->connection_count() << " connections are left";
  const size_t after = resident_kib();
  EXPECT_EQ(served.target->find_subsystem(ServedTarget::kNqn)->controllers().size(),
            static_cast<size_t>(held));
  if (!kKeepsFreedMemory) {
    EXPECT_LT(after, before + before / 10 + 4096) << "KiB resident, after " << visits << " visits";
  }
  std::printf("%u visits; %zu KiB resident before, %zu after\n", visits, before, after);
  // Those that held on are served as ever.
  nvme::Command identify;
  identify.opcode = static_cast<uint8_t>(nvme::AdminOpcode::identify);
  identify.cdw10 = 1;
  for (const auto& host : holding) {
    EXPECT_TRUE(host->run(identify, {}, 4096).status().ok());
  }
}

}  // namespace
}  // namespace basalt
