// Space: a full store refuses clearly and harms nothing, deleting makes room, metadata runs full as clean.
// Method: small disks filled to the end.
#include "fixture.h"

namespace basalt {
namespace {

class SpaceTest : public FsTest, public ::testing::WithParamInterface<FileKind> {};

TEST_P(SpaceTest, FillDeleteAndWriteAgain) {
  make({.bytes = uint64_t{20} << 20});
  mount();
  const uint64_t free_at_start = fs_->space().free_bytes;
  write_file("/keep", GetParam(), pattern(100000, 7));
  for (int round = 0; round < 4; ++round) {
    SCOPED_TRACE(round);
    std::vector<std::string> names;
    Status full;
    uint64_t written = 0;
    for (int i = 0; full.ok(); ++i) {
      names.push_back("/f" + std::to_string(i));
      auto file = fs_->create(names.back(), GetParam(), {});
      ASSERT_TRUE(file.has_value()) << file.error().to_string();
      for (int n = 0; n < 10 && full.ok(); ++n) {
        full = (*file)->append(pattern(70000, i));
        if (full.ok()) written += 70000;
      }
      const uint64_t size = (*file)->size();
      EXPECT_EQ(size % 70000, 0u) << "an append happens whole or not at all";
      const Status closed = (*file)->close();
      EXPECT_TRUE(closed.ok()) << closed.to_string();
    }
    EXPECT_EQ(full.code(), StatusCode::no_space) << full.to_string();
    EXPECT_GE(written, free_at_start * 8 / 10);
    EXPECT_EQ(read_file("/keep"), pattern(100000, 7));
    for (size_t i = 0; i + 1 < names.size(); ++i) {
      const auto found = read_file(names[i]);
      ASSERT_EQ(found.size(), 700000u);
      const auto expected = pattern(70000, i);
      for (size_t at = 0; at < found.size(); at += 70000) {
        ASSERT_TRUE(std::equal(expected.begin(), expected.end(),
                               found.begin() + static_cast<ptrdiff_t>(at)));
      }
    }
    if (round == 1) remount();
    for (const auto& name : names) ASSERT_OK(fs_->remove(name));
  }
  ASSERT_OK(fs_->remove("/keep"));
  ASSERT_OK(fs_->sync_all());
  EXPECT_EQ(fs_->space().free_bytes, free_at_start);
  unmount();
  expect_clean();
}

TEST_P(SpaceTest, AFullFileGoesOnAfterADeletion) {
  make({.bytes = uint64_t{20} << 20});
  mount();
  write_file("/ballast", FileKind::table, pattern(4 << 20, 1));
  auto file = create("/f", GetParam());
  std::vector<std::byte> model;
  Status status;
  for (int i = 0; status.ok(); ++i) {
    const auto piece = pattern(50000, i);
    status = file->append(piece);
    if (status.ok()) model.insert(model.end(), piece.begin(), piece.end());
  }
  EXPECT_EQ(status.code(), StatusCode::no_space);
  ASSERT_OK(file->sync());
  EXPECT_EQ(read_all(*file), model);
  ASSERT_OK(fs_->remove("/ballast"));
  const auto piece = pattern(50000, 99);
  ASSERT_OK(file->append(piece));
  model.insert(model.end(), piece.begin(), piece.end());
  ASSERT_OK(file->sync());
  ASSERT_OK(file->close());
  EXPECT_EQ(read_file("/f"), model);
}

TEST_P(SpaceTest, AppendsTooLargeAreRefusedWhole) {
  make({.bytes = uint64_t{20} << 20});
  mount();
  const auto file = create("/f", GetParam());
  ASSERT_OK(file->append(pattern(1000, 1)));
  EXPECT_EQ(file->append(pattern(30 << 20, 2)).code(), StatusCode::no_space);
  EXPECT_EQ(file->size(), 1000u);
  EXPECT_EQ(read_all(*file), pattern(1000, 1));
  ASSERT_OK(file->append(pattern(1000, 3)));
  ASSERT_OK(file->sync());
}

TEST_P(SpaceTest, TheNameSpaceRunsFullAndCanBeEmptied) {
  FormatOptions format;
  format.metadata_bytes = uint64_t{2} << 20;
  make({.bytes = uint64_t{20} << 20}, format);
  mount();
  std::vector<std::string> names;
  Status full;
  for (int i = 0; full.ok() && i < 100000; ++i) {
    const std::string name = "/" + std::string(200, 'n') + std::to_string(i);
    auto file = fs_->create(name, GetParam(), {});
    if (!file) {
      full = file.error();
      break;
    }
    names.push_back(name);
    full = (*file)->close();
  }
  EXPECT_EQ(full.code(), StatusCode::no_space) << full.to_string();
  EXPECT_GT(names.size(), 500u);
  EXPECT_EQ(fs_->list("/")->size(), names.size());
  remount();
  EXPECT_EQ(fs_->list("/")->size(), names.size());
  for (const auto& name : names) ASSERT_OK(fs_->remove(name));
  ASSERT_OK(fs_->sync_all());
  ASSERT_OK(fs_->make_directory("/again"));
  unmount();
  expect_clean();
}

// A table without a name, cut to an end inside a hole: what is appended needs space there. (How far it was
// mapped had been remembered from before the cut, and the bytes could not be written.)
TEST_F(FsTest, AnUnlinkedTableCutInsideAHoleGoesOn) {
  make({});
  mount();
  const auto file = create("/f");
  ASSERT_OK(file->append(pattern(600'000, 1)));
  ASSERT_OK(file->punch(100'000, 400'000));
  ASSERT_OK(file->append(pattern(100, 2)));
  ASSERT_OK(fs_->remove("/f"));
  ASSERT_OK(file->truncate(300'000));
  ASSERT_OK(file->append(pattern(100, 3)));
  ASSERT_OK(file->sync());
  std::vector<std::byte> found(100);
  ASSERT_EQ(file->read(300'000, found).value_or(0), found.size());
  EXPECT_EQ(found, pattern(100, 3));
}

std::string kind_name(const ::testing::TestParamInfo<FileKind>& info) {
  return info.param == FileKind::table ? "Table" : "Log";
}
INSTANTIATE_TEST_SUITE_P(Kinds, SpaceTest, ::testing::Values(FileKind::table, FileKind::log),
                         kind_name);

}  // namespace
}  // namespace basalt
