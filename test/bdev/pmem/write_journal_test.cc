// Goal: a write through the journal is all or nothing after a crash at any moment, and recovery
// never brings back something older than what was completed. Method: a memory that remembers which
// stores were not drained; a crash keeps a random subset of them, in 8-byte pieces.
#include "bdev/pmem/write_journal.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <vector>

#include "base/crc32c.h"

namespace basalt {
namespace {

using namespace pmem_format;

constexpr size_t kDeviceBytes = 512 * 1024;
constexpr size_t kFileBytes = kDeviceBytes + kJournalBytes;

// Persistent memory with caches in front, cut off after a given number of steps. A drain is about the stores
// of the thread that makes it, and of no other.
class CrashingMemory : public PmemStores {
 public:
  explicit CrashingMemory(std::vector<std::byte> durable)
      : durable_(std::move(durable)), live_(durable_) {}

  std::span<std::byte> bytes() { return live_; }
  const std::vector<std::byte>& durable() const { return durable_; }
  void crash_after(uint64_t steps) { steps_left_ = steps; }
  void go_on_as(unsigned thread) { thread_ = thread; }
  bool crashed() const { return steps_left_ == 0; }
  uint64_t steps() const { return steps_; }

  void copy(std::byte* to, const std::byte* from, size_t bytes) noexcept override {
    if (!step()) return;
    std::memcpy(to, from, bytes);
    dirty_.push_back({static_cast<size_t>(to - live_.data()), bytes, thread_});
  }
  void drain() noexcept override {
    if (!step()) return;
    std::erase_if(dirty_, [this](const Store& store) {
      if (store.thread != thread_) return false;
      std::copy_n(live_.begin() + static_cast<long>(store.at), store.bytes,
                  durable_.begin() + static_cast<long>(store.at));
      return true;
    });
  }
  // What is found after the power has come back.
  std::vector<std::byte> after_crash(std::mt19937_64& random) const {
    std::vector<std::byte> found = durable_;
    for (const auto& [at, bytes, thread] : dirty_) {
      const unsigned keep = static_cast<unsigned>(random() % 101);  // percent of this store
      for (size_t piece = at / 8; piece * 8 < at + bytes; ++piece) {
        if (random() % 100 >= keep) continue;
        const size_t begin = std::max(piece * 8, at);
        const size_t end = std::min(piece * 8 + 8, at + bytes);
        std::copy(live_.begin() + static_cast<long>(begin), live_.begin() + static_cast<long>(end),
                  found.begin() + static_cast<long>(begin));
      }
    }
    return found;
  }

