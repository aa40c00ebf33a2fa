// Names: every change of the tree, what is refused and with which code, and that changes last.
// Method: table-driven calls on a file system in memory, seen again after a remount.
#include "fixture.h"

#include <algorithm>

namespace basalt {
namespace {

class NamesTest : public FsTest {
 protected:
  NamesTest() {
    make();
    mount();
  }
  std::string names(const std::string& path) {
    const auto entries = fs_->list(path);
    if (!entries) return std::string(to_string(entries.error().code()));
    std::string text;
    for (const auto& entry : *entries) {
      text += (text.empty() ? "" : " ") + entry.name + (entry.is_directory ? "/" : "");
    }
    return text;
  }
};

TEST_F(NamesTest, AnEmptyFileSystemHasARootAndNothingElse) {
  EXPECT_EQ(names("/"), "");
  const auto root = fs_->stat("/");
  ASSERT_TRUE(root.has_value());
  EXPECT_TRUE(root->is_directory);
  unmount();
  expect_clean();
}

TEST_F(NamesTest, PathsAreTakenApartAsPromised) {
  ASSERT_OK(fs_->make_directory("/a"));
  ASSERT_OK(fs_->make_directory("//a/./b//"));
  create("/a/b/f");
  EXPECT_TRUE(exists("/a/./b//f"));
  const struct {
    std::string path;
    StatusCode code;
  } cases[] = {
      {"", StatusCode::invalid_argument},
      {"a", StatusCode::invalid_argument},
      {"/a/../b", StatusCode::invalid_argument},
      {std::string("/a\0b", 4), StatusCode::invalid_argument},
      {"/" + std::string(256, 'x'), StatusCode::invalid_argument},
      {std::string(4097, '/'), StatusCode::invalid_argument},
      {"/missing", StatusCode::not_found},
      {"/missing/x", StatusCode::not_found},
      {"/a/b/f/x", StatusCode::not_a_directory},
  };
  for (const auto& c : cases) {
    const auto info = fs_->stat(c.path);
    ASSERT_FALSE(info.has_value()) << c.path;
    EXPECT_EQ(info.error().code(), c.code) << c.path << ": " << info.error().to_string();
  }
  const std::string longest(255, 'n');
  create("/" + longest);
  EXPECT_TRUE(exists("/" + longest));
}

TEST_F(NamesTest, RefusalsSayWhy) {
  ASSERT_OK(fs_->make_directory("/d"));
  ASSERT_OK(fs_->make_directory("/d/e"));
  create("/f");
  const struct {
    const char* what;
    Status status;
    StatusCode code;
  } cases[] = {
      {"mkdir over a directory", fs_->make_directory("/d"), StatusCode::already_exists},
      {"mkdir over a file", fs_->make_directory("/f"), StatusCode::already_exists},
      {"mkdir /", fs_->make_directory("/"), StatusCode::already_exists},
      {"mkdir without parent", fs_->make_directory("/x/y"), StatusCode::not_found},
      {"rmdir of a full directory", fs_->remove_directory("/d"), StatusCode::not_empty},
      {"rmdir of a file", fs_->remove_directory("/f"), StatusCode::not_a_directory},
      {"rmdir of nothing", fs_->remove_directory("/x"), StatusCode::not_found},
      {"rmdir /", fs_->remove_directory("/"), StatusCode::invalid_argument},
      {"remove a directory", fs_->remove("/d"), StatusCode::is_a_directory},
      {"remove nothing", fs_->remove("/x"), StatusCode::not_found},
      {"rename nothing", fs_->rename("/x", "/y"), StatusCode::not_found},
      {"rename into nothing", fs_->rename("/f", "/x/f"), StatusCode::not_found},
      {"a file over a directory", fs_->rename("/f", "/d"), StatusCode::is_a_directory},
      {"a directory over a file", fs_->rename("/d", "/f"), StatusCode::not_a_directory},
      {"a directory below itself", fs_->rename("/d", "/d/e/d"), StatusCode::invalid_argument},
      {"a directory into itself", fs_->rename("/d", "/d/d"), StatusCode::invalid_argument},
      {"rename /", fs_->rename("/", "/x"), StatusCode::invalid_argument},
      {"link a directory", fs_->link("/d", "/x"), StatusCode::is_a_directory},
      {"link over a name", fs_->link("/f", "/d"), StatusCode::already_exists},
      {"list a file", fs_->list("/f").error(), StatusCode::not_a_directory},
      {"list nothing", fs_->list("/x").error(), StatusCode::not_found},
      {"sync nothing", fs_->sync_directory("/x"), StatusCode::not_found},
  };
  for (const auto& c : cases)
    EXPECT_EQ(c.status.code(), c.code) << c.what << ": " << c.status.to_string();
  EXPECT_EQ(fs_->create("/d", FileKind::table, {}).error().code(), StatusCode::is_a_directory);
  EXPECT_EQ(fs_->create("/f", FileKind::table, {.exclusive = true}).error().code(),
            StatusCode::already_exists);
  EXPECT_EQ(fs_->open("/d", OpenMode::read_only).error().code(), StatusCode::is_a_directory);
  EXPECT_EQ(names("/"), "d/ f");
  unmount();
  expect_clean();
}

TEST_F(NamesTest, ListingsAreSortedAndOneLevelDeep) {
  ASSERT_OK(fs_->make_directory("/b"));
  for (const char* name : {"/z", "/a", "/b/inner", "/m"}) create(name);
  ASSERT_OK(fs_->make_directory("/c"));
  EXPECT_EQ(names("/"), "a b/ c/ m z");
  EXPECT_EQ(names("/b"), "inner");
  EXPECT_EQ(names("/c"), "");
}

TEST_F(NamesTest, RenameReplacesAFileAtOnce) {
  const auto one = pattern(5000, 1), two = pattern(7000, 2);
  write_file("/old", FileKind::table, one);
  write_file("/new", FileKind::table, two);
  const auto reader = open("/old");
  ASSERT_OK(fs_->rename("/new", "/old"));
  EXPECT_EQ(names("/"), "old");
  EXPECT_EQ(read_file("/old"), two);
  EXPECT_EQ(read_all(*reader), one) << "an open handle keeps the replaced file";
}

TEST_F(NamesTest, RenameMovesATreeWithAllInIt) {
  ASSERT_OK(fs_->make_directory("/from"));
  ASSERT_OK(fs_->make_directory("/from/deep"));
  ASSERT_OK(fs_->make_directory("/to"));
  const auto bytes = pattern(100, 3);
  write_file("/from/deep/file", FileKind::log, bytes);
  const auto handle = open("/from/deep/file");
  ASSERT_OK(fs_->rename("/from", "/to/moved"));
  EXPECT_EQ(names("/"), "to/");
  EXPECT_EQ(read_file("/to/moved/deep/file"), bytes);
  EXPECT_EQ(read_all(*handle), bytes);
  // The moved directory's place counts when cycles are looked for.
  EXPECT_EQ(fs_->rename("/to", "/to/moved/deep/x").code(), StatusCode::invalid_argument);
  ASSERT_OK(fs_->rename("/to/moved", "/again"));
  ASSERT_OK(fs_->rename("/to", "/again/deep/to"));
  EXPECT_EQ(names("/again/deep"), "file to/");
}

TEST_F(NamesTest, RenameToItselfAndOntoAnEmptyDirectory) {
  write_file("/f", FileKind::table, pattern(10, 1));
  ASSERT_OK(fs_->rename("/f", "/f"));
  ASSERT_OK(fs_->link("/f", "/g"));
  ASSERT_OK(fs_->rename("/f", "/g"));  // two names of one file: nothing happens
  EXPECT_EQ(names("/"), "f g");
  ASSERT_OK(fs_->make_directory("/d"));
  ASSERT_OK(fs_->make_directory("/e"));
  create("/d/in");
  ASSERT_OK(fs_->rename("/d", "/d"));
  ASSERT_OK(fs_->rename("/d", "/e"));
  EXPECT_EQ(names("/"), "e/ f g");
  EXPECT_EQ(names("/e"), "in");
  EXPECT_EQ(fs_->rename("/f", "/e").code(), StatusCode::is_a_directory);
  ASSERT_OK(fs_->make_directory("/x"));
  EXPECT_EQ(fs_->rename("/x", "/e").code(), StatusCode::not_empty);
}

TEST_F(NamesTest, LinksCountAndShareTheFile) {
  const auto bytes = pattern(9000, 4);
  write_file("/a", FileKind::table, bytes);
  ASSERT_OK(fs_->make_directory("/d"));
  ASSERT_OK(fs_->link("/a", "/d/b"));
  const auto a = fs_->stat("/a"), b = fs_->stat("/d/b");
  EXPECT_EQ(a->file_id, b->file_id);
  EXPECT_EQ(a->link_count, 2u);
  EXPECT_EQ(b->size_bytes, bytes.size());
  ASSERT_OK(fs_->remove("/a"));
  EXPECT_EQ(fs_->stat("/d/b")->link_count, 1u);
  EXPECT_EQ(read_file("/d/b"), bytes);
  remount();
  EXPECT_EQ(fs_->stat("/d/b")->link_count, 1u);
  EXPECT_EQ(read_file("/d/b"), bytes);
  ASSERT_OK(fs_->remove("/d/b"));
  unmount();
  expect_clean();
}

TEST_F(NamesTest, ReplacingOneOfTwoNamesKeepsTheOther) {
  const auto one = pattern(300, 1), two = pattern(400, 2);
  write_file("/a", FileKind::table, one);
  ASSERT_OK(fs_->link("/a", "/b"));
  write_file("/a", FileKind::table, two);  // a new file under the name
  EXPECT_EQ(read_file("/a"), two);
  EXPECT_EQ(read_file("/b"), one);
  EXPECT_NE(fs_->stat("/a")->file_id, fs_->stat("/b")->file_id);
}

TEST_F(NamesTest, AFileWithoutNamesLivesUntilItsLastHandleCloses) {
  const uint64_t free_before = fs_->space().free_bytes;
  for (const FileKind kind : {FileKind::table, FileKind::log}) {
    const auto bytes = pattern(300000, 5);
    auto file = create("/f", kind);
    ASSERT_OK(file->append(std::span(bytes).first(200000)));
    ASSERT_OK(fs_->remove("/f"));
    EXPECT_FALSE(exists("/f"));
    ASSERT_OK(file->append(std::span(bytes).subspan(200000)));
    ASSERT_OK(file->sync());
    EXPECT_EQ(read_all(*file), bytes);
    ASSERT_OK(file->close());
    file.reset();
  }
  ASSERT_OK(fs_->sync_all());
  EXPECT_EQ(fs_->space().free_bytes, free_before);
  unmount();
  expect_clean();
}

TEST_F(NamesTest, ReadersOfAFileWithoutNamesSeeWhatItsClosedWriterLeft) {
  for (const FileKind kind : {FileKind::table, FileKind::log}) {
    const auto bytes = pattern(150000, 6);
    auto writer = create("/f", kind);
    ASSERT_OK(writer->append(bytes));
    const auto reader = open("/f");
    ASSERT_OK(fs_->remove("/f"));
    ASSERT_OK(writer->close());
    writer.reset();
    EXPECT_EQ(read_all(*reader), bytes);
  }
}

TEST_F(NamesTest, IdsAreNeverGivenTwice) {
  std::vector<uint64_t> ids;
  for (int round = 0; round < 3; ++round) {
    create("/f")->close().ok();
    ids.push_back(fs_->stat("/f")->file_id);
    ASSERT_OK(fs_->make_directory("/d"));
    ids.push_back(fs_->stat("/d")->file_id);
    ASSERT_OK(fs_->remove_directory("/d"));
    ASSERT_OK(fs_->remove("/f"));
    remount();
  }
  auto unique = ids;
  std::sort(unique.begin(), unique.end());
  EXPECT_EQ(std::unique(unique.begin(), unique.end()), unique.end());
  EXPECT_TRUE(std::is_sorted(ids.begin(), ids.end()));
}

TEST_F(NamesTest, TimesFollowChanges) {
  auto file = create("/f");
  const Duration created = fs_->stat("/f")->modified;
  const Duration root = fs_->stat("/")->modified;
  EXPECT_GT(created, std::chrono::hours(24 * 365 * 50));
  ASSERT_OK(file->append(pattern(10, 1)));
  const Duration appended = fs_->stat("/f")->modified;
  EXPECT_GE(appended, created);
  ASSERT_OK(file->close());
  file.reset();
  ASSERT_OK(fs_->rename("/f", "/g"));
  EXPECT_EQ(fs_->stat("/g")->modified, appended) << "a new name is no change of the file";
  EXPECT_GE(fs_->stat("/")->modified, root);
  remount();
  EXPECT_EQ(fs_->stat("/g")->modified, appended);
}

TEST_F(NamesTest, LocksExcludeByName) {
  ASSERT_OK(fs_->lock("/db/LOCK"));
  EXPECT_EQ(fs_->lock("/db//./LOCK").code(), StatusCode::busy);
  ASSERT_OK(fs_->lock("/db/OTHER"));
  ASSERT_OK(fs_->unlock("/db/LOCK"));
  EXPECT_EQ(fs_->unlock("/db/LOCK").code(), StatusCode::invalid_argument);
  ASSERT_OK(fs_->lock("/db/LOCK"));
}

TEST_F(NamesTest, ManyNamesInOneDirectory) {
  for (int i = 0; i < 3000; ++i) create("/f" + std::to_string(i))->close().ok();
  for (int i = 0; i < 3000; i += 3) ASSERT_OK(fs_->remove("/f" + std::to_string(i)));
  remount();
  EXPECT_EQ(fs_->list("/")->size(), 2000u);
  unmount();
  expect_clean();
}

TEST_F(NamesTest, AnUnmountWithOpenFilesIsRefused) {
  auto file = create("/f");
  EXPECT_EQ(fs_->unmount().code(), StatusCode::busy);
  file.reset();
  ASSERT_OK(fs_->unmount());
  EXPECT_EQ(fs_->stat("/f").error().code(), StatusCode::invalid_argument);
}

TEST_F(NamesTest, AReadOnlyMountWritesNothing) {
  write_file("/f", FileKind::log, pattern(1000, 1));
  unmount();
  const auto before = disk_->counters();
  mount({.mode = OpenMode::read_only});
  EXPECT_TRUE(fs_->read_only());
  EXPECT_EQ(read_file("/f"), pattern(1000, 1));
  EXPECT_EQ(fs_->create("/g", FileKind::table, {}).error().code(), StatusCode::read_only);
  EXPECT_EQ(fs_->remove("/f").code(), StatusCode::read_only);
  EXPECT_EQ(fs_->open("/f", OpenMode::read_write).error().code(), StatusCode::read_only);
  EXPECT_OK(fs_->sync_all());
  unmount();
  EXPECT_EQ(disk_->counters().writes, before.writes);
  EXPECT_TRUE(tail_files().empty());
}

}  // namespace
}  // namespace basalt
