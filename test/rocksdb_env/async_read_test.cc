// Goal: ReadAsync, Poll and AbortIO keep the callback contract RocksDB depends on: exactly one
// callback per accepted read, in the polling thread, and none inside ReadAsync.
// Method: many reads polled, aborted, moved between threads and dropped; callbacks are counted.
#include <algorithm>
#include <thread>

#include "rocksdb_env/compat.h"
#include "store_fixture.h"

namespace basalt::rocksdb_env {
namespace {

constexpr size_t kFileBytes = 4 << 20;

struct Outcome {
  int calls = 0;
  std::thread::id thread;
  rocksdb::IOStatus status;
  std::string data;
};

class AsyncReadTest : public StoreTest {
 protected:
  void SetUp() override {
    contents_.resize(kFileBytes);
    for (size_t i = 0; i < kFileBytes; ++i) contents_[i] = static_cast<char>(i * 31 >> 3);
    write_file("/f", contents_);
    ASSERT_OK(fs_->NewRandomAccessFile("/f", file_options_, &file_, nullptr));
  }

  struct Read {
    std::string buffer;
    Outcome outcome;
    void* handle = nullptr;
    rocksdb::IOHandleDeleter deleter;
    ~Read() {
      if (handle != nullptr) deleter(handle);
    }
  };

  std::unique_ptr<Read> start(uint64_t offset, size_t length) {
    auto read = std::make_unique<Read>();
    read->buffer.resize(length);
    rocksdb::FSReadRequest request;  // dies with this call, as RocksDB's does
    request.offset = offset;
    request.len = length;
    request.scratch = read->buffer.data();
    auto on_done = [](const rocksdb::FSReadRequest& done, void* argument) {
      auto* outcome = static_cast<Outcome*>(argument);
      ++outcome->calls;
      outcome->thread = std::this_thread::get_id();
      outcome->status = done.status;
      outcome->data = done.result.ToString();
    };
    EXPECT_OK(file_->ReadAsync(request, io_, on_done, &read->outcome, &read->handle, &read->deleter,
                               nullptr));
    EXPECT_NE(read->handle, nullptr);
    EXPECT_EQ(read->outcome.calls, 0) << "never inside ReadAsync";
    return read;
  }

  std::string contents_;
  std::unique_ptr<rocksdb::FSRandomAccessFile> file_;
};

TEST_F(AsyncReadTest, PollCompletesEveryHandleListed) {
  std::vector<std::unique_ptr<Read>> reads;
  std::vector<void*> handles;
  for (size_t i = 0; i < 40; ++i) {
    reads.push_back(start(i * 100'003, 1 + i * 1000));
    handles.push_back(reads.back()->handle);
  }
  ASSERT_OK(fs_->Poll(handles, 1));
  for (size_t i = 0; i < reads.size(); ++i) {
    const Outcome& outcome = reads[i]->outcome;
    EXPECT_EQ(outcome.calls, 1);
    EXPECT_EQ(outcome.thread, std::this_thread::get_id());
    EXPECT_OK(outcome.status);
    EXPECT_EQ(outcome.data, contents_.substr(i * 100'003, 1 + i * 1000));
  }
  ASSERT_OK(fs_->Poll(handles, handles.size()));
  ASSERT_OK(fs_->AbortIO(handles));
  for (const auto& read : reads) EXPECT_EQ(read->outcome.calls, 1) << "once, ever";
}

TEST_F(AsyncReadTest, ReadsAcrossTheEndAreShort) {
  auto crossing = start(kFileBytes - 10, 100);
  auto beyond = start(kFileBytes + 10, 100);
  std::vector<void*> handles = {crossing->handle, beyond->handle};
  ASSERT_OK(fs_->Poll(handles, 2));
  EXPECT_OK(crossing->outcome.status);
  EXPECT_EQ(crossing->outcome.data, contents_.substr(kFileBytes - 10));
  EXPECT_OK(beyond->outcome.status);
  EXPECT_EQ(beyond->outcome.data, "");
}

// The header of 7.8 says otherwise, but RandomAccessFileReader frees its request in the callback
// only.
TEST_F(AsyncReadTest, AbortCallsBackOnceWithAborted) {
  std::vector<std::unique_ptr<Read>> reads;
  std::vector<void*> handles;
  for (size_t i = 0; i < 20; ++i) {
    reads.push_back(start(i * 200'000, 64 << 10));
    handles.push_back(reads.back()->handle);
  }
  ASSERT_OK(fs_->AbortIO(handles));
  for (auto& read : reads) {
    EXPECT_EQ(read->outcome.calls, 1);
    EXPECT_TRUE(read->outcome.status.IsAborted()) << read->outcome.status.ToString();
    EXPECT_EQ(read->outcome.thread, std::this_thread::get_id());
    // The device is done with the buffer: what the owner writes there now stays.
    std::fill(read->buffer.begin(), read->buffer.end(), 'o');
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  for (auto& read : reads) EXPECT_EQ(read->buffer, std::string(64 << 10, 'o'));
}

TEST_F(AsyncReadTest, AnotherThreadMayPoll) {
  auto read = start(12345, 100'000);
  std::thread::id poller;
  std::thread other([&] {
    poller = std::this_thread::get_id();
    std::vector<void*> handles = {read->handle};
    EXPECT_OK(fs_->Poll(handles, 1));
  });
  other.join();
  EXPECT_EQ(read->outcome.calls, 1);
  EXPECT_EQ(read->outcome.thread, poller);
  EXPECT_EQ(read->outcome.data, contents_.substr(12345, 100'000));
}

TEST_F(AsyncReadTest, TheStartingThreadMayEndFirst) {
  std::unique_ptr<Read> read;
  std::thread([&] { read = start(777, 50'000); }).join();
  std::vector<void*> handles = {read->handle};
  ASSERT_OK(fs_->Poll(handles, 1));
  EXPECT_EQ(read->outcome.data, contents_.substr(777, 50'000));
}

TEST_F(AsyncReadTest, ADroppedHandleLetsGoOfItsBuffer) {
  for (int i = 0; i < 50; ++i) {
    auto read = start(i * 50'000, 50'000);
    EXPECT_EQ(read->outcome.calls, 0);
  }  // deleted unpolled: the buffers are freed here, nothing may write into them later
}

TEST_F(AsyncReadTest, ReadsRunBesideSynchronousOnes) {
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (size_t i = 0; i < 100; ++i) {
        const uint64_t offset = (i * 7919 + t * 104729) % (kFileBytes - 9000);
        auto read = start(offset, 9000);
        std::string scratch(500, '\0');
        rocksdb::Slice result;
        EXPECT_OK(file_->Read(offset + 1, 500, io_, &result, scratch.data(), nullptr));
        EXPECT_EQ(result.ToString(), contents_.substr(offset + 1, 500));
        std::vector<void*> handles = {read->handle};
        EXPECT_OK(fs_->Poll(handles, 1));
        EXPECT_EQ(read->outcome.data, contents_.substr(offset, 9000));
      }
    });
  }
  for (auto& thread : threads) thread.join();
}

}  // namespace
}  // namespace basalt::rocksdb_env