 private:
  bool step() {
    if (steps_left_ == 0) return false;
    --steps_left_;
    ++steps_;
    return true;
  }
  std::vector<std::byte> durable_;
  std::vector<std::byte> live_;
  struct Store {
    size_t at, bytes;
    unsigned thread;
  };
  std::vector<Store> dirty_;
  unsigned thread_ = 0;
  uint64_t steps_left_ = ~uint64_t{0};
  uint64_t steps_ = 0;
};

std::vector<std::byte> formatted_file() {
  CrashingMemory memory(std::vector<std::byte>(kFileBytes, std::byte{0}));
  WriteJournal(memory.bytes(), memory).format();
  return memory.durable();
}

struct Write {
  unsigned lane;
  uint64_t offset;
  size_t bytes;
  std::byte value;
};

void carry_out(WriteJournal& journal, const Write& write) {
  std::vector<std::byte> data(write.bytes, write.value);
  // In two vectors, so that gathering is part of it.
  const size_t half = write.bytes / 2;
  const iovec vectors[] = {{data.data(), half}, {data.data() + half, write.bytes - half}};
  journal.write(write.lane, write.offset, vectors, write.bytes);
}

bool holds(std::span<const std::byte> file, const Write& write, std::byte value) {
  const auto range = file.subspan(write.offset, write.bytes);
  return std::all_of(range.begin(), range.end(), [value](std::byte b) { return b == value; });
}

// One run: writes until the crash, recovers (crashing there too, now and then), checks every block.
void run_until_crash(uint64_t seed, uint64_t crash_step) {
  std::mt19937_64 random(seed);
  CrashingMemory memory(formatted_file());
  WriteJournal journal(memory.bytes(), memory);
  std::vector<std::byte> model(kDeviceBytes);
  memory.crash_after(crash_step);
  Write last{};
  for (unsigned i = 1; !memory.crashed(); ++i) {
    const size_t bytes = 512 * (1 + random() % 128);
    last = {.lane = static_cast<unsigned>(random() % 20),
            .offset = 512 * (random() % ((kDeviceBytes - bytes) / 512 + 1)),
            .bytes = bytes,
            .value = static_cast<std::byte>(1 + i % 255)};
    carry_out(journal, last);
    if (!memory.crashed()) std::fill_n(model.begin() + last.offset, last.bytes, last.value);
  }
  std::vector<std::byte> found = memory.after_crash(random);
  if (random() % 2 == 0) {  // and again while recovering
    CrashingMemory again(found);
    again.crash_after(random() % 40);
    WriteJournal(again.bytes(), again).recover();
    found = again.after_crash(random);
  }
  CrashingMemory recovered(found);
  WriteJournal after(recovered.bytes(), recovered);
  ASSERT_TRUE(after.check("test").ok());
  after.recover();
  EXPECT_EQ(after.pending(), 0u);

  const std::span<const std::byte> device = std::span(recovered.durable()).first(kDeviceBytes);
  const bool is_new = holds(device, last, last.value);
  const bool is_old =
      std::equal(device.begin() + last.offset, device.begin() + last.offset + last.bytes,
                 model.begin() + last.offset);
  EXPECT_TRUE(is_new || is_old) << "torn: seed " << seed << ", crash at step " << crash_step;
  std::copy_n(device.begin() + last.offset, last.bytes, model.begin() + last.offset);
  EXPECT_TRUE(std::equal(device.begin(), device.end(), model.begin()))
      << "something older came back: seed " << seed << ", crash at step " << crash_step;
}

TEST(WriteJournal, IsAllOrNothingAfterACrashAnywhere) {
  for (uint64_t step = 1; step <= 120; ++step) {
    for (uint64_t seed = 0; seed < 3; ++seed) run_until_crash(seed * 1000 + step, step);
    if (testing::Test::HasFailure()) return;
  }
}

// Goal: a lane never holds something older than its place does, also if another thread wrote there since.
TEST(WriteJournal, IsOutOfItsLaneWhenItIsDone) {
  CrashingMemory memory(formatted_file());
  WriteJournal journal(memory.bytes(), memory);
  for (unsigned thread = 0; thread < 2; ++thread) {
    memory.go_on_as(thread);
    // Recovery goes by the lanes' numbers: the older write would come last.
    carry_out(journal, {1 - thread, 8192, 1024, static_cast<std::byte>(1 + thread)});
  }
  CrashingMemory recovered(memory.durable());
  WriteJournal(recovered.bytes(), recovered).recover();
  EXPECT_TRUE(holds(recovered.durable(), {0, 8192, 1024, {}}, std::byte{2}));
}

// Goal: prove the harness: without the journal, blocks do tear.
TEST(WriteJournal, IsNeeded) {
  unsigned torn = 0;
  std::mt19937_64 random(1);
  for (int i = 0; i < 50; ++i) {
    CrashingMemory memory(formatted_file());
    const std::vector<std::byte> data(512, std::byte{1});
    memory.copy(memory.bytes().data(), data.data(), data.size());
    const std::vector<std::byte> found = memory.after_crash(random);
    const Write block{0, 0, 512, std::byte{1}};
    torn += !holds(found, block, std::byte{0}) && !holds(found, block, std::byte{1});
  }
  EXPECT_GT(torn, 10u);
}

// Goal: large writes reach their place piece by piece, at both ends of the device.
TEST(WriteJournal, WritesAnySize) {
  CrashingMemory memory(formatted_file());
  WriteJournal journal(memory.bytes(), memory);
  for (const size_t bytes : {size_t{512}, kLanePayloadBytes - 512, kLanePayloadBytes,
                             kLanePayloadBytes + 512, 3 * kLanePayloadBytes + 1024}) {
    for (const uint64_t offset : {uint64_t{0}, uint64_t{kDeviceBytes - bytes}}) {
      const Write write{3, offset, bytes, std::byte{0x5A}};
      std::fill_n(memory.bytes().begin(), kDeviceBytes, std::byte{0});
      carry_out(journal, write);
      EXPECT_TRUE(holds(memory.durable(), write, std::byte{0x5A})) << bytes << " at " << offset;
      EXPECT_EQ(journal.pending(), 0u);
    }
  }
}

// Goal: a journal is taken for one of this version only if all of its header says so. Method: one field
// forged at a time, its checksum put right but where it is the point.
TEST(WriteJournal, KnowsItsHeader) {
  CrashingMemory memory(formatted_file());
  const WriteJournal journal(memory.bytes(), memory);
  std::byte* const at = memory.bytes().data() + kDeviceBytes;
  JournalHeader good;
  std::memcpy(&good, at, sizeof good);
  const auto judged = [&](auto&& change) {
    JournalHeader header = good;
    change(header);
    if (header.checksum == good.checksum) {
      header.checksum =
          crc32c(std::as_bytes(std::span(&header, 1)).first(offsetof(JournalHeader, checksum)));
    }
    std::memcpy(at, &header, sizeof header);
    return journal.check("test").code();
  };
  EXPECT_EQ(judged([](auto&) {}), StatusCode::ok);
  EXPECT_EQ(judged([](auto& h) { h.magic = h.magic + 1; }), StatusCode::corruption);
  EXPECT_EQ(judged([](auto& h) { h.checksum = h.checksum ^ 1; }), StatusCode::corruption);
  EXPECT_EQ(judged([](auto& h) { h.version = kVersion + 1; }), StatusCode::unsupported);
  EXPECT_EQ(judged([](auto& h) { h.lane_count = kLaneCount - 1; }), StatusCode::unsupported);
  EXPECT_EQ(judged([](auto& h) { h.lane_payload_bytes = 4096; }), StatusCode::unsupported);
}

// Goal: nothing in a lane is believed unless all of it is right. Method: a complete lane, one field
// spoiled at a time; also fields that are consistent but lead outside the device.
TEST(WriteJournal, BelievesNothingThatIsNotRight) {
  CrashingMemory memory(formatted_file());
  WriteJournal journal(memory.bytes(), memory);
  std::byte* lane = memory.bytes().data() + kDeviceBytes + kPageBytes;
  const auto put = [&](uint64_t sequence, uint64_t offset, uint32_t length) {
    std::fill_n(lane + kPageBytes, kLanePayloadBytes, std::byte{7});
    LaneHeader header;
    header.sequence = sequence;
    header.offset_bytes = offset;
    header.length_bytes = length;
    header.payload_checksum =
        crc32c({lane + kPageBytes, std::min<size_t>(length, kLanePayloadBytes)});
    header.checksum =
        crc32c(std::as_bytes(std::span(&header, 1)).first(offsetof(LaneHeader, checksum)));
    std::memcpy(lane, &header, sizeof header);
  };
  put(1, 4096, 512);
  ASSERT_EQ(journal.pending(), 1u);
  for (size_t at = 0; at < sizeof(LaneHeader); ++at) {
    put(1, 4096, 512);
    lane[at] ^= std::byte{0x10};
    EXPECT_EQ(journal.pending(), 0u) << "header byte " << at;
  }
  for (const size_t at : {size_t{0}, size_t{511}}) {
    put(1, 4096, 512);
    lane[kPageBytes + at] ^= std::byte{1};
    EXPECT_EQ(journal.pending(), 0u) << "payload byte " << at;
  }
  put(0, 4096, 512);
  EXPECT_EQ(journal.pending(), 0u) << "empty";
  const struct {
    uint64_t offset;
    uint32_t length;
  } outside[] = {{kDeviceBytes, 512},
                 {kDeviceBytes - 511, 512},
                 {~uint64_t{0}, 512},
                 {~uint64_t{0} - 511, 512},
                 {0, 0},
                 {0, kLanePayloadBytes + 1},
                 {0, ~uint32_t{0}}};
  for (const auto& row : outside) {
    put(1, row.offset, row.length);
    EXPECT_EQ(journal.pending(), 0u) << row.length << " at " << row.offset;
  }
  put(1, kDeviceBytes - 512, 512);
  EXPECT_EQ(journal.pending(), 1u) << "the last block";
  EXPECT_EQ(journal.recover(), 1u);
  EXPECT_TRUE(holds(memory.bytes(), {0, kDeviceBytes - 512, 512, {}}, std::byte{7}));
  EXPECT_EQ(journal.recover(), 0u);
}

}  // namespace
}  // namespace basalt
