// Batches, asynchronous reads, prefetching and the cache seen from outside.
#include "fixture.h"

#include <thread>

namespace basalt {
namespace {

class ReadsTest : public FsTest,
                  public ::testing::WithParamInterface<std::tuple<FileKind, uint64_t>> {
 protected:
  ReadsTest() {
    make({.block_bytes = 512});
    mount({.cache_bytes = std::get<1>(GetParam())});
    bytes_ = pattern(1000003, 5);
    file_ = create("/f", std::get<0>(GetParam()));
    // Some of it on the device, some in memory.
    EXPECT_OK(file_->append(std::span(bytes_).first(700000)));
    EXPECT_OK(file_->sync());
    EXPECT_OK(file_->append(std::span(bytes_).subspan(700000)));
  }
  bool matches(uint64_t offset, std::span<const std::byte> got) const {
    return std::equal(got.begin(), got.end(), bytes_.begin() + static_cast<ptrdiff_t>(offset));
  }
  std::vector<std::byte> bytes_;
  std::unique_ptr<File> file_;
};

TEST_P(ReadsTest, Batches) {
  std::mt19937 random(3);
  for (int round = 0; round < 50; ++round) {
    std::vector<std::vector<std::byte>> buffers(1 + random() % 60);
    std::vector<ReadRequest> requests;
    for (auto& buffer : buffers) {
      buffer.resize(random() % (round % 10 == 0 ? 200000 : 6000));
      requests.push_back({random() % (bytes_.size() + 5000), buffer, 0, {}});
    }
    file_->read_batch(requests, round % 2 ? Caching::normal : Caching::uncached);
    for (const ReadRequest& request : requests) {
      ASSERT_OK(request.status);
      const size_t there = request.offset < bytes_.size() ? bytes_.size() - request.offset : 0;
      ASSERT_EQ(request.length, std::min(there, request.buffer.size()));
      ASSERT_TRUE(matches(request.offset, request.buffer.first(request.length)));
    }
  }
}

TEST_P(ReadsTest, AsynchronousReads) {
  std::mt19937 random(4);
  for (int round = 0; round < 50; ++round) {
    std::vector<std::vector<std::byte>> buffers(1 + random() % 20);
    std::vector<AsyncRead> reads(buffers.size());
    std::vector<AsyncRead*> pointers;
    for (size_t i = 0; i < reads.size(); ++i) {
      buffers[i].resize(1 + random() % 30000);
      reads[i].offset = random() % (bytes_.size() + 5000);
      reads[i].buffer = buffers[i];
      file_->start_read(reads[i]);
      EXPECT_FALSE(reads[i].done) << "completed only inside wait_reads";
      pointers.push_back(&reads[i]);
    }
    ASSERT_OK(fs_->wait_reads(pointers, 1 + random() % reads.size()));
    if (round % 3 == 0) fs_->cancel_read(reads[random() % reads.size()]);
    ASSERT_OK(fs_->wait_reads(pointers, reads.size()));
    for (const AsyncRead& read : reads) {
      ASSERT_TRUE(read.done);
      if (read.status.code() == StatusCode::canceled) continue;
      ASSERT_OK(read.status);
      const size_t there = read.offset < bytes_.size() ? bytes_.size() - read.offset : 0;
      ASSERT_EQ(read.length, std::min(there, read.buffer.size()));
      ASSERT_TRUE(matches(read.offset, read.buffer.first(read.length)));
    }
  }
}

TEST_P(ReadsTest, AnotherThreadMayWait) {
  std::vector<std::byte> out(5000);
  AsyncRead read;
  read.offset = 100;
  read.buffer = out;
  std::thread([&] { file_->start_read(read); }).join();  // its starter is gone
  AsyncRead* pointer = &read;
  std::thread([&] { EXPECT_OK(fs_->wait_reads({&pointer, 1}, 1)); }).join();
  EXPECT_TRUE(read.done);
  EXPECT_TRUE(matches(100, out));
}

TEST_P(ReadsTest, AReadInFlightDoesNotHoldUpATruncationOrAClose) {
  std::vector<std::byte> out(5000);
  AsyncRead read;
  read.offset = 200000;
  read.buffer = out;
  file_->start_read(read);
  ASSERT_OK(file_->truncate(1000));
  ASSERT_OK(file_->close());
  file_.reset();
  ASSERT_OK(fs_->remove("/f"));
  AsyncRead* pointer = &read;
  ASSERT_OK(fs_->wait_reads({&pointer, 1}, 1));
  EXPECT_TRUE(read.done);
}

TEST_P(ReadsTest, PrefetchFillsTheCacheOrSaysThatThereIsNone) {
  ASSERT_OK(file_->close());
  remount({.cache_bytes = std::get<1>(GetParam())});
  file_ = open("/f");
  const Status status = file_->prefetch(10000, 60000);
  if (std::get<0>(GetParam()) == FileKind::log || std::get<1>(GetParam()) == 0) {
    EXPECT_EQ(status.code(), StatusCode::unsupported);
  } else {
    ASSERT_OK(status);
    const uint64_t before = disk_->counters().reads;
    std::vector<std::byte> out(60000);
    ASSERT_TRUE(file_->read(10000, out).has_value());
    EXPECT_TRUE(matches(10000, out));
    EXPECT_EQ(disk_->counters().reads, before);
  }
  file_.reset();
}

TEST_P(ReadsTest, FillsUnderWayAreMetOnce) {
  if (std::get<0>(GetParam()) == FileKind::log || std::get<1>(GetParam()) == 0) GTEST_SKIP();
  ASSERT_OK(file_->close());
  remount({.cache_bytes = std::get<1>(GetParam())});
  file_ = open("/f");
  const uint64_t before = fs_->stats().device_read_bytes;
  ASSERT_OK(file_->prefetch(0, 50000));
  ASSERT_OK(file_->prefetch(0, 50000));  // under way or there already
  std::vector<std::byte> out(50000);
  ASSERT_TRUE(file_->read(0, out).has_value());
  EXPECT_TRUE(matches(0, out));
  EXPECT_EQ(fs_->stats().device_read_bytes - before, 53248u) << "13 pages, each read once";
}

TEST_P(ReadsTest, ClosingAndRemovingAFileEndItsFills) {
  if (std::get<0>(GetParam()) == FileKind::log || std::get<1>(GetParam()) == 0) GTEST_SKIP();
  ASSERT_OK(file_->close());
  for (int i = 0; i < 20; ++i) {
    remount({.cache_bytes = std::get<1>(GetParam())});
    file_ = open("/f", OpenMode::read_write);
    ASSERT_OK(file_->prefetch(0, 200000));
    if (i % 3 == 1) ASSERT_OK(file_->truncate(bytes_.size() - 100 * static_cast<size_t>(i)));
    if (i % 3 == 2) ASSERT_OK(fs_->link("/f", "/g"));
    ASSERT_OK(file_->close());
    file_.reset();
    if (i % 3 == 2) ASSERT_OK(fs_->remove("/g"));
  }
  ASSERT_OK(fs_->remove("/f"));
  unmount();
  expect_clean();
}

TEST_P(ReadsTest, DeviceErrorsAreTold) {
  ASSERT_OK(file_->close());
  remount({.cache_bytes = std::get<1>(GetParam())});
  file_ = open("/f");
  EXPECT_TRUE(file_->read(0, std::span(bytes_).first(0)).has_value());
  disk_->fail_reads(true);
  std::vector<std::byte> out(5000);
  EXPECT_EQ(file_->read(50000, out).error().code(), StatusCode::io_error);
  ReadRequest request{50000, out, 0, {}};
  file_->read_batch({&request, 1}, Caching::normal);
  EXPECT_EQ(request.status.code(), StatusCode::io_error);
  AsyncRead read;
  read.offset = 50000;
  read.buffer = out;
  AsyncRead* pointer = &read;
  file_->start_read(read);
  ASSERT_OK(fs_->wait_reads({&pointer, 1}, 1));
  EXPECT_EQ(read.status.code(), StatusCode::io_error);
  disk_->fail_reads(false);
  ASSERT_TRUE(file_->read(50000, out).has_value());
  EXPECT_TRUE(matches(50000, out));
  file_.reset();
}

INSTANTIATE_TEST_SUITE_P(Kinds, ReadsTest,
                         ::testing::Combine(::testing::Values(FileKind::table, FileKind::log),
                                            ::testing::Values(uint64_t{0}, uint64_t{200000},
                                                              uint64_t{64} << 20)));

}  // namespace
}  // namespace basalt
