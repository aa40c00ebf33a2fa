// Many threads on one file system: names, appends, syncs, reads of the same and of different files.
// Method: threads that check what they read against patterns; meant for ThreadSanitizer above all.
#include "fixture.h"

#include <atomic>
#include <cstring>
#include <thread>

namespace basalt {
namespace {

class ThreadsTest : public FsTest, public ::testing::WithParamInterface<MountOptions::FlushTo> {
 protected:
  ThreadsTest() {
    make({.bytes = uint64_t{128} << 20});
    mount({.cache_bytes = 2 << 20, .flush_to = GetParam(), .tail_bytes = 2 << 20});
  }
  void run(int count, const std::function<void(int)>& body) {
    std::vector<std::thread> threads;
    for (int i = 0; i < count; ++i) threads.emplace_back([&, i] { body(i); });
    for (auto& thread : threads) thread.join();
  }
};

TEST_P(ThreadsTest, FilesOfTheirOwn) {
  run(6, [&](int me) {
    const std::string dir = "/d" + std::to_string(me);
    ASSERT_OK(fs_->make_directory(dir));
    for (int round = 0; round < 12; ++round) {
      const std::string path = dir + "/f" + std::to_string(round % 4);
      const auto bytes = pattern(1000 + static_cast<size_t>(round) * 37777, me * 100 + round);
      const auto file = create(path, (me + round) % 2 ? FileKind::log : FileKind::table);
      for (size_t at = 0; at < bytes.size(); at += 10000) {
        ASSERT_OK(
            file->append(std::span(bytes).subspan(at, std::min<size_t>(10000, bytes.size() - at))));
        if (at % 30000 == 0) ASSERT_OK(file->flush());
      }
      if (round % 2) ASSERT_OK(file->sync());
      ASSERT_TRUE(read_all(*file) == bytes);
      ASSERT_OK(file->close());
      ASSERT_OK(fs_->rename(path, path + "x"));
      ASSERT_TRUE(read_file(path + "x") == bytes);
      if (round % 3 == 0) ASSERT_OK(fs_->remove(path + "x"));
      ASSERT_TRUE(fs_->list(dir).has_value());
      if (round % 5 == 0) ASSERT_OK(fs_->sync_all());
    }
  });
  unmount();
  expect_clean();
}

// Every append rewrites the file's last page, which others are reading ahead: old versions must not come
// into the cache over the new.
TEST_P(ThreadsTest, ReadingAheadBesideAppendsKeepsNoOldPages) {
  const auto bytes = pattern(3000000, 4);
  ASSERT_OK(create("/f")->close());
  std::atomic<uint64_t> there{0};
  std::atomic<bool> stop{false};
  run(3, [&](int me) {
    if (me == 0) {
      for (uint64_t at = 0; at < bytes.size();) {
        const uint64_t count = std::min<uint64_t>(3000 + at % 2000, bytes.size() - at);
        const auto file = open("/f", OpenMode::read_write);
        ASSERT_OK(file->append(std::span(bytes).subspan(at, count)));
        ASSERT_OK(file->sync());
        ASSERT_OK(file->close());
        at += count;
        there.store(at);
      }
      stop.store(true);
      return;
    }
    while (!stop.load()) {
      const auto file = open("/f");
      const uint64_t end = there.load(), from = end - std::min<uint64_t>(end, 9000);
      if (from == end) continue;
      ASSERT_OK(file->prefetch(from, 40000));
      std::vector<std::byte> out(end - from);
      ASSERT_EQ(file->read(from, out).value_or(0), out.size());
      ASSERT_EQ(0, std::memcmp(out.data(), bytes.data() + from, out.size())) << "at " << from;
    }
  });
  EXPECT_TRUE(read_file("/f") == bytes);
  unmount();
  expect_clean();
}

TEST_P(ThreadsTest, SyncsAndReadsBesideAnAppend) {
  for (const FileKind kind : {FileKind::log, FileKind::table}) {
    const auto bytes = pattern(2000000, 3);
    const auto file = create("/f", kind);
    std::atomic<uint64_t> appended{0};
    std::atomic<bool> stop{false};
    run(5, [&](int me) {
      if (me == 0) {
        std::mt19937 random(1);
        while (appended.load() < bytes.size()) {
          const size_t count =
              std::min<size_t>(1 + random() % 5000, bytes.size() - appended.load());
          ASSERT_OK(file->append(std::span(bytes).subspan(appended.load(), count)));
          appended.fetch_add(count);
          if (random() % 10 == 0) ASSERT_OK(file->flush());
        }
        stop.store(true);
        return;
      }
      std::mt19937 random(me);
      std::vector<std::byte> out(20000);
      while (!stop.load()) {
        if (me == 1 || me == 2) {
          ASSERT_OK(file->sync());
          continue;
        }
        const uint64_t end = appended.load();
        const uint64_t at = end == 0 ? 0 : random() % end;
        const auto count = file->read(at, out);
        ASSERT_TRUE(count.has_value()) << count.error().to_string();
        ASSERT_GE(*count, std::min<uint64_t>(out.size(), end - at));
        ASSERT_TRUE(std::equal(out.begin(), out.begin() + static_cast<ptrdiff_t>(*count),
                               bytes.begin() + static_cast<ptrdiff_t>(at)));
      }
    });
    ASSERT_OK(file->close());
    EXPECT_TRUE(read_file("/f") == bytes);
  }
  unmount();
  expect_clean();
}

TEST_P(ThreadsTest, NamesInOneDirectory) {
  run(6, [&](int me) {
    std::mt19937 random(me);
    for (int i = 0; i < 150; ++i) {
      const std::string a = "/n" + std::to_string(random() % 8),
                        b = "/n" + std::to_string(random() % 8);
      switch (random() % 6) {
        case 0: {
          auto file = fs_->create(a, random() % 2 ? FileKind::log : FileKind::table, {});
          if (file) (*file)->append(pattern(random() % 3000, 1)).ok();
          break;
        }
        case 1: fs_->rename(a, b).ok(); break;
        case 2: fs_->link(a, b).ok(); break;
        case 3: fs_->remove(a).ok(); break;
        case 4: {
          const auto file = fs_->open(a, OpenMode::read_only);
          if (file) read_all(**file);
          break;
        }
        default: fs_->stat(a).has_value(); ASSERT_OK(fs_->sync_directory("/"));
      }
    }
  });
  unmount();
  expect_clean();
}

TEST_P(ThreadsTest, AsynchronousReadsBesideChanges) {
  const auto bytes = pattern(1 << 20, 9);
  write_file("/stable", FileKind::table, bytes);
  write_file("/changing", FileKind::table, bytes);
  const auto stable = open("/stable");
  const auto changing = open("/changing", OpenMode::read_write);
  std::atomic<bool> stop{false};
  run(4, [&](int me) {
    if (me == 0) {
      for (int i = 0; i < 60; ++i) {
        ASSERT_OK(changing->truncate(100000 + static_cast<uint64_t>(i) * 1000));
        ASSERT_OK(changing->write(300000, pattern(5000, i)));
        ASSERT_OK(changing->punch(50000, 200000));
        if (i % 10 == 0) ASSERT_OK(changing->sync());
      }
      stop.store(true);
      return;
    }
    std::mt19937 random(me);
    while (!stop.load()) {
      std::vector<std::vector<std::byte>> buffers(8, std::vector<std::byte>(3000));
      std::vector<AsyncRead> reads(8);
      std::vector<AsyncRead*> pointers;
      for (size_t i = 0; i < 8; ++i) {
        reads[i].buffer = buffers[i];
        reads[i].offset = random() % (1000000);
        (i % 2 ? stable : changing)->start_read(reads[i]);
        pointers.push_back(&reads[i]);
      }
      ASSERT_OK(fs_->wait_reads(pointers, 8));
      for (size_t i = 1; i < 8; i += 2) {
        ASSERT_OK(reads[i].status);
        ASSERT_TRUE(std::equal(buffers[i].begin(), buffers[i].end(),
                               bytes.begin() + static_cast<ptrdiff_t>(reads[i].offset)));
      }
    }
  });
}

INSTANTIATE_TEST_SUITE_P(FlushTo, ThreadsTest,
                         ::testing::Values(MountOptions::FlushTo::shared_memory,
                                           MountOptions::FlushTo::device));

}  // namespace
}  // namespace basalt
