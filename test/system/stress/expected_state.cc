// See expected_state.h. The kernel keeps the pages of a shared mapping when a process is killed, and
// each store is one aligned word; so the file holds every store the process had executed.
#include "system/stress/expected_state.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstring>

#include "system/stress/report.h"

namespace basalt::stress {
namespace {

constexpr uint64_t kMagic = 0x7373657274736273;  // "sbstress"
constexpr auto kCounters = static_cast<size_t>(Counter::count);
constexpr std::array<std::string_view, kCounters> kNames = {
    "put",  "delete",   "delete-range", "batch",    "ingest",   "get",        "multiget",
    "scan", "snapshot", "flush",        "compact",  "sync-wal", "checkpoint", "backup",
    "open", "mount",    "acknowledged", "verified", "landed",   "progress"};

}  // namespace

struct ExpectedState::Header {
  uint64_t magic;
  uint32_t family_count;
  uint32_t key_count;
  std::atomic<uint64_t> last_change;
  std::atomic<uint64_t> counters[kCounters];
};

struct ExpectedState::Entry {
  std::atomic<uint64_t> acknowledged;
  std::atomic<uint64_t> pending;
};

static_assert(std::atomic<uint64_t>::is_always_lock_free);

std::string State::to_string() const {
  if (word_ == 0) return "nothing (never written)";
  return (present() ? "the value of change " : "nothing (deleted by change ") +
         std::to_string(change()) + (present() ? "" : ")");
}

std::string_view name_of(Counter counter) { return kNames[static_cast<size_t>(counter)]; }

ExpectedState::ExpectedState(const std::string& path, uint32_t family_count, uint32_t key_count)
    : family_count_(family_count), key_count_(key_count) {
  size_bytes_ = sizeof(Header) + sizeof(Entry) * family_count * key_count;
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0) fail("open " + path + ": " + std::strerror(errno));
  struct stat info = {};
  if (::fstat(fd, &info) != 0) fail("stat " + path + ": " + std::strerror(errno));
  const bool made = info.st_size == 0;
  if (made && ::ftruncate(fd, static_cast<off_t>(size_bytes_)) != 0) {
    fail("size of " + path + ": " + std::strerror(errno));
  }
  if (!made && static_cast<size_t>(info.st_size) != size_bytes_) {
    fail(path + " is of another number of keys or families");
  }
  void* base = ::mmap(nullptr, size_bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  ::close(fd);
  if (base == MAP_FAILED) fail("map " + path + ": " + std::strerror(errno));
  header_ = static_cast<Header*>(base);
  entries_ = reinterpret_cast<Entry*>(header_ + 1);
  if (made) {
    header_->family_count = family_count;
    header_->key_count = key_count;
    header_->magic = kMagic;
  }
  if (header_->magic != kMagic || header_->family_count != family_count ||
      header_->key_count != key_count) {
    fail(path + " is no expected state of this key space");
  }
}

ExpectedState::~ExpectedState() { ::munmap(header_, size_bytes_); }

ExpectedState::Entry& ExpectedState::entry(Key key) const {
  return entries_[size_t{key.family} * key_count_ + key.index];
}

uint64_t ExpectedState::new_change() { return header_->last_change.fetch_add(1) + 1; }

Expectation ExpectedState::expectation(Key key) const {
  const Entry& e = entry(key);
  // In this order: see check_between() in verify.cc.
  const State pending = State::from_word(e.pending.load());
  return {.acknowledged = State::from_word(e.acknowledged.load()), .pending = pending};
}

void ExpectedState::announce(Key key, State state) { entry(key).pending.store(state.word()); }

void ExpectedState::acknowledge(std::span<const Key> keys) {
  for (const Key key : keys) entry(key).acknowledged.store(entry(key).pending.load());
  for (const Key key : keys) entry(key).pending.store(0);
  count(Counter::acknowledged_key, keys.size());
}

void ExpectedState::settle(Key key, State state) {
  entry(key).acknowledged.store(state.word());
  entry(key).pending.store(0);
}

void ExpectedState::count(Counter counter, uint64_t n) {
  header_->counters[static_cast<size_t>(counter)].fetch_add(n, std::memory_order_relaxed);
}

uint64_t ExpectedState::counted(Counter counter) const {
  return header_->counters[static_cast<size_t>(counter)].load(std::memory_order_relaxed);
}

}  // namespace basalt::stress
