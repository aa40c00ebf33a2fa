// Goal: in a store with data checksums no way of reading a table returns bytes that were damaged, every way of
// changing one leaves it readable, and a scrub finds what is damaged, in logs too, and says where.
// Method: damage below the file system to a block of known place; reads by all calls, with and without the page
// cache; changes of recorded bytes, before and after the death of the process.
#include "blob/format.h"
#include "fixture.h"

#include <algorithm>
#include <cstring>
#include <mutex>
#include <thread>

namespace basalt {
namespace {

constexpr uint64_t kBlock = 4096;

FormatOptions with_checksums() {
  FormatOptions options;
  options.data_checksums = true;
  return options;
}

MountOptions cache_of(uint64_t bytes) {
  MountOptions options;
  options.cache_bytes = bytes;
  return options;
}

class ChecksumsFsTest : public FsTest {
 protected:
  // Device byte of the block that holds these bytes.
  uint64_t place_of(std::span<const std::byte> block) {
    for (uint64_t at = 0; at < disk_->options().bytes; at += kBlock) {
      if (std::memcmp(disk_->contents() + at, block.data(), kBlock) == 0) return at;
    }
    ADD_FAILURE() << "not on the device";
    return 0;
  }
  void damage_block(std::span<const std::byte> bytes, uint64_t block) {
    disk_->damage(place_of(bytes.subspan(block * kBlock, kBlock)) + 77, 1);
  }
  static Status read_at(File& file, uint64_t offset, size_t length, Caching caching) {
    std::vector<std::byte> bytes(length);
    const auto count = file.read(offset, bytes, caching);
    return count ? Status() : count.error();
  }
};

// Both block sizes, with a page cache and without: parts of blocks and whole ones, aligned or not.
class ReadingDamage : public ChecksumsFsTest,
                      public testing::WithParamInterface<std::tuple<uint32_t, uint64_t>> {};

TEST_P(ReadingDamage, IsAnErrorByEveryCall) {
  const auto [block_bytes, cache] = GetParam();
  make({.block_bytes = block_bytes}, with_checksums());
  mount(cache_of(cache));
  EXPECT_TRUE(fs_->has_data_checksums());
  const auto data = pattern(300'000, 1);
  write_file("/table", FileKind::table, data);
  remount(cache_of(cache));
  damage_block(data, 10);
  const uint64_t bad = 10 * kBlock;
  const auto file = open("/table");
  struct Range {
    uint64_t offset;
    size_t length;
  };
  const std::vector<Range> hit = {{0, 300'000},     {bad, kBlock},
                                  {bad + 5, 1},     {bad - 1, 2},
                                  {bad + 512, 512}, {bad - kBlock, 2 * kBlock},
                                  {bad + 4095, 9},  {bad - 100'00, 30'000}};
  const std::vector<Range> missed = {
      {bad - 1, 1}, {bad + kBlock, kBlock}, {0, 5}, {299'000, 1'000}};
  const auto check = [&](const Range& range, const Status& status, bool is_hit,
                         std::span<const std::byte> got, const char* call) {
    SCOPED_TRACE(std::string(call) + " of " + std::to_string(range.length) + " at " +
                 std::to_string(range.offset));
    EXPECT_EQ(status.code(), is_hit ? StatusCode::corruption : StatusCode::ok)
        << status.to_string();
    if (is_hit) return;
    EXPECT_TRUE(std::equal(got.begin(), got.end(), data.begin() + static_cast<long>(range.offset)));
  };
  for (const bool is_hit : {true, false}) {
    for (const Range& range : is_hit ? hit : missed) {
      std::vector<std::byte> got(range.length);
      for (const Caching caching : {Caching::normal, Caching::uncached}) {
        const auto count = file->read(range.offset, got, caching);
        check(range, count ? Status() : count.error(), is_hit, got, "read");
        std::vector<ReadRequest> batch(2);
        batch[0].offset = range.offset;
        batch[0].buffer = got;
        std::vector<std::byte> other(7);
        batch[1].offset = 250'000;
        batch[1].buffer = other;
        file->read_batch(batch, caching);
        check(range, batch[0].status, is_hit, got, "read_batch");
        EXPECT_TRUE(batch[1].status.ok());
      }
      AsyncRead read;
      read.offset = range.offset;
      read.buffer = got;
      file->start_read(read);
      AsyncRead* const reads[] = {&read};
      ASSERT_OK(fs_->wait_reads(reads, 1));
      check(range, read.status, is_hit, got, "start_read");
    }
  }
  // Read ahead, it does not get into the cache by the back door.
  (void)file->prefetch(0, 300'000);
  EXPECT_EQ(read_at(*file, bad, 100, Caching::normal).code(), StatusCode::corruption);
}

INSTANTIATE_TEST_SUITE_P(BlocksAndCaches, ReadingDamage,
                         testing::Combine(testing::Values(512u, 4096u),
                                          testing::Values(uint64_t{0}, uint64_t{8} << 20)));

TEST_F(ChecksumsFsTest, WithoutTheOptionThereAreNone) {
  make();
  mount(cache_of(0));
  EXPECT_FALSE(fs_->has_data_checksums());
  const auto data = pattern(50'000, 2);
  write_file("/table", FileKind::table, data);
  damage_block(data, 3);
  const auto file = open("/table");
  EXPECT_OK(read_at(*file, 0, 50'000, Caching::normal));
}

// Every call that changes recorded bytes, against a plain array; read back before, after a clean mount, and after
// the process died.
TEST_F(ChecksumsFsTest, EveryChangeLeavesTheTableReadable) {
  make({.block_bytes = 512}, with_checksums());
  mount(cache_of(0));
  auto expected = pattern(200'000, 3);
  write_file("/table", FileKind::table, expected);
  const auto change = [&](FileSystem& fs) {
    auto file = std::move(*fs.open("/table", OpenMode::read_write));
    const auto put = [&](uint64_t offset, size_t length, uint64_t seed) {
      const auto bytes = pattern(length, seed);
      ASSERT_OK(file->write(offset, bytes));
      if (expected.size() < offset + length) expected.resize(offset + length);
      std::copy(bytes.begin(), bytes.end(), expected.begin() + static_cast<long>(offset));
    };
    put(5, 10, 4);
    put(4096, 8192, 5);
    put(100'000, 50'001, 6);
    ASSERT_OK(file->sync());
    put(199'999, 20, 7);  // across the end
    ASSERT_OK(file->punch(30'000, 40'000));
    std::fill(expected.begin() + 30'000, expected.begin() + 70'000, std::byte{0});
    put(40'000, 3, 8);
    ASSERT_OK(file->truncate(150'123));
    expected.resize(150'123);
    ASSERT_OK(file->truncate(180'000));
    expected.resize(180'000);
    for (unsigned i = 0; i < 20; ++i) {  // each sync records the partial block at the end
      const auto bytes = pattern(700, 20 + i);
      ASSERT_OK(file->append(bytes));
      expected.insert(expected.end(), bytes.begin(), bytes.end());
      ASSERT_OK(file->sync());
    }
    ASSERT_OK(file->flush());
    ASSERT_OK(file->close());
  };
  change(*fs_);
  EXPECT_EQ(read_file("/table"), expected);
  remount(cache_of(8 << 20));
  EXPECT_EQ(read_file("/table"), expected);
  unmount();
  expect_clean();

  const auto before = expected;
  ASSERT_TRUE(in_child([&] {
    auto file = open("/table", OpenMode::read_write);
    const auto bytes = pattern(30'000, 50);
    ASSERT_OK(file->write(10'000, bytes));
    ASSERT_OK(file->append(bytes));
    ASSERT_OK(file->flush());
    die();
  }));
  const auto bytes = pattern(30'000, 50);
  std::copy(bytes.begin(), bytes.end(), expected.begin() + 10'000);
  expected.insert(expected.end(), bytes.begin(), bytes.end());
  mount(cache_of(0));
  EXPECT_EQ(read_file("/table"), expected);
  unmount();
  expect_clean();
}

// Overwriting takes clusters. Files leave some for that, so that a full store still takes what there is room for, and
// above all so that what a killed process had kept can be replayed into it.
TEST_F(ChecksumsFsTest, AFullStoreCanBeOverwrittenAndRecovered) {
  const auto begin =
      pattern(5'000, 60);  // ends in a partial block, in a cluster with room for more
  const auto over = pattern(4'096, 61), end = pattern(300, 62);
  auto expected = begin;
  for (unsigned i = 0; i < 5; ++i) {
    const auto bytes = pattern(500, 63 + i);
    expected.insert(expected.end(), bytes.begin(), bytes.end());
  }
  std::copy(over.begin(), over.end(), expected.begin() + 100);
  expected.insert(expected.end(), end.begin(), end.end());

  for (const uint32_t cluster_bytes : {16384u, 65536u, 1048576u}) {
    SCOPED_TRACE(cluster_bytes);
    FormatOptions format = with_checksums();
    format.cluster_bytes = cluster_bytes;
    make({}, format);
    ASSERT_TRUE(in_child(
        [&] {
          const auto table = create("/table");
          ASSERT_OK(table->append(begin));
          ASSERT_OK(table->sync());
          const auto filler = create("/filler");
          uint64_t filled = 0;
          for (uint64_t step = 16 << 20; step >= cluster_bytes;) {
            const Status status = filler->allocate(filled, step);
            filled += status.ok() ? step : 0;
            if (!status.ok()) step /= 2;
          }
          ASSERT_EQ(fs_->space().free_bytes, 0u);
          for (unsigned i = 0; i < 5; ++i) {
            ASSERT_OK(table->append(pattern(500, 63 + i)));
            if (i % 2 == 0) {
              ASSERT_OK(table->sync());
            }
          }
          ASSERT_OK(table->write(100, over));
          ASSERT_OK(table->append(end));
          ASSERT_OK(table->flush());
          die();
        },
        cache_of(0)));
    mount(cache_of(0));
    EXPECT_EQ(read_file("/table"), expected);
    unmount();
    expect_clean();
  }
}

// A write that exchanges clusters waits for reads under way, also for those that nobody else would complete.
TEST_F(ChecksumsFsTest, AStartedReadDoesNotHoldUpAWriteForEver) {
  make({}, with_checksums());
  mount(cache_of(0));
  const auto data = pattern(100'000, 9);
  write_file("/table", FileKind::table, data);
  const auto file = open("/table", OpenMode::read_write);
  std::vector<std::byte> got(100'000);
  AsyncRead read;
  read.buffer = got;
  file->start_read(read);
  ASSERT_OK(file->write(8192, pattern(4096, 10)));
  AsyncRead* const reads[] = {&read};
  ASSERT_OK(fs_->wait_reads(reads, 1));
  EXPECT_OK(read.status);
  auto fresh = data;
  const auto changed = pattern(4096, 10);
  std::copy(changed.begin(), changed.end(), fresh.begin() + 8192);
  EXPECT_TRUE(got == data || got == fresh);
}

// ---- Scrub

class ScrubTest : public ChecksumsFsTest {
 protected:
  // Files of both kinds, a second name, a directory, an empty file.
  void fill() {
    table_ = pattern(1'500'000, 11);
    log_ = pattern(100'000, 12);
    ASSERT_OK(fs_->make_directory("/db"));
    write_file("/db/table", FileKind::table, table_);
    write_file("/db/log", FileKind::log, log_);
    write_file("/db/other", FileKind::table, pattern(10'000, 13));
    write_file("/empty", FileKind::table, {});
    ASSERT_OK(fs_->link("/db/table", "/again"));
    ASSERT_OK(fs_->sync_all());
  }
  ScrubReport scrub(const ScrubOptions& options = {}) {
    auto report = fs_->scrub(options);
    EXPECT_TRUE(report.has_value()) << report.error().to_string();
    return report.value_or(ScrubReport{});
  }
  std::vector<std::byte> table_, log_;
};

TEST_F(ScrubTest, ASoundStoreIsReadOnceAndWhole) {
  make({}, with_checksums());
  mount();
  fill();
  const ScrubReport report = scrub();
  EXPECT_TRUE(report.complete);
  EXPECT_EQ(report.files, 4u);
  EXPECT_EQ(report.bytes_read, table_.size() + log_.size() + 10'000);
  EXPECT_EQ(report.bytes_verified, report.bytes_read);
  EXPECT_TRUE(report.damages.empty());
}

TEST_F(ScrubTest, DamageIsNamedByFileAndBytes) {
  make({}, with_checksums());
  mount();
  fill();
  damage_block(table_, 300);  // beyond the first step
  damage_block(table_, 301);
  damage_block(table_, 3);
  const uint64_t log_block = find_block(open("/db/log")->file_id(), 0, 4096);
  ASSERT_NE(log_block, ~uint64_t{0});
  disk_->damage(log_block + 100, 1);
  for (const uint64_t cache : {uint64_t{8} << 20, uint64_t{0}}) {
    remount(cache_of(cache));
    const ScrubReport report = scrub();
    EXPECT_TRUE(report.complete);
    std::vector<std::string> found;
    for (const ScrubDamage& damage : report.damages) {
      EXPECT_EQ(damage.status.code(), StatusCode::corruption);
      const bool is_table = damage.path != "/db/log";
      EXPECT_TRUE(!is_table || damage.path == "/db/table" || damage.path == "/again");
      found.push_back((is_table ? "table " : "log ") + std::to_string(damage.offset) + " " +
                      std::to_string(damage.length));
    }
    std::sort(found.begin(), found.end());
    ASSERT_EQ(found.size(), 3u);
    EXPECT_EQ(found[0], "log 0 4096");
    EXPECT_EQ(found[1], "table " + std::to_string(3 * kBlock) + " " + std::to_string(kBlock));
    EXPECT_EQ(found[2], "table " + std::to_string(300 * kBlock) + " " + std::to_string(2 * kBlock));
  }
}

// The second copies, which nothing else reads on a mounted store, too.
TEST_F(ScrubTest, DamagedCopiesOfMetadataAreMended) {
  make();
  mount();
  for (int i = 0; i < 300; ++i) {  // trees of several levels
    write_file("/file-with-a-long-name-" + std::string(60, 'x') + std::to_string(i),
               FileKind::table, pattern(100, 1));
  }
  remount();
  EXPECT_EQ(scrub().damaged_copies, 0u);
  // Whatever looks like a page of a tree, in its second half of the device: the second copies.
  uint64_t damaged = 0;
  for (uint64_t at = disk_->options().bytes / 2; at < disk_->options().bytes; at += kBlock) {
    if (std::memcmp(disk_->contents() + at, "BSMP", 4) != 0) continue;
    disk_->damage(at + 2000, 1);
    ++damaged;
  }
  ASSERT_GT(damaged, 5u);
  const ScrubReport report = scrub();
  EXPECT_TRUE(report.damages.empty());
  EXPECT_GT(report.damaged_copies, 5u);
  EXPECT_EQ(fs_->stats().damaged_copies_used, report.damaged_copies);
  EXPECT_EQ(scrub().damaged_copies, 0u);  // mended
  unmount();
  expect_clean();
}

TEST_F(ScrubTest, TheCopiesOfThePageMapAreMended) {
  make();
  mount();
  fill();
  remount();
  for (const bool second : {false, true}) {
    const uint64_t half = disk_->options().bytes / 2;
    uint64_t damaged = 0;
    for (uint64_t at = second ? half : 0; at < (second ? 2 * half : half); at += kBlock) {
      blob::PageHeader header;
      std::memcpy(&header, disk_->contents() + at, sizeof header);
      if (header.magic != blob::kPageMagic) continue;
      if (header.kind == static_cast<uint8_t>(blob::PageKind::tree_node)) continue;
      disk_->damage(at + 2000, 1);
      ++damaged;
    }
    ASSERT_GE(damaged, 2u);  // a leaf and the index; some are of earlier checkpoints
    const ScrubReport report = scrub();
    EXPECT_TRUE(report.damages.empty());
    EXPECT_EQ(report.damaged_copies, 2u);
    EXPECT_EQ(scrub().damaged_copies, 0u);
  }
  unmount();
  expect_clean();
}

TEST_F(ScrubTest, MetadataWithoutAGoodCopyIsDamage) {
  make();
  mount();
  fill();
  remount({.mode = OpenMode::read_only});
  for (uint64_t at = 0; at < disk_->options().bytes; at += kBlock) {
    if (std::memcmp(disk_->contents() + at, "BSMP", 4) == 0) disk_->damage(at + 2000, 1);
  }
  const ScrubReport report = scrub();
  EXPECT_TRUE(report.complete);
  ASSERT_FALSE(report.damages.empty());
  EXPECT_EQ(report.damages[0].path, "metadata");
  EXPECT_EQ(report.damages[0].status.code(), StatusCode::corruption);
  unmount();
}

TEST_F(ScrubTest, WithoutChecksumsTablesAreOnlyRead) {
  make();
  mount();
  fill();
  const ScrubReport report = scrub();
  EXPECT_EQ(report.bytes_read, table_.size() + log_.size() + 10'000);
  EXPECT_EQ(report.bytes_verified, log_.size());
  remount();
  disk_->fail_reads(true);
  const ScrubReport failing = scrub();
  disk_->fail_reads(false);
  EXPECT_FALSE(failing.damages.empty());
  for (const ScrubDamage& damage : failing.damages) {
    EXPECT_EQ(damage.status.code(), StatusCode::io_error) << to_string(damage);
  }
}

TEST_F(ScrubTest, StopsWhenTold) {
  make({}, with_checksums());
  mount();
  fill();
  unsigned calls = 0;
  ScrubOptions options;
  options.keep_going = [&](const ScrubReport&) { return ++calls < 3; };
  const ScrubReport report = scrub(options);
  EXPECT_FALSE(report.complete);
  EXPECT_EQ(calls, 3u);
  unmount();  // it left no file open
}

TEST_F(ScrubTest, FilesMayComeAndGoBesideIt) {
  make({}, with_checksums());
  mount();
  fill();
  unsigned calls = 0;
  ScrubOptions options;
  options.keep_going = [&](const ScrubReport&) {
    const std::string name = "/db/new" + std::to_string(calls);
    write_file(name, FileKind::table, pattern(5'000, calls));
    if (calls == 2) {
      EXPECT_OK(fs_->remove("/db/log"));
      EXPECT_OK(fs_->remove("/db/table"));
      EXPECT_OK(fs_->remove("/again"));
      EXPECT_OK(fs_->truncate("/db/other", 100));
    }
    ++calls;
    return true;
  };
  const ScrubReport report = scrub(options);
  EXPECT_TRUE(report.complete);
  for (const ScrubDamage& damage : report.damages) ADD_FAILURE() << to_string(damage);
  unmount();
  expect_clean();
}

// Runs tasks when told to, whatever their delay, and remembers the last delay asked for.
class Steps final : public Executor {
 public:
  void post(BackgroundTask& task, Duration delay) override {
    const std::lock_guard lock(mutex_);
    if (std::find(tasks_.begin(), tasks_.end(), &task) == tasks_.end()) tasks_.push_back(&task);
    delay_ = delay;
  }
  void cancel(BackgroundTask& task) override {
    const std::lock_guard lock(mutex_);
    std::erase(tasks_, &task);
  }
  bool run_one() {
    BackgroundTask* task = nullptr;
    {
      const std::lock_guard lock(mutex_);
      if (tasks_.empty()) return false;
      task = tasks_.front();
      tasks_.erase(tasks_.begin());
    }
    task->run();
    return true;
  }
  Duration delay() const { return delay_; }

 private:
  std::mutex mutex_;
  std::vector<BackgroundTask*> tasks_;
  Duration delay_{};
};

TEST_F(ScrubTest, TheBackgroundScrubKeepsItsRateAndCountsDamage) {
  make({}, with_checksums());
  mount();
  fill();
  damage_block(table_, 7);
  unmount();
  Steps steps;
  ContextOptions context_options;
  context_options.executor = &steps;
  context_options.boot_id = "other";
  context_options.shared_memory_dir = shared_dir_;
  auto context = std::move(*Context::create(context_options));
  MountOptions options;
  options.scrub_bytes_per_second = 4 << 20;
  auto fs = FileSystem::mount(*context, disk_->open(), options);
  ASSERT_TRUE(fs.has_value()) << fs.error().to_string();
  for (unsigned i = 0; i < 1000 && (*fs)->stats().scrubbed_bytes < (1 << 20); ++i) steps.run_one();
  EXPECT_GE(steps.delay(), std::chrono::milliseconds(200));  // 1 MiB at 4 MiB/s is 250 ms
  for (unsigned i = 0; i < 1000 && steps.delay() < std::chrono::hours(1); ++i) steps.run_one();
  EXPECT_GT((*fs)->stats().scrubbed_bytes, table_.size() + log_.size() + 10'000);  // and metadata
  EXPECT_EQ((*fs)->stats().scrub_damages, 1u);
  // In the middle of the next pass it holds a file; unmounting does not mind.
  for (unsigned i = 0; i < 1000 && (*fs)->stats().scrubbed_bytes < (3 << 20); ++i) steps.run_one();
  EXPECT_OK((*fs)->unmount());
  EXPECT_FALSE(steps.run_one());
}

}  // namespace
}  // namespace basalt
