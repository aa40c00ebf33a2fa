// Goal: names and directories answer RocksDB as its contract says, down to the kind of "not there".
// Method: each call against a fresh store, its success and each of its failures.
#include <algorithm>
#include <ctime>

#include "store_fixture.h"

namespace basalt::rocksdb_env {
namespace {

using rocksdb::IOStatus;

class DirectoryTest : public StoreTest {
 protected:
  std::vector<std::string> children(const std::string& directory, bool files_only = false) {
    rocksdb::IOOptions options;
    options.do_not_recurse = files_only;
    std::vector<std::string> names = {"left over"};
    EXPECT_OK(fs_->GetChildren(directory, options, &names, nullptr));
    std::sort(names.begin(), names.end());
    return names;
  }
  bool exists(const std::string& name) {
    IOStatus status = fs_->FileExists(name, io_, nullptr);
    EXPECT_TRUE(status.ok() || status.IsNotFound()) << status.ToString();
    return status.ok();
  }
};

using Names = std::vector<std::string>;

TEST_F(DirectoryTest, FileExistsTellsNotFoundFromOk) {
  ASSERT_OK(fs_->CreateDir("/d", io_, nullptr));
  write_file("/d/f", "x");
  EXPECT_OK(fs_->FileExists("/", io_, nullptr));
  EXPECT_OK(fs_->FileExists("/d", io_, nullptr));
  EXPECT_OK(fs_->FileExists("/d/", io_, nullptr));
  EXPECT_OK(fs_->FileExists("/d/f", io_, nullptr));
  EXPECT_OK(fs_->FileExists("d//./f", io_, nullptr));
  EXPECT_OK(fs_->FileExists("/d/../d/f", io_, nullptr));
  EXPECT_TRUE(fs_->FileExists("/nothing", io_, nullptr).IsNotFound());
  EXPECT_TRUE(fs_->FileExists("/nothing/f", io_, nullptr).IsNotFound());
  EXPECT_TRUE(fs_->FileExists("/d/f/g", io_, nullptr).IsNotFound());
}

TEST_F(DirectoryTest, GetChildrenListsNames) {
  ASSERT_OK(fs_->CreateDir("/d", io_, nullptr));
  EXPECT_EQ(children("/d"), Names{});
  write_file("/d/b", "1");
  write_file("/d/a", "22");
  ASSERT_OK(fs_->CreateDir("/d/sub", io_, nullptr));
  write_file("/d/sub/deep", "3");
  EXPECT_EQ(children("/d"), (Names{"a", "b", "sub"}));
  EXPECT_EQ(children("/d/"), (Names{"a", "b", "sub"}));
  EXPECT_EQ(children("/d", true), (Names{"a", "b"}));
  EXPECT_EQ(children("/"), (Names{"d"}));
  Names names;
  EXPECT_TRUE(fs_->GetChildren("/nothing", io_, &names, nullptr).IsNotFound());
  EXPECT_FALSE(fs_->GetChildren("/d/a", io_, &names, nullptr).ok());
}

TEST_F(DirectoryTest, GetChildrenFileAttributesGivesSizes) {
  ASSERT_OK(fs_->CreateDir("/d", io_, nullptr));
  write_file("/d/a", "four");
  write_file("/d/empty", "");
  std::vector<rocksdb::FileAttributes> attributes;
  ASSERT_OK(fs_->GetChildrenFileAttributes("/d", io_, &attributes, nullptr));
  ASSERT_EQ(attributes.size(), 2u);
  for (const auto& a : attributes) EXPECT_EQ(a.size_bytes, a.name == "a" ? 4u : 0u) << a.name;
  EXPECT_TRUE(fs_->GetChildrenFileAttributes("/no", io_, &attributes, nullptr).IsNotFound());
}

TEST_F(DirectoryTest, CreateDirFailsOnWhatExists) {
  ASSERT_OK(fs_->CreateDir("/d", io_, nullptr));
  EXPECT_TRUE(fs_->CreateDir("/d", io_, nullptr).IsIOError());
  EXPECT_OK(fs_->CreateDirIfMissing("/d", io_, nullptr));
  EXPECT_OK(fs_->CreateDirIfMissing("/", io_, nullptr));
  write_file("/d/f", "x");
  EXPECT_TRUE(fs_->CreateDir("/d/f", io_, nullptr).IsIOError());
  EXPECT_TRUE(fs_->CreateDirIfMissing("/d/f", io_, nullptr).IsIOError());
  EXPECT_TRUE(fs_->CreateDirIfMissing("/d/f/g", io_, nullptr).IsIOError());
}

TEST_F(DirectoryTest, CreateDirMakesParents) {
  EXPECT_OK(fs_->CreateDirIfMissing("/a/b/c", io_, nullptr));
  EXPECT_EQ(children("/a/b"), Names{"c"});
  EXPECT_OK(fs_->CreateDir("/x/y", io_, nullptr));
  EXPECT_TRUE(exists("/x/y"));
}

TEST_F(DirectoryTest, DeleteDirWantsItEmpty) {
  ASSERT_OK(fs_->CreateDir("/d", io_, nullptr));
  write_file("/d/f", "x");
  EXPECT_TRUE(fs_->DeleteDir("/d", io_, nullptr).IsIOError());
  EXPECT_TRUE(exists("/d/f"));
  ASSERT_OK(fs_->DeleteFile("/d/f", io_, nullptr));
  EXPECT_OK(fs_->DeleteDir("/d", io_, nullptr));
  EXPECT_FALSE(exists("/d"));
  EXPECT_TRUE(fs_->DeleteDir("/d", io_, nullptr).IsPathNotFound());
  write_file("/f", "x");
  EXPECT_TRUE(fs_->DeleteDir("/f", io_, nullptr).IsIOError());
  EXPECT_TRUE(exists("/f"));
}

TEST_F(DirectoryTest, IsDirectory) {
  write_file("/f", "x");
  bool is_directory = false;
  EXPECT_OK(fs_->IsDirectory("/", io_, &is_directory, nullptr));
  EXPECT_TRUE(is_directory);
  EXPECT_OK(fs_->IsDirectory("/f", io_, &is_directory, nullptr));
  EXPECT_FALSE(is_directory);
  EXPECT_TRUE(fs_->IsDirectory("/no", io_, &is_directory, nullptr).IsPathNotFound());
}

TEST_F(DirectoryTest, DeleteFileTellsPathNotFound) {
  EXPECT_TRUE(fs_->DeleteFile("/no", io_, nullptr).IsPathNotFound());
  ASSERT_OK(fs_->CreateDir("/d", io_, nullptr));
  EXPECT_TRUE(fs_->DeleteFile("/d", io_, nullptr).IsIOError());
  EXPECT_TRUE(exists("/d"));
}

TEST_F(DirectoryTest, RenameReplacesAFileAtomically) {
  write_file("/CURRENT", "old");
  write_file("/tmp", "new");
  ASSERT_OK(fs_->RenameFile("/tmp", "/CURRENT", io_, nullptr));
  EXPECT_EQ(read_file("/CURRENT"), "new");
  EXPECT_FALSE(exists("/tmp"));
  EXPECT_TRUE(fs_->RenameFile("/no", "/x", io_, nullptr).IsPathNotFound());
  EXPECT_TRUE(fs_->RenameFile("/CURRENT", "/no/x", io_, nullptr).IsPathNotFound());
  EXPECT_OK(fs_->RenameFile("/CURRENT", "/CURRENT", io_, nullptr));
  EXPECT_EQ(read_file("/CURRENT"), "new");
}

TEST_F(DirectoryTest, RenameMovesTrees) {
  ASSERT_OK(fs_->CreateDirIfMissing("/a.tmp/private/1", io_, nullptr));
  write_file("/a.tmp/private/1/f", "kept");
  ASSERT_OK(fs_->RenameFile("/a.tmp", "/a", io_, nullptr));
  EXPECT_EQ(read_file("/a/private/1/f"), "kept");
  EXPECT_FALSE(exists("/a.tmp"));
  EXPECT_FALSE(fs_->RenameFile("/a", "/a/private/below", io_, nullptr).ok());
  EXPECT_EQ(read_file("/a/private/1/f"), "kept");
}

TEST_F(DirectoryTest, OpenHandlesFollowARename) {
  std::unique_ptr<rocksdb::FSWritableFile> file;
  ASSERT_OK(fs_->NewWritableFile("/LOG", file_options_, &file, nullptr));
  ASSERT_OK(file->Append("before ", io_, nullptr));
  ASSERT_OK(fs_->RenameFile("/LOG", "/LOG.old.1", io_, nullptr));
  ASSERT_OK(file->Append("after", io_, nullptr));
  ASSERT_OK(file->Close(io_, nullptr));
  EXPECT_EQ(read_file("/LOG.old.1"), "before after");
}

TEST_F(DirectoryTest, LinksShareOneFile) {
  write_file("/db.sst", "data");
  ASSERT_OK(fs_->CreateDir("/checkpoint", io_, nullptr));
  uint64_t count = 0;
  ASSERT_OK(fs_->NumFileLinks("/db.sst", io_, &count, nullptr));
  EXPECT_EQ(count, 1u);
  ASSERT_OK(fs_->LinkFile("/db.sst", "/checkpoint/db.sst", io_, nullptr));
  ASSERT_OK(fs_->NumFileLinks("/db.sst", io_, &count, nullptr));
  EXPECT_EQ(count, 2u);
  bool same = false;
  ASSERT_OK(fs_->AreFilesSame("/db.sst", "/checkpoint/db.sst", io_, &same, nullptr));
  EXPECT_TRUE(same);
  write_file("/other", "data");
  ASSERT_OK(fs_->AreFilesSame("/db.sst", "/other", io_, &same, nullptr));
  EXPECT_FALSE(same);
  EXPECT_FALSE(fs_->AreFilesSame("/db.sst", "/no", io_, &same, nullptr).ok());
  EXPECT_FALSE(fs_->LinkFile("/db.sst", "/other", io_, nullptr).ok());
  EXPECT_TRUE(fs_->LinkFile("/no", "/x", io_, nullptr).IsPathNotFound());
  ASSERT_OK(fs_->DeleteFile("/db.sst", io_, nullptr));
  EXPECT_EQ(read_file("/checkpoint/db.sst"), "data");
}

TEST_F(DirectoryTest, ANewFileLeavesLinksOfTheOldAlone) {
  write_file("/f", "old");
  ASSERT_OK(fs_->LinkFile("/f", "/kept", io_, nullptr));
  write_file("/f", "new contents");
  EXPECT_EQ(read_file("/kept"), "old");
  EXPECT_EQ(read_file("/f"), "new contents");
}

TEST_F(DirectoryTest, SizeAndTimeAreReal) {
  const auto before = static_cast<uint64_t>(std::time(nullptr));
  write_file("/f", std::string(12345, 'x'));
  uint64_t size = 0;
  ASSERT_OK(fs_->GetFileSize("/f", io_, &size, nullptr));
  EXPECT_EQ(size, 12345u);
  EXPECT_TRUE(fs_->GetFileSize("/no", io_, &size, nullptr).IsPathNotFound());
  uint64_t seconds = 0;
  ASSERT_OK(fs_->GetFileModificationTime("/f", io_, &seconds, nullptr));
  EXPECT_GE(seconds + 1, before);
  EXPECT_LE(seconds, static_cast<uint64_t>(std::time(nullptr)) + 1);
  ASSERT_OK(fs_->CreateDir("/d", io_, nullptr));
  ASSERT_OK(fs_->GetFileModificationTime("/d", io_, &seconds, nullptr));
  EXPECT_GE(seconds + 1, before);
  EXPECT_TRUE(fs_->GetFileModificationTime("/no", io_, &seconds, nullptr).IsPathNotFound());
}

TEST_F(DirectoryTest, TruncateByName) {
  write_file("/f", "0123456789");
  ASSERT_OK(fs_->Truncate("/f", 4, io_, nullptr));
  EXPECT_EQ(read_file("/f"), "0123");
  EXPECT_TRUE(fs_->Truncate("/no", 4, io_, nullptr).IsPathNotFound());
}

TEST_F(DirectoryTest, LockIsExclusive) {
  rocksdb::FileLock* first = nullptr;
  ASSERT_OK(fs_->LockFile("/LOCK", io_, &first, nullptr));
  EXPECT_TRUE(exists("/LOCK"));
  rocksdb::FileLock* second = nullptr;
  IOStatus refused = fs_->LockFile("/LOCK", io_, &second, nullptr);
  EXPECT_TRUE(refused.IsIOError());
  EXPECT_NE(refused.ToString().find("lock "), std::string::npos) << refused.ToString();
  EXPECT_EQ(second, nullptr);
  auto other = store_.open();  // another FileSystem object, the same mount
  EXPECT_FALSE(other->LockFile("/./LOCK", io_, &second, nullptr).ok());
  ASSERT_OK(fs_->UnlockFile(first, io_, nullptr));
  ASSERT_OK(other->LockFile("/LOCK", io_, &second, nullptr));
  ASSERT_OK(other->UnlockFile(second, io_, nullptr));
  EXPECT_FALSE(fs_->LockFile("/no/LOCK", io_, &first, nullptr).ok());
}

TEST_F(DirectoryTest, DirectoryFsync) {
  ASSERT_OK(fs_->CreateDir("/d", io_, nullptr));
  std::unique_ptr<rocksdb::FSDirectory> directory;
  ASSERT_OK(fs_->NewDirectory("/d", io_, &directory, nullptr));
  write_file("/d/f", "x");
  EXPECT_OK(directory->Fsync(io_, nullptr));
  rocksdb::DirFsyncOptions reason(std::string("f"));
  EXPECT_OK(directory->FsyncWithDirOptions(io_, nullptr, reason));
  ASSERT_OK(fs_->RenameFile("/d", "/e", io_, nullptr));
  EXPECT_OK(directory->Fsync(io_, nullptr)) << "a directory renamed meanwhile";
  EXPECT_OK(directory->Close(io_, nullptr));
  EXPECT_TRUE(fs_->NewDirectory("/no", io_, &directory, nullptr).IsPathNotFound());
  EXPECT_EQ(directory, nullptr);
  EXPECT_FALSE(fs_->NewDirectory("/e/f", io_, &directory, nullptr).ok());
}

TEST_F(DirectoryTest, FreeSpaceShrinksAndComesBack) {
  uint64_t before = 0;
  ASSERT_OK(fs_->GetFreeSpace("/", io_, &before, nullptr));
  EXPECT_GT(before, uint64_t{512} << 20);
  write_file("/big", std::string(32 << 20, 'x'));
  uint64_t during = 0;
  ASSERT_OK(fs_->GetFreeSpace("/", io_, &during, nullptr));
  EXPECT_LE(during + (uint64_t{32} << 20), before);
}

TEST_F(DirectoryTest, AbsolutePathAndTestDirectory) {
  std::string path;
  ASSERT_OK(fs_->GetAbsolutePath("/db/x", io_, &path, nullptr));
  EXPECT_EQ(path, "/db/x");
  ASSERT_OK(fs_->GetAbsolutePath("db", io_, &path, nullptr));
  EXPECT_EQ(path, "/db");
  std::string first;
  std::string second;
  ASSERT_OK(fs_->GetTestDirectory(io_, &first, nullptr));
  ASSERT_OK(fs_->GetTestDirectory(io_, &second, nullptr));
  EXPECT_EQ(first, second);
  EXPECT_TRUE(exists(first));
}

TEST_F(DirectoryTest, NamesSurviveAnUnmount) {
  ASSERT_OK(fs_->CreateDirIfMissing("/a/b", io_, nullptr));
  write_file("/a/b/f", "kept");
  reopen();
  EXPECT_EQ(read_file("/a/b/f"), "kept");
}

TEST_F(DirectoryTest, LimitsOfNames) {
  const std::string longest(255, 'n');
  write_file("/" + longest, "x");
  EXPECT_EQ(read_file("/" + longest), "x");
  std::unique_ptr<rocksdb::FSWritableFile> file;
  EXPECT_FALSE(fs_->NewWritableFile("/" + longest + "n", file_options_, &file, nullptr).ok());
  EXPECT_EQ(file, nullptr);
}

}  // namespace
}  // namespace basalt::rocksdb_env
