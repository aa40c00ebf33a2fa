// kill -9: what flush() and changes of names promised is there for the next mount on the same boot, and only
// there; bytes never flushed harm nothing. Method: children that are killed, at their end or at every single
// device write, also while they recover.
#include "base/crc32c.h"
#include "blobfs/tail_format.h"
#include "fixture.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>

namespace basalt {
namespace {

class KillTest : public FsTest {};

TEST_F(KillTest, FlushedBytesAndNamesSurvive) {
  for (const FileKind kind : {FileKind::log, FileKind::table}) {
    for (const size_t size : {1ul, 480ul, 4096ul, 65536ul, 70000ul, 700000ul, 3000000ul}) {
      SCOPED_TRACE(size);
      make();
      ASSERT_TRUE(in_child([&] {
        ASSERT_OK(fs_->make_directory("/d"));
        const auto file = create("/d/f", kind);
        ASSERT_OK(file->append(pattern(size, 1)));
        ASSERT_OK(file->flush());
        ASSERT_OK(fs_->rename("/d", "/e"));
        ASSERT_OK(fs_->link("/e/f", "/g"));
        die();
      }));
      mount();
      EXPECT_EQ(read_file("/e/f"), pattern(size, 1));
      EXPECT_EQ(fs_->stat("/g")->link_count, 2u);
      EXPECT_FALSE(exists("/d"));
      EXPECT_EQ(tail_files().size(), 1u) << "the old tail is gone, ours is there";
      unmount();
      EXPECT_TRUE(tail_files().empty());
      // Replayed means durable.
      disk_->power_cut();
      mount();
      EXPECT_EQ(read_file("/e/f"), pattern(size, 1));
      unmount();
      expect_clean();
    }
  }
}

TEST_F(KillTest, AMountWithoutMemoryLosesNothing) {
  make();
  ASSERT_TRUE(in_child([&] {
    ASSERT_OK(create("/f", FileKind::log)->append(pattern(5000, 1)));
    const auto file = open("/f", OpenMode::read_write);
    ASSERT_OK(file->flush());
    die();
  }));
  for (int i = 0; i < 3; ++i) {
    // No room for the cache: refused before the store is touched.
    rlimit limit{}, small{};
    ASSERT_EQ(::getrlimit(RLIMIT_AS, &limit), 0);
    small = limit;
    small.rlim_cur = rlim_t{4} << 30;
    ASSERT_EQ(::setrlimit(RLIMIT_AS, &small), 0);
    const Status status = try_mount({.cache_bytes = uint64_t{5} << 30});
    ASSERT_EQ(::setrlimit(RLIMIT_AS, &limit), 0);
    ASSERT_EQ(status.code(), StatusCode::no_space) << status.to_string();
    EXPECT_EQ(tail_files().size(), 1u) << "the kept one, and no other";
  }
  mount();
  EXPECT_EQ(read_file("/f"), pattern(5000, 1));
  unmount();
  expect_clean();
}

TEST_F(KillTest, FlushToTheDeviceSurvivesWithoutSharedMemory) {
  MountOptions options;
  options.flush_to = MountOptions::FlushTo::device;
  for (const FileKind kind : {FileKind::log, FileKind::table}) {
    make();
    ASSERT_TRUE(in_child(
        [&] {
          EXPECT_TRUE(tail_files().empty());
          const auto file = create("/f", kind);
          ASSERT_OK(file->append(pattern(100000, 1)));
          ASSERT_OK(file->flush());
          ASSERT_OK(file->append(pattern(100000, 2)));  // not flushed
          ASSERT_OK(fs_->make_directory("/d"));
          die();
        },
        options));
    mount(options);
    EXPECT_FALSE(has_note("power loss"));
    const auto found = read_file("/f");
    ASSERT_GE(found.size(), 100000u);
    EXPECT_TRUE(std::ranges::equal(std::span(found).first(100000), pattern(100000, 1)));
    EXPECT_TRUE(exists("/d"));
    unmount();
    expect_clean();
  }
}

// Killed between making its tail and taking the store over, a mount leaves a file that nothing names.
TEST_F(KillTest, MountsThatNeverTookOverLeaveNoTails) {
  for (const bool keeps_bytes : {false, true}) {
    make();
    if (keeps_bytes) {
      ASSERT_TRUE(in_child([&] {
        const auto file = create("/f", FileKind::log);
        ASSERT_OK(file->append(pattern(5000, 1)));
        ASSERT_OK(file->flush());
        die();
      }));
    }
    kill_at_write(1);
    for (int i = 0; i < 3; ++i) ASSERT_TRUE(in_child([] {}));
    kill_at_write(0);
    EXPECT_EQ(tail_files().size(), keeps_bytes ? 4u : 3u);
    mount();
    EXPECT_EQ(tail_files().size(), 1u);
    if (keeps_bytes) {
      EXPECT_EQ(read_file("/f"), pattern(5000, 1));
    }
    unmount();
    EXPECT_TRUE(tail_files().empty());
    expect_clean();
  }
}

// Killed while it makes its tail, a mount leaves a file without a header: empty, or as long as it was to be. One
// that somebody has locked is still being made, and another store's is not ours to judge.
TEST_F(KillTest, FilesThatNeverBecameTailsAreRemoved) {
  make();
  mount();
  const std::string tail = tail_files().at(0);
  unmount();
  const auto made = [&](size_t position, char digit, uint64_t bytes) {
    std::string path = tail;
    path[path.size() - position] = path[path.size() - position] == digit ? '0' : digit;
    const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL, 0600);
    EXPECT_GE(fd, 0) << path;
    EXPECT_EQ(::ftruncate(fd, static_cast<off_t>(bytes)), 0);
    return std::pair(path, fd);
  };
  constexpr size_t kIntoTheUuid = 40;
  const auto [empty, empty_fd] = made(1, 'a', 0);
  const auto [zeros, zeros_fd] = made(2, 'a', 1 << 20);
  const auto [living, living_fd] = made(3, 'a', 0);
  const auto [foreign, foreign_fd] = made(kIntoTheUuid, 'a', 0);
  ASSERT_EQ(::flock(living_fd, LOCK_EX), 0);
  mount();
  EXPECT_FALSE(std::filesystem::exists(empty));
  EXPECT_FALSE(std::filesystem::exists(zeros));
  EXPECT_TRUE(std::filesystem::exists(living));
  EXPECT_TRUE(std::filesystem::exists(foreign));
  unmount();
  for (const int fd : {empty_fd, zeros_fd, living_fd, foreign_fd}) ::close(fd);
  for (const std::string& path : {living, foreign}) ::unlink(path.c_str());
}

// What a living mount of a copy of this store keeps is not touched.
TEST_F(KillTest, ALivingTailIsNotTakenForAnAbandonedOne) {
  make();
  mount();
  const auto living = tail_files();
  ASSERT_EQ(living.size(), 1u);
  MemoryDisk copy;
  std::memcpy(copy.contents(), disk_->contents(), disk_->options().bytes);
  auto other = FileSystem::mount(*context_, copy.open(), {});
  ASSERT_TRUE(other.has_value()) << other.error().to_string();
  EXPECT_TRUE(std::filesystem::exists(living[0]));
  EXPECT_OK((*other)->unmount());
}

TEST_F(KillTest, AnotherBootReplaysNothing) {
  make();
  ASSERT_TRUE(in_child([&] {
    const auto file = create("/synced", FileKind::log);
    ASSERT_OK(file->append(pattern(100, 1)));
    ASSERT_OK(file->sync());
    ASSERT_OK(file->append(pattern(100, 2)));
    ASSERT_OK(file->flush());
    create("/flushed");
    die();
  }));
  change_boot();
  disk_->power_cut();
  mount();
  EXPECT_EQ(read_file("/synced"), pattern(100, 1));
  EXPECT_FALSE(exists("/flushed"));
}

// What RocksDB does with the log of a killed process that it goes on using: the space reserved for what
// never came is given back when the log is cut to the size it has.
TEST_F(KillTest, CuttingALogToItsSizeGivesReservedSpaceBack) {
  for (const FileKind kind : {FileKind::log, FileKind::table}) {
    for (const size_t size : {0ul, 100ul, 70000ul}) {
      SCOPED_TRACE(size);
      make();
      ASSERT_TRUE(in_child([&] {
        const auto file = create("/f", kind, {.preallocate_bytes = uint64_t{16} << 20});
        ASSERT_OK(file->append(pattern(size, 1)));
        ASSERT_OK(file->sync());
        die();
      }));
      mount();
      EXPECT_EQ(fs_->stat("/f")->size_bytes, size);
      auto file = open("/f", OpenMode::read_write);
      ASSERT_OK(file->truncate(size));
      ASSERT_OK(file->close());
      file.reset();
      EXPECT_LE(fs_->stat("/f")->allocated_bytes, 196608u);
      EXPECT_EQ(read_file("/f"), pattern(size, 1));
      remount();
      EXPECT_LE(fs_->stat("/f")->allocated_bytes, 196608u);
      EXPECT_EQ(read_file("/f"), pattern(size, 1));
      unmount();
      expect_clean();
    }
  }
}

TEST_F(KillTest, AMissingTailIsSaid) {
  make();
  ASSERT_TRUE(in_child([&] {
    const auto file = create("/f", FileKind::log);
    ASSERT_OK(file->append(pattern(100, 1)));
    ASSERT_OK(file->sync());
    ASSERT_OK(file->append(pattern(100, 2)));
    ASSERT_OK(file->flush());
    die();
  }));
  ASSERT_EQ(tail_files().size(), 1u);
  ASSERT_EQ(::unlink(tail_files()[0].c_str()), 0);
  mount();
  EXPECT_TRUE(has_note("no shared-memory tail"));
  EXPECT_EQ(read_file("/f"), pattern(100, 1));
  remount();
  EXPECT_FALSE(has_note("no shared-memory tail")) << "a clean end leaves nothing to say";
}

TEST_F(KillTest, AnImageOfAnEarlierOpeningDoesNotTakeALaterTail) {
  make();
  ASSERT_TRUE(in_child([&] {
    const auto file = create("/f", FileKind::log);
    ASSERT_OK(file->append(pattern(100, 1)));
    ASSERT_OK(file->sync());
  }));
  const std::vector<std::byte> image(disk_->contents(), disk_->contents() + disk_->options().bytes);
  ASSERT_TRUE(in_child([&] {
    const auto file = open("/f", OpenMode::read_write);
    ASSERT_OK(file->append(pattern(100, 2)));
    ASSERT_OK(file->flush());
    die();
  }));
  std::copy(image.begin(), image.end(), disk_->contents());  // restored from a backup
  mount();
  EXPECT_TRUE(has_note("no shared-memory tail"));
  EXPECT_EQ(read_file("/f"), pattern(100, 1));
}

// A tail that was replayed is gone, so what it held is on the device, whatever comes next.
TEST_F(KillTest, ATableThatWasReplayedIsDurable) {
  make();
  ASSERT_TRUE(in_child([&] {
    const auto file = create("/f", FileKind::table);
    ASSERT_OK(file->append(pattern(70000, 1)));
    ASSERT_OK(file->flush());
    die();
  }));
  ASSERT_TRUE(in_child([] {}));
  change_boot();
  disk_->power_cut();
  mount();
  EXPECT_EQ(read_file("/f"), pattern(70000, 1));
  unmount();
  expect_clean();
}

// From one opening's tail into the next one's: not to the device, however often the process dies.
TEST_F(KillTest, ALogThatWasReplayedStaysInMemory) {
  make();
  ASSERT_TRUE(in_child([&] {
    const auto file = create("/f", FileKind::log);
    ASSERT_OK(file->append(pattern(5000, 1)));
    ASSERT_OK(file->sync());
    ASSERT_OK(file->append(pattern(9'000'000, 2)));
    ASSERT_OK(file->flush());
    ASSERT_OK(create("/gone", FileKind::log)->append(pattern(9'000'000, 3)));
    die();
  }));
  std::vector<std::byte> all = pattern(5000, 1);
  const std::vector<std::byte> rest = pattern(9'000'000, 2);
  all.insert(all.end(), rest.begin(), rest.end());
  for (int i = 0; i < 3; ++i) {
    const MemoryDisk::Counters before = disk_->counters();
    ASSERT_TRUE(in_child([&] {
      EXPECT_EQ(read_file("/f"), all);
      if (exists("/gone")) ASSERT_OK(fs_->remove("/gone"));
    }));
    EXPECT_LT((disk_->counters() - before).written_bytes, 1'000'000u);
    EXPECT_EQ(tail_files().size(), 1u);
  }
  // A sync makes it durable, as ever.
  ASSERT_TRUE(in_child([&] {
    const auto file = open("/f", OpenMode::read_write);
    ASSERT_OK(file->append(pattern(1, 4)));
    ASSERT_OK(file->sync());
    die();
  }));
  all.push_back(pattern(1, 4)[0]);
  change_boot();
  disk_->power_cut();
  mount();
  EXPECT_EQ(read_file("/f"), all);
  unmount();
  expect_clean();
}

TEST_F(KillTest, TheIdOfADirectoryIsNotGivenAgain) {
  make();
  ASSERT_TRUE(in_child([&] {
    ASSERT_OK(fs_->make_directory("/d"));
    ASSERT_OK(fs_->sync_directory("/"));
  }));
  change_boot();
  mount();
  ASSERT_OK(create("/f")->close());
  const auto directory = fs_->stat("/d"), file = fs_->stat("/f");
  ASSERT_TRUE(directory.has_value() && file.has_value());
  EXPECT_NE(directory->file_id, file->file_id);
  unmount();
  expect_clean();
}

// What a killed process left in the ring of its tail, to be changed.
class RingTest : public KillTest {
 protected:
  // Makes the directories, the first `synced` of them durable, and dies.
  void leave_directories(std::initializer_list<const char*> names, size_t synced) {
    make();
    ASSERT_TRUE(in_child([&] {
      size_t made = 0;
      for (const char* name : names) {
        ASSERT_OK(fs_->make_directory(name));
        if (++made == synced) ASSERT_OK(fs_->sync_directory("/"));
      }
    }));
    ASSERT_EQ(tail_files().size(), 1u);
    tail_ = tail_files()[0];
  }
  template <typename T>
  T load(uint64_t offset) {
    T value{};
    std::ifstream file(tail_, std::ios::binary);
    file.seekg(static_cast<std::streamoff>(offset));
    file.read(reinterpret_cast<char*>(&value), sizeof value);
    return value;
  }
  template <typename T>
  void store(uint64_t offset, const T& value) {
    std::fstream file(tail_, std::ios::binary | std::ios::in | std::ios::out);
    file.seekp(static_cast<std::streamoff>(offset));
    file.write(reinterpret_cast<const char*>(&value), sizeof value);
  }
  // Where the entries begin, whether they count or not.
  std::vector<uint64_t> entries() {
    std::vector<uint64_t> found;
    for (uint64_t at = blobfs::kTailHeaderBytes;;) {
      const auto entry = load<blobfs::TailEntryHeader>(at);
      if (entry.length == 0) return found;
      found.push_back(at);
      at += blobfs::tail_entry_bytes(entry.length);
    }
  }
  std::string tail_;
};

// The journal's record was written, and the process killed before it took note.
TEST_F(RingTest, TransactionsTheJournalHasAreSkipped) {
  leave_directories({"/a", "/b"}, 1);
  ASSERT_GT(load<uint64_t>(blobfs::kRingHeadOffset), 0u);
  store(blobfs::kRingHeadOffset, uint64_t{0});
  mount();
  EXPECT_TRUE(fs_->recovery_notes().empty());
  EXPECT_TRUE(exists("/a") && exists("/b"));
  unmount();
  expect_clean();
}

// The entries up to a gap count; nothing is made of what follows it.
TEST_F(RingTest, ATransactionThatDoesNotFollowEndsIt) {
  leave_directories({"/a", "/b", "/c"}, 0);
  const auto places = entries();
  ASSERT_EQ(places.size(), 3u);
  auto last = load<blobfs::TailEntryHeader>(places[2]);
  std::vector<std::byte> bytes;
  for (uint64_t i = 0; i < last.length; ++i) {
    bytes.push_back(load<std::byte>(places[2] + sizeof last + i));
  }
  last.ticket = last.ticket + 1;
  last.crc = crc32c(bytes, crc32c(std::as_bytes(std::span(&last, 1)).first(12)));
  store(places[2], last);
  mount();
  EXPECT_TRUE(has_note("does not follow"));
  EXPECT_TRUE(exists("/a") && exists("/b"));
  EXPECT_FALSE(exists("/c"));
  unmount();
  expect_clean();
}

TEST_F(KillTest, ADamagedTailHarmsNothing) {
  std::mt19937_64 random(12);
  for (int round = 0; round < 25; ++round) {
    make();
    ASSERT_TRUE(in_child(
        [&] {
          std::vector<std::unique_ptr<File>> files;
          for (const char* name : {"/a", "/b"}) {
            files.push_back(create(name, name[1] == 'a' ? FileKind::log : FileKind::table));
            ASSERT_OK(files.back()->append(pattern(5000, 1)));
            ASSERT_OK(files.back()->sync());
            ASSERT_OK(files.back()->append(pattern(90000, 2)));
            ASSERT_OK(files.back()->flush());
            create(std::string(name) + "x");
          }
          die();
        },
        {.tail_bytes = 1 << 20}));
    ASSERT_EQ(tail_files().size(), 1u);
    {
      // Anything but the header's checksum is fair game; some rounds hit that too.
      const int fd = ::open(tail_files()[0].c_str(), O_RDWR);
      for (int n = 0; n < 40; ++n) {
        const uint64_t places[] = {1024 + random() % 8, 2048 + random() % 8, 4096 + random() % 2000,
                                   4096 + 256 * 1024 + random() % 300,
                                   random() % (round % 5 ? 1 : 200) + 4000};
        const auto value = static_cast<uint8_t>(random());
        ASSERT_EQ(::pwrite(fd, &value, 1, static_cast<off_t>(places[random() % 5])), 1);
      }
      ::close(fd);
    }
    mount();
    for (const char* name : {"/a", "/b"}) {
      const auto found = read_file(name);
      ASSERT_GE(found.size(), 5000u);
      EXPECT_TRUE(std::ranges::equal(std::span(found).first(5000), pattern(5000, 1)));
    }
    unmount();
    expect_clean();
  }
}

// ---- Killed at every device write

// What the child did so far, in memory the parent sees.
struct Progress {
  uint64_t wal_flushed = 0, table_flushed = 0, names = 0;
  bool mounted = false;
};

class KillEverywhereTest : public FsTest {
 protected:
  KillEverywhereTest() {
    progress_ = static_cast<Progress*>(
        ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  }
  ~KillEverywhereTest() override { ::munmap(progress_, 4096); }

  void work() {
    progress_->mounted = true;
    const auto wal = create("/wal", FileKind::log);
    const auto table = create("/table");
    for (uint64_t i = 0; i < 12; ++i) {
      ASSERT_OK(wal->append(pattern(900, i)));
      ASSERT_OK(wal->flush());
      progress_->wal_flushed = i + 1;
      if (i % 3 == 1) ASSERT_OK(wal->sync());
      ASSERT_OK(table->append(pattern(70000, i)));
      ASSERT_OK(table->flush());
      progress_->table_flushed = i + 1;
      if (i % 4 == 2) ASSERT_OK(table->sync());
      create("/n" + std::to_string(i));
      ASSERT_OK(fs_->rename("/n" + std::to_string(i), "/m" + std::to_string(i)));
      progress_->names = i + 1;
    }
    die();
  }
  void verify() {
    if (progress_->wal_flushed > 0) {
      verify_file("/wal", 900, progress_->wal_flushed);
      EXPECT_LE(fs_->stat("/wal")->size_bytes, (progress_->wal_flushed + 1) * 900);
    }
    if (progress_->table_flushed > 0) verify_file("/table", 70000, progress_->table_flushed);
    for (uint64_t i = 0; i < progress_->names; ++i)
      EXPECT_TRUE(exists("/m" + std::to_string(i))) << i;
  }
  void verify_file(const std::string& path, size_t each, uint64_t count) {
    const auto found = read_file(path);
    ASSERT_GE(found.size(), each * count) << path;
    for (uint64_t i = 0; i * each < found.size(); ++i) {
      const auto piece = pattern(each, i);
      const size_t length = std::min(each, found.size() - i * each);
      ASSERT_TRUE(std::equal(piece.begin(), piece.begin() + static_cast<ptrdiff_t>(length),
                             found.begin() + static_cast<ptrdiff_t>(i * each)))
          << path << " piece " << i;
    }
  }
  Progress* progress_;
};

TEST_F(KillEverywhereTest, AtEveryWriteOfAWorkload) {
  for (uint64_t n = 1; n < 200; ++n) {
    SCOPED_TRACE("write " + std::to_string(n));
    make();
    *progress_ = {};
    kill_at_write(n);
    ASSERT_TRUE(in_child([this] { work(); }));
    disk_->fail_if(nullptr);
    mount();
    verify();
    unmount();
    expect_clean();
    if (progress_->names == 12) break;  // it came to its end
    ASSERT_FALSE(HasFailure());
  }
  EXPECT_EQ(progress_->names, 12u);
}

TEST_F(KillEverywhereTest, AtEveryWriteOfTheRecovery) {
  for (uint64_t n = 1; n < 200; ++n) {
    SCOPED_TRACE("write " + std::to_string(n));
    make();
    *progress_ = {};
    kill_at_write(0);
    ASSERT_TRUE(in_child([this] { work(); }));
    const Progress done = *progress_;
    // Two recoveries in a row die at their n-th write, the third lives.
    progress_->mounted = false;
    kill_at_write(n);
    ASSERT_TRUE(in_child([this] { progress_->mounted = true; }));
    kill_at_write(n > 2 ? n - 2 : 1);
    ASSERT_TRUE(in_child([] {}));
    const bool survived = progress_->mounted;
    *progress_ = done;
    disk_->fail_if(nullptr);
    mount();
    verify();
    unmount();
    expect_clean();
    ASSERT_FALSE(HasFailure());
    if (survived) return;
  }
  ADD_FAILURE() << "recovery never came to its end";
}

}  // namespace
}  // namespace basalt
