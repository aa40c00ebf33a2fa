// Files of both kinds: appends, reads, sizes at the boundaries, positioned writes, truncation, holes.
// Method: the same operations on a file and on a vector, compared, before and after a remount.
#include "fixture.h"

#include <cstring>

namespace basalt {
namespace {

const size_t kSizes[] = {0,      1,      479,    480,     481,     511,     512,
                         513,    4063,   4064,   4065,    4095,    4096,    4097,
                         8192,   65279,  65280,  65281,   65535,   65536,   65537,
                         130560, 131071, 131072, 1048575, 1048576, 1048577, 3000000};

class FilesTest : public FsTest,
                  public ::testing::WithParamInterface<std::tuple<FileKind, uint32_t, int>> {
 protected:
  FileKind kind() const { return std::get<0>(GetParam()); }
  FilesTest() {
    make({.bytes = uint64_t{96} << 20, .block_bytes = std::get<1>(GetParam())});
    mount(options());
  }
  MountOptions options() const {
    MountOptions options;
    if (std::get<2>(GetParam()) == 1) options.flush_to = MountOptions::FlushTo::device;
    if (std::get<2>(GetParam()) == 2) {
      options.cache_bytes = 0;
      options.tail_bytes = uint64_t{1} << 20;  // a handful of chunks
    }
    return options;
  }
};

TEST_P(FilesTest, SizesAtTheBoundariesReadBackInEveryState) {
  for (const size_t size : kSizes) {
    SCOPED_TRACE(size);
    const auto bytes = pattern(size, size + 1);
    auto file = create("/f", kind());
    ASSERT_OK(file->append(bytes));
    EXPECT_EQ(file->size(), size);
    EXPECT_EQ(read_all(*file), bytes) << "in memory";
    ASSERT_OK(file->flush());
    EXPECT_EQ(read_file("/f"), bytes) << "flushed";
    ASSERT_OK(file->sync());
    EXPECT_EQ(read_all(*file), bytes) << "synced";
    ASSERT_OK(file->close());
    file.reset();
    EXPECT_EQ(read_file("/f"), bytes) << "closed";
    EXPECT_EQ(fs_->stat("/f")->size_bytes, size);
  }
  const auto last = pattern(3000000, 3000001);
  remount(options());
  EXPECT_EQ(read_file("/f"), last);
  unmount();
  expect_clean();
}

TEST_P(FilesTest, AppendsInAllSizesWithSyncsBetween) {
  std::vector<std::byte> model;
  auto file = create("/f", kind());
  std::mt19937 random(7);
  for (int i = 0; i < 400; ++i) {
    const auto piece = pattern(random() % (i % 50 == 0 ? 200000 : 700), 1000 + i);
    ASSERT_OK(file->append(piece));
    model.insert(model.end(), piece.begin(), piece.end());
    if (i % 3 == 0) ASSERT_OK(file->sync());
    if (i % 5 == 0) ASSERT_OK(file->flush());
    if (i % 20 == 0) {
      EXPECT_EQ(read_all(*file), model);
    }
  }
  EXPECT_EQ(read_all(*file), model);
  ASSERT_OK(file->close());
  file.reset();
  EXPECT_EQ(read_file("/f"), model);
  remount(options());
  EXPECT_EQ(read_file("/f"), model);
}

TEST_P(FilesTest, ReadsAtAnyOffsetAndBeyondTheEnd) {
  const auto bytes = pattern(200001, 9);
  auto file = create("/f", kind());
  ASSERT_OK(file->append(std::span(bytes).first(150000)));
  ASSERT_OK(file->sync());
  ASSERT_OK(file->append(std::span(bytes).subspan(150000)));
  std::mt19937 random(11);
  for (const Caching caching : {Caching::normal, Caching::uncached}) {
    for (int i = 0; i < 500; ++i) {
      const size_t offset = random() % (bytes.size() + 1000);
      std::vector<std::byte> out(random() % 9000);
      const auto count = file->read(offset, out, caching);
      ASSERT_TRUE(count.has_value()) << count.error().to_string();
      const size_t expected =
          offset >= bytes.size() ? 0 : std::min(out.size(), bytes.size() - offset);
      ASSERT_EQ(*count, expected);
      ASSERT_EQ(0, std::memcmp(out.data(), bytes.data() + offset, expected));
    }
  }
  ASSERT_OK(file->close());
}

TEST_P(FilesTest, ReopenedFilesAreContinued) {
  for (const size_t first : {0ul, 1ul, 480ul, 4064ul, 4096ul, 5000ul, 65280ul, 65536ul, 70000ul}) {
    SCOPED_TRACE(first);
    const auto bytes = pattern(first + 3000, first);
    write_file("/f", kind(), std::span(bytes).first(first));
    for (size_t at = first; at < bytes.size(); at += 1000) {
      if (at % 2000 == first % 2000) remount(options());
      const auto file = open("/f", OpenMode::read_write);
      ASSERT_OK(file->append(std::span(bytes).subspan(at, 1000)));
      ASSERT_OK(file->close());
    }
    EXPECT_EQ(read_file("/f"), bytes);
  }
  unmount();
  expect_clean();
}

TEST_P(FilesTest, TruncationCutsAndGrows) {
  std::vector<std::byte> model = pattern(300000, 21);
  auto file = create("/f", kind());
  ASSERT_OK(file->append(model));
  std::mt19937 random(5);
  for (const size_t size :
       {299999ul, 262144ul, 262143ul, 100000ul, 100001ul, 65536ul, 65280ul, 4097ul, 4096ul, 4095ul,
        50000ul, 481ul, 480ul, 479ul, 1ul, 0ul, 10ul, 10000ul}) {
    SCOPED_TRACE(size);
    ASSERT_OK(file->truncate(size));
    model.resize(size);
    EXPECT_EQ(file->size(), size);
    EXPECT_EQ(read_all(*file), model);
    const auto more = pattern(random() % 3000, size);
    ASSERT_OK(file->append(more));
    model.insert(model.end(), more.begin(), more.end());
    EXPECT_EQ(read_all(*file), model);
    if (random() % 2 == 0) ASSERT_OK(file->sync());
  }
  ASSERT_OK(file->close());
  file.reset();
  EXPECT_EQ(read_file("/f"), model);
  ASSERT_OK(fs_->truncate("/f", 5));
  model.resize(5);
  EXPECT_EQ(read_file("/f"), model);
  ASSERT_OK(fs_->truncate("/f", 9000));
  model.resize(9000);
  remount(options());
  EXPECT_EQ(read_file("/f"), model);
  unmount();
  expect_clean();
}

TEST_P(FilesTest, AReaderFollowsAWriter) {
  const auto bytes = pattern(100000, 31);
  const auto writer = create("/f", kind());
  const auto reader = open("/f");
  std::vector<std::byte> out(100);
  for (size_t at = 0; at < bytes.size(); at += 100) {
    EXPECT_EQ(*reader->read(at, out), 0u);
    ASSERT_OK(writer->append(std::span(bytes).subspan(at, 100)));
    if (at % 700 == 0) ASSERT_OK(writer->sync());
    ASSERT_EQ(*reader->read(at, out), 100u);
    ASSERT_EQ(0, std::memcmp(out.data(), bytes.data() + at, 100));
  }
}

TEST_P(FilesTest, TwoWritersInTurn) {
  std::vector<std::byte> model;
  auto one = create("/f", kind());
  auto two = open("/f", OpenMode::read_write);
  for (int i = 0; i < 20; ++i) {
    const auto piece = pattern(777, i);
    ASSERT_OK((i % 2 ? one : two)->append(piece));
    model.insert(model.end(), piece.begin(), piece.end());
  }
  ASSERT_OK(one->close());
  const auto piece = pattern(777, 100);
  ASSERT_OK(two->append(piece));
  model.insert(model.end(), piece.begin(), piece.end());
  EXPECT_EQ(one->append(piece).code(), StatusCode::invalid_argument);
  ASSERT_OK(two->close());
  EXPECT_EQ(read_file("/f"), model);
}

TEST_P(FilesTest, PreallocationIsInvisibleAndGivenBack) {
  const uint64_t free_before = fs_->space().free_bytes;
  auto file = create("/f", kind(), {.preallocate_bytes = uint64_t{8} << 20});
  EXPECT_EQ(file->size(), 0u);
  EXPECT_GE(fs_->stat("/f")->allocated_bytes, uint64_t{8} << 20);
  ASSERT_OK(file->append(pattern(100000, 1)));
  ASSERT_OK(file->allocate(0, uint64_t{16} << 20));
  EXPECT_EQ(file->size(), 100000u);
  EXPECT_GE(fs_->stat("/f")->allocated_bytes, uint64_t{16} << 20);
  ASSERT_OK(file->close());
  file.reset();
  EXPECT_LE(fs_->stat("/f")->allocated_bytes, 196608u);
  EXPECT_EQ(read_file("/f"), pattern(100000, 1));
  ASSERT_OK(fs_->remove("/f"));
  ASSERT_OK(fs_->sync_all());
  EXPECT_EQ(fs_->space().free_bytes, free_before);
}

TEST_P(FilesTest, FailedWritesStick) {
  auto file = create("/f", kind());
  ASSERT_OK(file->append(pattern(100, 1)));
  ASSERT_OK(file->sync());
  // Only writes that carry the bytes appended next.
  const auto poison = pattern(100, 2);
  disk_->fail_if([poison](const Io& io) {
    for (const iovec& piece : io.data) {
      if (io.op == Op::write &&
          ::memmem(piece.iov_base, piece.iov_len, poison.data(), 100) != nullptr)
        return true;
    }
    return false;
  });
  ASSERT_OK(file->append(pattern(100, 2)));
  EXPECT_EQ(file->sync().code(), StatusCode::io_error);
  disk_->fail_if(nullptr);
  EXPECT_EQ(file->sync().code(), StatusCode::io_error) << "the error stays";
  EXPECT_EQ(file->append(pattern(1, 3)).code(), StatusCode::io_error);
  EXPECT_EQ(file->close().code(), StatusCode::io_error);
  file.reset();
  // What was synced before is untouched.
  std::vector<std::byte> out(100);
  const auto again = open("/f");
  ASSERT_EQ(*again->read(0, out), 100u);
  EXPECT_EQ(out, pattern(100, 1));
}

TEST_P(FilesTest, HandlesSayWhatTheyCannotDo) {
  write_file("/f", kind(), pattern(10, 1));
  const auto reader = open("/f");
  EXPECT_EQ(reader->append(pattern(1, 1)).code(), StatusCode::read_only);
  EXPECT_EQ(reader->truncate(0).code(), StatusCode::read_only);
  const auto writer = open("/f", OpenMode::read_write);
  if (kind() == FileKind::log) {
    EXPECT_EQ(writer->write(0, pattern(1, 1)).code(), StatusCode::unsupported);
    EXPECT_EQ(writer->punch(0, 1).code(), StatusCode::unsupported);
  }
  ASSERT_OK(writer->close());
  EXPECT_EQ(writer->sync().code(), StatusCode::invalid_argument);
  EXPECT_EQ(writer->close().code(), StatusCode::invalid_argument);
  std::byte out[1];
  EXPECT_EQ(writer->read(0, out).error().code(), StatusCode::invalid_argument);
}

std::string mode_name(const ::testing::TestParamInfo<FilesTest::ParamType>& info) {
  static const char* const kModes[] = {"SharedTail", "FlushToDevice", "NoCacheSmallTail"};
  return std::string(std::get<0>(info.param) == FileKind::table ? "Table" : "Log") +
         std::to_string(std::get<1>(info.param)) + kModes[std::get<2>(info.param)];
}
INSTANTIATE_TEST_SUITE_P(Kinds, FilesTest,
                         ::testing::Combine(::testing::Values(FileKind::table, FileKind::log),
                                            ::testing::Values(512u, 4096u),
                                            ::testing::Values(0, 1, 2)),
                         mode_name);

// ---- Tables alone

class TableTest : public FsTest, public ::testing::WithParamInterface<uint64_t> {
 protected:
  TableTest() {
    make();
    mount({.cache_bytes = GetParam()});
  }
};

TEST_P(TableTest, PositionedWritesAgainstAModel) {
  std::vector<std::byte> model;
  auto file = create("/f");
  std::mt19937 random(GetParam() + 3);
  for (int i = 0; i < 600; ++i) {
    const size_t offset = random() % (i % 10 == 0 ? 400000 : model.size() + 1);
    const auto piece = pattern(1 + random() % (i % 7 == 0 ? 100000 : 5000), i);
    ASSERT_OK(file->write(offset, piece));
    if (model.size() < offset + piece.size()) model.resize(offset + piece.size());
    std::copy(piece.begin(), piece.end(), model.begin() + static_cast<ptrdiff_t>(offset));
    if (i % 4 == 0) {
      const auto tail = pattern(random() % 9000, 5000 + i);
      ASSERT_OK(file->append(tail));
      model.insert(model.end(), tail.begin(), tail.end());
    }
    if (i % 9 == 0) {
      const size_t from = random() % model.size(), length = random() % 200000;
      ASSERT_OK(file->punch(from, length));
      for (size_t at = from; at < std::min(model.size(), from + length); ++at)
        model[at] = std::byte{0};
    }
    if (i % 13 == 0) {
      const size_t size = random() % (model.size() + 20000);
      ASSERT_OK(file->truncate(size));
      model.resize(size);
    }
    if (i % 11 == 0) ASSERT_OK(file->sync());
    ASSERT_EQ(file->size(), model.size());
    ASSERT_TRUE(read_all(*file) == model) << "after step " << i;
  }
  ASSERT_OK(file->close());
  file.reset();
  EXPECT_TRUE(read_file("/f") == model);
  remount({.cache_bytes = GetParam()});
  EXPECT_TRUE(read_file("/f") == model);
  unmount();
  expect_clean();
}

TEST_P(TableTest, NoStaleByteComesBack) {
  const auto secret = pattern(1 << 20, 77);
  write_file("/old", FileKind::table, secret);
  ASSERT_OK(fs_->remove("/old"));
  ASSERT_OK(fs_->sync_all());
  // All space is handed out anew; nothing was written to most of it.
  auto file = create("/new", FileKind::table, {.preallocate_bytes = uint64_t{30} << 20});
  ASSERT_OK(file->truncate(uint64_t{30} << 20));
  ASSERT_OK(file->write(12345, pattern(10, 1)));
  const auto bytes = read_all(*file);
  for (size_t at = 0; at < bytes.size(); ++at) {
    if (at >= 12345 && at < 12355) continue;
    ASSERT_EQ(bytes[at], std::byte{0}) << at;
  }
}

TEST_P(TableTest, PunchingFreesWholeClusters) {
  auto file = create("/f");
  ASSERT_OK(file->append(pattern(1 << 20, 1)));
  ASSERT_OK(file->sync());
  const uint64_t before = fs_->stat("/f")->allocated_bytes;
  ASSERT_OK(file->punch(100, 500000));
  EXPECT_LE(fs_->stat("/f")->allocated_bytes, before - 6 * 65536);
  EXPECT_EQ(file->size(), 1u << 20);
}

INSTANTIATE_TEST_SUITE_P(Cache, TableTest, ::testing::Values(0, 300000, uint64_t{64} << 20));

}  // namespace
}  // namespace basalt
