// LogWriteback: what becomes of log bytes that nobody syncs, and of logs closed with such bytes.
// Method: background work runs when the test says so, whatever its delay; a tick is one run of all that is queued.
#include "blobfs/log_writeback.h"
#include "fixture.h"
#include "test/sim/step_executor.h"

namespace basalt {
namespace {

constexpr uint64_t kPiece = 400'000;  // less than what write-behind waits for

class LogWritebackTest : public FsTest {
 protected:
  LogWritebackTest() {
    make();
    ContextOptions options;
    options.executor = &steps_;
    options.boot_id = boot_;
    options.shared_memory_dir = shared_dir_;
    context_ = std::move(*Context::create(options));
  }
  ~LogWritebackTest() override { fs_.reset(); }

  // Everything queued now runs once.
  void tick() {
    BackgroundTask end;
    bool ended = false;
    end.run = [&] { ended = true; };
    steps_.post(end, {});
    while (!ended) ASSERT_TRUE(steps_.run_one());
  }
  std::unique_ptr<File> log_with(uint64_t bytes, const std::string& path = "/log") {
    auto file = create(path, FileKind::log);
    EXPECT_OK(file->append(pattern(bytes, 1)));
    EXPECT_OK(file->flush());
    return file;
  }
  uint64_t log_bytes_written() { return fs_->stats().log_blocks_written * 4096; }

