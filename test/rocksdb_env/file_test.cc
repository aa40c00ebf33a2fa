// Goal: files read, write and sync as RocksDB's contract says.
// Method: each call against a fresh store; what RocksDB relies on is named at each case.
#include <array>
#include <cstring>
#include <thread>

#include "base/crc32c.h"
#include "base/endian.h"
#include "store_fixture.h"

namespace basalt::rocksdb_env {
namespace {

using rocksdb::IOStatus;
using rocksdb::Slice;

// Bytes that tell their own position.
std::string pattern(size_t size, unsigned seed = 0) {
  std::string bytes(size, '\0');
  for (size_t i = 0; i < size; ++i) {
    bytes[i] = static_cast<char>((i * 2654435761u >> 11) + i + seed);
  }
  return bytes;
}

// Both kinds of file: positions, growth and deletion are the same for them.
class FileTest : public StoreTest, public ::testing::WithParamInterface<const char*> {
 protected:
  std::string name() const { return GetParam(); }
  std::unique_ptr<rocksdb::FSWritableFile> create(const std::string& path) {
    std::unique_ptr<rocksdb::FSWritableFile> file;
    EXPECT_OK(fs_->NewWritableFile(path, file_options_, &file, nullptr));
    return file;
  }
  std::unique_ptr<rocksdb::FSSequentialFile> open_sequential(const std::string& path) {
    std::unique_ptr<rocksdb::FSSequentialFile> file;
    EXPECT_OK(fs_->NewSequentialFile(path, file_options_, &file, nullptr));
    return file;
  }
  std::unique_ptr<rocksdb::FSRandomAccessFile> open_random(const std::string& path,
                                                           bool direct = false) {
    rocksdb::FileOptions options;
    options.use_direct_reads = direct;
    std::unique_ptr<rocksdb::FSRandomAccessFile> file;
    EXPECT_OK(fs_->NewRandomAccessFile(path, options, &file, nullptr));
    return file;
  }
  std::string read(rocksdb::FSSequentialFile& file, size_t n) {
    std::string scratch(n, '\0');
    Slice result;
    EXPECT_OK(file.Read(n, io_, &result, scratch.data(), nullptr));
    return result.ToString();
  }
  std::string read_at(const rocksdb::FSRandomAccessFile& file, uint64_t offset, size_t n) {
    std::string scratch(n, '\0');
    Slice result;
    EXPECT_OK(file.Read(offset, n, io_, &result, scratch.data(), nullptr));
    EXPECT_TRUE(result.empty() || result.data() == scratch.data()) << "must fill scratch";
    return result.ToString();
  }
};

INSTANTIATE_TEST_SUITE_P(Kinds, FileTest, ::testing::Values("/f.sst", "/f.log"));

TEST_P(FileTest, MissingFilesArePathNotFound) {
  std::unique_ptr<rocksdb::FSSequentialFile> sequential;
  EXPECT_TRUE(fs_->NewSequentialFile("/no", file_options_, &sequential, nullptr).IsPathNotFound());
  EXPECT_EQ(sequential, nullptr);
  std::unique_ptr<rocksdb::FSRandomAccessFile> random;
  EXPECT_TRUE(fs_->NewRandomAccessFile("/no", file_options_, &random, nullptr).IsPathNotFound());
  EXPECT_EQ(random, nullptr);
  std::unique_ptr<rocksdb::FSRandomRWFile> both;
  EXPECT_TRUE(fs_->NewRandomRWFile("/no", file_options_, &both, nullptr).IsPathNotFound());
  EXPECT_EQ(both, nullptr);
  std::unique_ptr<rocksdb::FSWritableFile> writable;
  EXPECT_TRUE(fs_->NewWritableFile("/no/f", file_options_, &writable, nullptr).IsPathNotFound());
  EXPECT_EQ(writable, nullptr);
}

TEST_P(FileTest, SizesAroundEveryBoundary) {
  for (size_t size : {0, 1, 511, 512, 513, 4095, 4096, 4097, 65535, 65536, 65537, 1 << 20}) {
    const std::string bytes = pattern(size, static_cast<unsigned>(size));
    write_file(name(), bytes);
    EXPECT_EQ(read_file(name()), bytes) << size;
    uint64_t reported = ~uint64_t{0};
    EXPECT_OK(fs_->GetFileSize(name(), io_, &reported, nullptr));
    EXPECT_EQ(reported, size);
  }
}

TEST_P(FileTest, AppendsOfOddSizesAddUp) {
  const std::string bytes = pattern(300'000);
  auto file = create(name());
  size_t position = 0;
  for (size_t step = 1; position < bytes.size(); step = step * 7 % 8191 + 1) {
    const size_t n = std::min(step, bytes.size() - position);
    ASSERT_OK(file->Append(Slice(bytes.data() + position, n), io_, nullptr));
    position += n;
    EXPECT_EQ(file->GetFileSize(io_, nullptr), position);
  }
  ASSERT_OK(file->Sync(io_, nullptr));
  ASSERT_OK(file->Close(io_, nullptr));
  EXPECT_EQ(read_file(name()), bytes);
  reopen();
  EXPECT_EQ(read_file(name()), bytes);
}

TEST_P(FileTest, TheBufferIsTheCallersAgainAfterAppend) {
  auto file = create(name());
  std::string buffer(5000, 'a');
  ASSERT_OK(file->Append(buffer, io_, nullptr));
  std::fill(buffer.begin(), buffer.end(), 'z');
  ASSERT_OK(file->Close(io_, nullptr));
  EXPECT_EQ(read_file(name()), std::string(5000, 'a'));
}

// CURRENT is written this way: RocksDB's WriteStringToFile() neither flushes nor closes.
TEST_P(FileTest, TheDestructorKeepsTheData) {
  create(name())->Append("kept without Close", io_, nullptr).PermitUncheckedError();
  EXPECT_EQ(read_file(name()), "kept without Close");
  reopen();
  EXPECT_EQ(read_file(name()), "kept without Close");
}

TEST_P(FileTest, FlushedBytesAreSeenByOpenAndNewReaders) {
  auto file = create(name());
  auto early = open_sequential(name());
  EXPECT_EQ(read(*early, 100), "");
  ASSERT_OK(file->Append("one", io_, nullptr));
  ASSERT_OK(file->Flush(io_, nullptr));
  EXPECT_EQ(read(*early, 100), "one");
  EXPECT_EQ(read(*early, 100), "") << "at the end: OK and nothing";
  ASSERT_OK(file->Append("two", io_, nullptr));
  ASSERT_OK(file->Flush(io_, nullptr));
  EXPECT_EQ(read(*early, 100), "two") << "growth is seen";
  EXPECT_EQ(read_at(*open_random(name()), 1, 4), "netw");
  uint64_t size = 0;
  ASSERT_OK(fs_->GetFileSize(name(), io_, &size, nullptr));
  EXPECT_EQ(size, 6u);
  ASSERT_OK(file->Close(io_, nullptr));
}

TEST_P(FileTest, SequentialSkips) {
  write_file(name(), "0123456789");
  auto file = open_sequential(name());
  ASSERT_OK(file->Skip(3));
  EXPECT_EQ(read(*file, 2), "34");
  ASSERT_OK(file->Skip(1000));
  EXPECT_EQ(read(*file, 2), "") << "beyond the end is no error";
}

TEST_P(FileTest, RandomReadsAtAndBeyondTheEnd) {
  const std::string bytes = pattern(10'000);
  write_file(name(), bytes);
  for (bool direct : {false, true}) {
    auto file = open_random(name(), direct);
    EXPECT_FALSE(file->use_direct_io());
    for (uint64_t offset : {0, 1, 511, 512, 4095, 4096, 4097, 9999}) {
      for (size_t n : {0, 1, 513, 4096, 20'000}) {
        EXPECT_EQ(read_at(*file, offset, n), bytes.substr(offset, n)) << offset << " " << n;
      }
    }
    EXPECT_EQ(read_at(*file, 10'000, 5), "");
    EXPECT_EQ(read_at(*file, uint64_t{1} << 40, 5), "");
  }
}

// What tables do that were promised a memory map: they keep the bytes as long as the file is open.
TEST_P(FileTest, ReadsWithoutScratchLastAsLongAsTheFile) {
  const std::string bytes = pattern(100'000);
  write_file(name(), bytes);
  rocksdb::FileOptions options;
  options.use_mmap_reads = true;
  std::unique_ptr<rocksdb::FSRandomAccessFile> file;
  ASSERT_OK(fs_->NewRandomAccessFile(name(), options, &file, nullptr));
  Slice all;
  Slice part;
  ASSERT_OK(file->Read(0, bytes.size(), io_, &all, nullptr, nullptr));
  ASSERT_OK(file->Read(500, 20, io_, &part, nullptr, nullptr));
  EXPECT_EQ(all.ToString(), bytes);
  EXPECT_EQ(part.ToString(), bytes.substr(500, 20));
}

TEST_P(FileTest, MultiReadAnswersEachRequest) {
  const std::string bytes = pattern(500'000);
  write_file(name(), bytes);
  auto file = open_random(name());
  constexpr size_t kCount = 75;  // more than the plugin hands down at once
  std::array<rocksdb::FSReadRequest, kCount> requests;
  std::vector<std::string> buffers(kCount, std::string(5000, '\0'));
  for (size_t i = 0; i < kCount; ++i) {
    requests[i].offset = i * 6700 + i % 7;  // the last ones cross the end or lie beyond it
    requests[i].len = 1 + i * 60;
    requests[i].scratch = buffers[i].data();
  }
  ASSERT_OK(file->MultiRead(requests.data(), kCount, io_, nullptr));
  for (size_t i = 0; i < kCount; ++i) {
    EXPECT_OK(requests[i].status);
    const size_t offset = std::min<size_t>(requests[i].offset, bytes.size());
    EXPECT_EQ(requests[i].result.ToString(), bytes.substr(offset, requests[i].len)) << i;
  }
  ASSERT_OK(file->MultiRead(nullptr, 0, io_, nullptr));
}

TEST_P(FileTest, ADeletedFileLivesUntilItsLastHandleGoes) {
  const std::string bytes = pattern(200'000);
  write_file(name(), bytes);
  auto file = open_random(name());
  ASSERT_OK(fs_->DeleteFile(name(), io_, nullptr));
  write_file(name(), std::string(200'000, 'n'));
  EXPECT_EQ(read_at(*file, 0, bytes.size()), bytes);
  EXPECT_EQ(read_file(name()), std::string(200'000, 'n'));
}

TEST_P(FileTest, ReopenAppends) {
  write_file(name(), "first ");
  std::unique_ptr<rocksdb::FSWritableFile> file;
  ASSERT_OK(fs_->ReopenWritableFile(name(), file_options_, &file, nullptr));
  EXPECT_EQ(file->GetFileSize(io_, nullptr), 6u);
  ASSERT_OK(file->Append("second", io_, nullptr));
  EXPECT_EQ(file->GetFileSize(io_, nullptr), 12u);
  ASSERT_OK(file->Sync(io_, nullptr));
  ASSERT_OK(file->Close(io_, nullptr));
  reopen();
  EXPECT_EQ(read_file(name()), "first second");
  ASSERT_OK(fs_->ReopenWritableFile("/missing.log", file_options_, &file, nullptr));
  EXPECT_EQ(file->GetFileSize(io_, nullptr), 0u);
  ASSERT_OK(file->Close(io_, nullptr));
}

// Recovery cuts the unsynced tail of a WAL this way.
TEST_P(FileTest, TruncateAfterReopen) {
  write_file(name(), pattern(10'000));
  std::unique_ptr<rocksdb::FSWritableFile> file;
  ASSERT_OK(fs_->ReopenWritableFile(name(), file_options_, &file, nullptr));
  ASSERT_OK(file->Truncate(4097, io_, nullptr));
  ASSERT_OK(file->Close(io_, nullptr));
  EXPECT_EQ(read_file(name()), pattern(4097));
  reopen();
  EXPECT_EQ(read_file(name()), pattern(4097));
}

TEST_P(FileTest, ReuseTakesTheNameAndNothingElse) {
  write_file("/old.log", pattern(50'000));
  std::unique_ptr<rocksdb::FSWritableFile> file;
  ASSERT_OK(fs_->ReuseWritableFile(name(), "/old.log", file_options_, &file, nullptr));
  ASSERT_OK(file->Append("new", io_, nullptr));
  ASSERT_OK(file->Close(io_, nullptr));
  EXPECT_EQ(read_file(name()), "new");
  EXPECT_TRUE(fs_->FileExists("/old.log", io_, nullptr).IsNotFound());
  EXPECT_TRUE(fs_->ReuseWritableFile("/x", "/no", file_options_, &file, nullptr).IsPathNotFound());
  EXPECT_EQ(file, nullptr);
}

TEST_P(FileTest, PreallocationDoesNotShow) {
  auto file = create(name());
  file->SetPreallocationBlockSize(4 << 20);
  uint64_t free_before = 0;
  ASSERT_OK(fs_->GetFreeSpace("/", io_, &free_before, nullptr));
  file->PrepareWrite(0, 100, io_, nullptr);
  ASSERT_OK(file->Append(std::string(100, 'x'), io_, nullptr));
  ASSERT_OK(file->Flush(io_, nullptr));
  EXPECT_EQ(file->GetFileSize(io_, nullptr), 100u);
  uint64_t size = 0;
  ASSERT_OK(fs_->GetFileSize(name(), io_, &size, nullptr));
  EXPECT_EQ(size, 100u);
  uint64_t free_during = 0;
  ASSERT_OK(fs_->GetFreeSpace("/", io_, &free_during, nullptr));
  EXPECT_LT(free_during + (3 << 20), free_before) << "the space is reserved";
  ASSERT_OK(file->Close(io_, nullptr));
  std::unique_ptr<rocksdb::FSDirectory> root;
  ASSERT_OK(fs_->NewDirectory("/", io_, &root, nullptr));
  ASSERT_OK(root->Fsync(io_, nullptr));
  uint64_t free_after = 0;
  ASSERT_OK(fs_->GetFreeSpace("/", io_, &free_after, nullptr));
  EXPECT_GT(free_after + (1 << 20), free_before) << "and trimmed at close";
}

TEST_P(FileTest, HintsAndRangesAreAccepted) {
  auto file = create(name());
  file->SetWriteLifeTimeHint(rocksdb::Env::WLTH_SHORT);
  EXPECT_EQ(file->GetWriteLifeTimeHint(), rocksdb::Env::WLTH_SHORT);
  file->SetIOPriority(rocksdb::Env::IO_HIGH);
  const std::string bytes = pattern(3 << 20);
  ASSERT_OK(file->Append(bytes, io_, nullptr));
  EXPECT_OK(file->RangeSync(0, 2 << 20, io_, nullptr));
  EXPECT_OK(file->InvalidateCache(0, 0));
  EXPECT_TRUE(file->IsSyncThreadSafe());
  EXPECT_FALSE(file->use_direct_io());
  ASSERT_OK(file->Fsync(io_, nullptr));
  ASSERT_OK(file->Close(io_, nullptr));
  EXPECT_OK(file->Close(io_, nullptr)) << "closing twice is harmless";
  auto reader = open_random(name());
  for (auto hint :
       {rocksdb::FSRandomAccessFile::kRandom, rocksdb::FSRandomAccessFile::kNormal,
        rocksdb::FSRandomAccessFile::kSequential, rocksdb::FSRandomAccessFile::kWontNeed}) {
    reader->Hint(hint);
    std::string all;
    for (size_t at = 0; at < bytes.size(); at += 3900) all += read_at(*reader, at, 3900);
    EXPECT_EQ(all, bytes);
  }
  EXPECT_OK(reader->InvalidateCache(0, 0));
}

TEST_P(FileTest, SyncRunsBesideAppend) {
  auto file = create(name());
  std::thread syncer([&] {
    for (int i = 0; i < 50; ++i) EXPECT_OK(file->Sync(io_, nullptr));
  });
  std::string expected;
  for (int i = 0; i < 2000; ++i) {
    const std::string record = pattern(100 + i % 50, i);
    EXPECT_OK(file->Append(record, io_, nullptr));
    EXPECT_OK(file->Flush(io_, nullptr));
    expected += record;
  }
  syncer.join();
  ASSERT_OK(file->Close(io_, nullptr));
  EXPECT_EQ(read_file(name()), expected);
}

TEST_P(FileTest, ChecksumsHandedOverAreVerified) {
  auto file = create(name());
  const std::string data = pattern(1000);
  const le32 checksum = crc32c(std::as_bytes(std::span(data)));
  rocksdb::DataVerificationInfo info;
  info.checksum = Slice(reinterpret_cast<const char*>(&checksum), sizeof(checksum));
  EXPECT_OK(file->Append(data, io_, info, nullptr));
  std::string damaged = data;
  damaged[500] ^= 1;
  EXPECT_TRUE(file->Append(damaged, io_, info, nullptr).IsCorruption());
  EXPECT_EQ(file->GetFileSize(io_, nullptr), 1000u) << "refused bytes are not written";
  ASSERT_OK(file->Close(io_, nullptr));
  EXPECT_EQ(read_file(name()), data);
}

TEST_P(FileTest, UniqueIds) {
  write_file(name(), "x");
  write_file("/other", "x");
  std::array<char, 64> first{};
  std::array<char, 64> again{};
  std::array<char, 64> other{};
  const size_t length = open_random(name())->GetUniqueId(first.data(), first.size());
  ASSERT_GT(length, 0u);
  EXPECT_EQ(open_random(name())->GetUniqueId(again.data(), again.size()), length);
  EXPECT_EQ(first, again);
  EXPECT_EQ(open_random("/other")->GetUniqueId(other.data(), other.size()), length);
  EXPECT_NE(first, other);
  EXPECT_EQ(open_random(name())->GetUniqueId(other.data(), 3), 0u);
}

TEST_P(FileTest, FilesOutliveTheFileSystem) {
  auto file = create(name());
  fs_.reset();
  EXPECT_OK(file->Append("still here", io_, nullptr));
  EXPECT_OK(file->Sync(io_, nullptr));
  EXPECT_OK(file->Close(io_, nullptr));
  file.reset();
  reopen();
  EXPECT_EQ(read_file(name()), "still here");
}

class TableFileTest : public StoreTest {};

TEST_F(TableFileTest, RandomRwReadsAndWritesInPlace) {
  write_file("/f.sst", pattern(100'000));
  std::unique_ptr<rocksdb::FSRandomRWFile> file;
  ASSERT_OK(fs_->NewRandomRWFile("/f.sst", file_options_, &file, nullptr));
  std::string expected = pattern(100'000);
  ASSERT_OK(file->Write(70'001, "8 bytes!", io_, nullptr));  // as ingest writes its sequence number
  expected.replace(70'001, 8, "8 bytes!");
  ASSERT_OK(file->Write(100'000, "longer", io_, nullptr));
  expected += "longer";
  ASSERT_OK(file->Flush(io_, nullptr));
  std::array<char, 8> scratch{};
  Slice result;
  ASSERT_OK(file->Read(70'001, 8, io_, &result, scratch.data(), nullptr));
  EXPECT_EQ(result.ToString(), "8 bytes!");
  ASSERT_OK(file->Sync(io_, nullptr));
  ASSERT_OK(file->Fsync(io_, nullptr));
  ASSERT_OK(file->Close(io_, nullptr));
  EXPECT_OK(file->Close(io_, nullptr));
  reopen();
  EXPECT_EQ(read_file("/f.sst"), expected);
}

TEST_F(TableFileTest, MemoryMapsAreNotSupported) {
  write_file("/f", "x");
  std::unique_ptr<rocksdb::MemoryMappedFileBuffer> buffer;
  EXPECT_TRUE(fs_->NewMemoryMappedFileBuffer("/f", &buffer).IsNotSupported());
}

TEST_F(TableFileTest, LoggersWriteIntoTheStore) {
  std::shared_ptr<rocksdb::Logger> logger;
  ASSERT_OK(fs_->NewLogger("/LOG", io_, &logger, nullptr));
  logger->SetInfoLogLevel(rocksdb::INFO_LEVEL);
  rocksdb::Info(logger.get(), "a line for %s", "the test");
  logger->Flush();
  EXPECT_NE(read_file("/LOG").find("a line for the test"), std::string::npos);
  ASSERT_OK(logger->Close());
}

TEST_F(TableFileTest, OptionsNeverAskForDirectLogs) {
  rocksdb::FileOptions options;
  options.use_direct_writes = true;
  options.use_mmap_writes = true;
  EXPECT_FALSE(fs_->OptimizeForLogWrite(options, rocksdb::DBOptions()).use_direct_writes);
  EXPECT_FALSE(fs_->OptimizeForManifestWrite(options).use_direct_writes);
  EXPECT_FALSE(fs_->OptimizeForManifestWrite(options).use_mmap_writes);
}

TEST(Prefetch, IsRealOrNotSupported) {
  const TempStore store;
  const rocksdb::IOOptions io;
  for (const char* keys : {"", "&cache=0"}) {
    auto fs = store.open(keys);
    ASSERT_OK(rocksdb::WriteStringToFile(fs.get(), std::string(1 << 20, 'x'), "/f", true));
    std::unique_ptr<rocksdb::FSRandomAccessFile> file;
    ASSERT_OK(fs->NewRandomAccessFile("/f", rocksdb::FileOptions(), &file, nullptr));
    const IOStatus status = file->Prefetch(0, 512 << 10, io, nullptr);
    if (*keys == '\0') {
      EXPECT_OK(status);
    } else {
      EXPECT_TRUE(status.IsNotSupported()) << "no cache to read ahead into";
    }
    std::string scratch(1 << 20, '\0');
    Slice result;
    EXPECT_OK(file->Read(0, scratch.size(), io, &result, scratch.data(), nullptr));
    EXPECT_EQ(result.ToString(), std::string(1 << 20, 'x'));
  }
}

}  // namespace
}  // namespace basalt::rocksdb_env