  sim::StepExecutor steps_;
};

TEST_F(LogWritebackTest, BytesNobodySyncsStayInMemory) {
  mount();
  const auto file = log_with(20'000'000);
  EXPECT_EQ(log_bytes_written(), 0u);
  EXPECT_EQ(read_all(*file), pattern(20'000'000, 1));
}

TEST_F(LogWritebackTest, TheyAreWrittenAfterTwoTicks) {
  mount();
  const auto file = log_with(3'000'000);
  tick();
  EXPECT_EQ(log_bytes_written(), 0u);
  ASSERT_OK(file->append(pattern(kPiece, 2)));  // younger: another tick
  tick();
  EXPECT_GT(log_bytes_written(), 2'990'000u);
  EXPECT_LT(log_bytes_written(), 3'100'000u);
  tick();
  EXPECT_GT(log_bytes_written(), 3'390'000u);
  // Nothing but a block in part is left: no more ticks.
  tick();
  EXPECT_FALSE(steps_.run_one());
}

TEST_F(LogWritebackTest, ASyncedLogIsWrittenBehindItsWriter) {
  mount();
  const auto file = log_with(1000);
  ASSERT_OK(file->sync());
  ASSERT_OK(file->append(pattern(2'000'000, 2)));
  steps_.run_one();
  steps_.run_one();
  EXPECT_GE(log_bytes_written(), 1'000'000u);
}

TEST_F(LogWritebackTest, WritebackThatIsAskedForIsDone) {
  mount();
  const auto file = log_with(kPiece);
  ASSERT_OK(file->start_writeback(0, kPiece));
  steps_.run_one();
  steps_.run_one();
  EXPECT_GT(log_bytes_written(), kPiece - 4096);
}

TEST_F(LogWritebackTest, ACrowdedTailIsWrittenFrom) {
  MountOptions options;
  options.tail_bytes = 8 << 20;
  mount(options);
  const auto file = log_with(7'000'000);
  steps_.run_one();
  steps_.run_one();
  EXPECT_GE(log_bytes_written(), 1'000'000u);
  // And by the writer itself when it is full.
  ASSERT_OK(file->append(pattern(20'000'000, 2)));
  EXPECT_GE(log_bytes_written(), 20'000'000u);
  EXPECT_EQ(file->size(), 27'000'000u);
}

TEST_F(LogWritebackTest, AClosedLogThatIsRemovedIsNeverWritten) {
  mount();
  const uint64_t free = fs_->space().free_bytes;
  ASSERT_OK(log_with(10'000'000)->close());
  EXPECT_EQ(read_file("/log"), pattern(10'000'000, 1));
  ASSERT_OK(fs_->remove("/log"));
  EXPECT_EQ(fs_->space().free_bytes, free);
  tick();
  tick();
  EXPECT_EQ(log_bytes_written(), 0u);
}

TEST_F(LogWritebackTest, AReplacedOneIsNeverWrittenEither) {
  mount();
  const uint64_t free = fs_->space().free_bytes;
  ASSERT_OK(log_with(5'000'000)->close());
  ASSERT_OK(log_with(5'000'000, "/other")->close());
  ASSERT_OK(fs_->rename("/other", "/log"));
  ASSERT_OK(log_with(0)->close());
  EXPECT_EQ(fs_->space().free_bytes, free);
  EXPECT_EQ(log_bytes_written(), 0u);
}

TEST_F(LogWritebackTest, OneOfTwoNamesKeepsIt) {
  mount();
  ASSERT_OK(log_with(kPiece)->close());
  ASSERT_OK(fs_->link("/log", "/again"));
  ASSERT_OK(fs_->remove("/log"));
  unmount();
  mount();
  EXPECT_EQ(read_file("/again"), pattern(kPiece, 1));
}

TEST_F(LogWritebackTest, AClosedLogIsClosedAfterTwoTicks) {
  mount();
  ASSERT_OK(log_with(kPiece)->close());
  tick();
  EXPECT_EQ(log_bytes_written(), 0u);
  tick();
  EXPECT_GE(log_bytes_written(), kPiece);
  EXPECT_FALSE(steps_.run_one());
  EXPECT_EQ(read_file("/log"), pattern(kPiece, 1));
}

TEST_F(LogWritebackTest, UnmountingClosesThem) {
  mount();
  ASSERT_OK(log_with(kPiece)->close());
  ASSERT_OK(fs_->unmount());
  fs_.reset();
  EXPECT_TRUE(tail_files().empty());
  expect_clean();
  mount();
  EXPECT_EQ(read_file("/log"), pattern(kPiece, 1));
}

TEST_F(LogWritebackTest, OpeningForWritingClosesFirst) {
  mount();
  ASSERT_OK(log_with(kPiece)->close());
  const auto file = open("/log", OpenMode::read_write);
  EXPECT_GE(log_bytes_written(), kPiece);
  ASSERT_OK(file->append(pattern(1000, 2)));
  ASSERT_OK(file->close());
  unmount();
  expect_clean();
  mount();
  EXPECT_EQ(fs_->stat("/log")->size_bytes, kPiece + 1000);
}

TEST_F(LogWritebackTest, AnOpenFileKeepsARemovedOne) {
  mount();
  ASSERT_OK(log_with(kPiece)->close());
  const auto reader = open("/log");
  ASSERT_OK(fs_->remove("/log"));
  tick();
  EXPECT_EQ(read_all(*reader), pattern(kPiece, 1));
}

TEST_F(LogWritebackTest, SpaceKeptAheadIsGivenBackAtOnce) {
  mount();
  const uint64_t free = fs_->space().free_bytes;
  CreateOptions options;
  options.preallocate_bytes = 16 << 20;
  const auto file = create("/log", FileKind::log, options);
  ASSERT_OK(file->append(pattern(kPiece, 1)));
  ASSERT_OK(file->close());
  EXPECT_GE(fs_->space().free_bytes, free - (1 << 20));
}

TEST_F(LogWritebackTest, TheDeathOfTheProcessLeavesClosedLogs) {
  ASSERT_TRUE(in_child([&] { ASSERT_OK(log_with(kPiece)->close()); }));
  mount();
  EXPECT_EQ(read_file("/log"), pattern(kPiece, 1));
}

TEST_F(LogWritebackTest, WhatCannotBeWrittenAtTheEndIsFoundByTheNextMount) {
  mount();
  ASSERT_OK(log_with(kPiece)->close());
  disk_->fail_if([](const Io& io) { return io.op == Op::write; });
  EXPECT_EQ(fs_->unmount().code(), StatusCode::io_error);
  fs_.reset();
  EXPECT_FALSE(tail_files().empty());
  disk_->fail_if({});
  mount();
  EXPECT_EQ(read_file("/log"), pattern(kPiece, 1));
}

}  // namespace
}  // namespace basalt
