// Goal: URIs find, make and share mounts, and never touch what they were not told to.
// Method: real store files; several FileSystem objects, threads and processes on one of them.
#include <basalt/context.h>
#include <basalt/devices.h>
#include <rocksdb/convenience.h>
#include <sys/wait.h>

#include <fstream>
#include <thread>

#include "store_fixture.h"

namespace basalt::rocksdb_env {
namespace {

using rocksdb::Status;

Status try_open(const std::string& uri) {
  std::shared_ptr<rocksdb::FileSystem> fs;
  Status status = NewRocksdbFileSystem(uri, &fs);
  EXPECT_EQ(status.ok(), fs != nullptr);
  return status;
}

void put(rocksdb::FileSystem& fs, const std::string& name, const std::string& contents) {
  EXPECT_OK(rocksdb::WriteStringToFile(&fs, contents, name, true));
}

std::string get(rocksdb::FileSystem& fs, const std::string& name) {
  std::string contents;
  EXPECT_OK(rocksdb::ReadFileToString(&fs, name, &contents));
  return contents;
}

TEST(Mount, CreatesAFileOfTheSizeAsked) {
  const TempStore store("300M");
  store.open();
  EXPECT_EQ(std::filesystem::file_size(store.file()), 300u << 20);
}

TEST(Mount, CreateMakesAStoreInMemory) {
  std::shared_ptr<rocksdb::FileSystem> fs;
  ASSERT_OK(NewRocksdbFileSystem("basalt://ram:256M?create=256M", &fs));
  put(*fs, "/f", "in memory");
  EXPECT_EQ(get(*fs, "/f"), "in memory");
}

TEST(Mount, WithoutCreateAMissingFileIsAnError) {
  const TempStore store;
  const Status status = try_open("basalt://file:" + store.file());
  EXPECT_FALSE(status.ok());
  EXPECT_NE(status.ToString().find(store.file()), std::string::npos) << status.ToString();
  EXPECT_FALSE(std::filesystem::exists(store.file()));
}

TEST(Mount, CreateKeepsAStoreThatIsThere) {
  const TempStore store;
  put(*store.open(), "/f", "kept");
  EXPECT_EQ(get(*store.open(), "/f"), "kept");
  EXPECT_EQ(get(*store.open("&force=1"), "/f"), "kept") << "force is for foreign data only";
}

TEST(Mount, CreateRefusesForeignDataWithoutForce) {
  const TempStore store;
  const uint64_t size = 256 << 20;
  {
    std::ofstream file(store.file(), std::ios::binary);
    file.seekp(1024 + 56);
    file.write("\x53\xef", 2);  // the magic number of ext2/3/4, at its place in the superblock
  }
  std::filesystem::resize_file(store.file(), size);
  const Status refused = try_open(store.uri());
  EXPECT_FALSE(refused.ok());
  EXPECT_NE(refused.ToString().find("ext"), std::string::npos) << refused.ToString();
  std::ifstream file(store.file(), std::ios::binary);
  file.seekg(1024 + 56);
  EXPECT_EQ(file.get(), 0x53) << "nothing was written";
  EXPECT_OK(try_open(store.uri("&force=1")));
  EXPECT_OK(try_open(store.uri()));
}

TEST(Mount, ObjectsOfOneDeviceShareAMount) {
  const TempStore store;
  auto first = store.open();
  auto second = store.open("&cache=64M");
  put(*first, "/f", "shared");
  EXPECT_EQ(get(*second, "/f"), "shared");
  first.reset();
  EXPECT_EQ(get(*second, "/f"), "shared");
  const Status conflict = try_open(store.uri("&cache=1M"));
  EXPECT_TRUE(conflict.IsInvalidArgument()) << conflict.ToString();
  EXPECT_NE(conflict.ToString().find("cache"), std::string::npos) << conflict.ToString();
}

TEST(Mount, StoresAreSeparate) {
  const TempStore a;
  const TempStore b;
  auto fs_a = a.open();
  auto fs_b = b.open();
  put(*fs_a, "/f", "a");
  put(*fs_b, "/f", "b");
  EXPECT_EQ(get(*fs_a, "/f"), "a");
  EXPECT_EQ(get(*fs_b, "/f"), "b");
  std::unique_ptr<rocksdb::FSRandomAccessFile> file_a;
  std::unique_ptr<rocksdb::FSRandomAccessFile> file_b;
  EXPECT_OK(fs_a->NewRandomAccessFile("/f", rocksdb::FileOptions(), &file_a, nullptr));
  EXPECT_OK(fs_b->NewRandomAccessFile("/f", rocksdb::FileOptions(), &file_b, nullptr));
  std::string id_a(64, '\0');
  std::string id_b(64, '\0');
  EXPECT_GT(file_a->GetUniqueId(id_a.data(), id_a.size()), 0u);
  EXPECT_GT(file_b->GetUniqueId(id_b.data(), id_b.size()), 0u);
  EXPECT_NE(id_a, id_b);
}

TEST(Mount, OpensAndClosesRepeatedly) {
  const TempStore store("128M");
  for (int i = 0; i < 30; ++i) {
    auto fs = store.open();
    put(*fs, "/f" + std::to_string(i), std::to_string(i));
    for (int j = 0; j <= i; ++j) EXPECT_EQ(get(*fs, "/f" + std::to_string(j)), std::to_string(j));
  }
}

TEST(Mount, ThreadsOpenAndCloseAtWill) {
  const TempStore store("128M");
  store.open();
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 20; ++i) {
        auto fs = store.open();
        ASSERT_NE(fs, nullptr);
        put(*fs, "/t" + std::to_string(t), std::to_string(i));
        EXPECT_EQ(get(*fs, "/t" + std::to_string(t)), std::to_string(i));
      }
    });
  }
  for (auto& thread : threads) thread.join();
}

TEST(Mount, ReadOnlyReadsAndRefusesTheRest) {
  const TempStore store;
  put(*store.open(), "/f", "kept");
  const std::string uri = "basalt://file:" + store.file() + "?readonly=1";
  std::shared_ptr<rocksdb::FileSystem> fs;
  ASSERT_OK(NewRocksdbFileSystem(uri, &fs));
  EXPECT_EQ(get(*fs, "/f"), "kept");
  EXPECT_TRUE(rocksdb::WriteStringToFile(fs.get(), "x", "/g").IsIOError());
  EXPECT_TRUE(fs->DeleteFile("/f", rocksdb::IOOptions(), nullptr).IsIOError());
  EXPECT_EQ(get(*fs, "/f"), "kept");
  EXPECT_FALSE(try_open(store.uri("&readonly=0")).ok());
}

TEST(Mount, AnotherProcessIsToldWhoOwnsTheStore) {
  const TempStore store;
  auto fs = store.open();
  const std::string uri = store.uri();
  const std::string self = std::filesystem::read_symlink("/proc/self/exe");
  const std::string owner = std::to_string(::getpid());
  const std::string report = store.file() + ".report";
  ::setenv("BASALT_TEST_OPEN", uri.c_str(), 1);
  ::setenv("BASALT_TEST_REPORT", report.c_str(), 1);
  const int status = std::system((self + " --gtest_filter=MountChild.* > /dev/null 2>&1").c_str());
  ::unsetenv("BASALT_TEST_OPEN");
  ::unsetenv("BASALT_TEST_REPORT");
  ASSERT_TRUE(WIFEXITED(status));
  std::ifstream file(report);
  const std::string said((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  EXPECT_NE(said.find(owner), std::string::npos) << said;
  put(*fs, "/f", "unharmed");
  EXPECT_EQ(get(*fs, "/f"), "unharmed");
}

// The other process of the test above.
TEST(MountChild, Opens) {
  const char* uri = std::getenv("BASALT_TEST_OPEN");
  if (uri == nullptr) GTEST_SKIP() << "run by Mount.AnotherProcessIsToldWhoOwnsTheStore";
  const Status status = try_open(uri);
  EXPECT_FALSE(status.ok());
  std::ofstream(std::getenv("BASALT_TEST_REPORT")) << status.ToString();
}

TEST(Mount, UnknownKeysNameTheRightOnes) {
  const TempStore store;
  const Status status = try_open(store.uri("&cahce=1M"));
  EXPECT_TRUE(status.IsInvalidArgument()) << status.ToString();
  EXPECT_NE(status.ToString().find("cahce"), std::string::npos) << status.ToString();
  EXPECT_NE(status.ToString().find("metadata_cache"), std::string::npos) << status.ToString();
  EXPECT_FALSE(std::filesystem::exists(store.file()));
}

TEST(Mount, UnknownSchemesAreNamed) {
  const Status status = try_open("basalt://floppy:/dev/fd0");
  EXPECT_FALSE(status.ok());
  EXPECT_NE(status.ToString().find("floppy"), std::string::npos) << status.ToString();
}

TEST(Mount, RegisteredFactoriesMakeFileSystemsAndEnvs) {
  static const bool once = [] {
    RegisterRocksdbFactories();
    return true;
  }();
  ASSERT_TRUE(once);
  const TempStore store;
  rocksdb::ConfigOptions options;
  options.ignore_unsupported_options = false;
  std::shared_ptr<rocksdb::FileSystem> fs;
  ASSERT_OK(rocksdb::FileSystem::CreateFromString(options, store.uri(), &fs));
  EXPECT_STREQ(fs->Name(), "BasaltFileSystem");
  EXPECT_TRUE(fs->IsInstanceOf("basalt"));
  EXPECT_EQ(fs->GetId(), store.uri());
  put(*fs, "/f", "by name");
  rocksdb::Env* env = nullptr;
  std::shared_ptr<rocksdb::Env> guard;
  // "id=": an Env's text with a '=' in it is taken for options, unless it says what it is.
  ASSERT_OK(rocksdb::Env::CreateFromUri(options, "id=" + store.uri(), "", &env, &guard));
  EXPECT_OK(env->FileExists("/f"));
  EXPECT_TRUE(env->FileExists(store.file()).IsNotFound()) << "that is a name outside the store";
  std::shared_ptr<rocksdb::FileSystem> bad;
  const Status status =
      rocksdb::FileSystem::CreateFromString(options, "basalt://floppy:/dev/fd0", &bad);
  EXPECT_TRUE(status.IsInvalidArgument()) << status.ToString();
  EXPECT_NE(status.ToString().find("floppy"), std::string::npos) << status.ToString();
}

// The bug: the id stood bare in what ToString() answers, and RocksDB took everything in front of the
// URI's first '=' for the name of an option, so that no wrapper could be made again from its text.
TEST(Mount, TheOptionStringMakesTheSameAgain) {
  RegisterRocksdbFactories();
  const TempStore store;
  rocksdb::ConfigOptions options;
  options.ignore_unsupported_options = false;
  const auto fs = store.open();
  put(*fs, "/f", "the same");
  std::shared_ptr<rocksdb::FileSystem> copy;
  ASSERT_OK(rocksdb::FileSystem::CreateFromString(options, fs->ToString(options), &copy));
  EXPECT_EQ(copy->GetId(), store.uri());
  EXPECT_EQ(get(*copy, "/f"), "the same");
  std::string mismatch;
  EXPECT_TRUE(fs->AreEquivalent(options, copy.get(), &mismatch)) << mismatch;

  const std::unique_ptr<rocksdb::Env> env = rocksdb::NewCompositeEnv(fs);
  rocksdb::Env* again = rocksdb::Env::Default();
  std::shared_ptr<rocksdb::Env> guard;
  ASSERT_OK(rocksdb::Env::CreateFromString(options, env->ToString(options), &again, &guard));
  EXPECT_OK(again->FileExists("/f"));
}

TEST(Mount, OverAStoreMountedByTheCaller) {
  auto context = Context::create();
  ASSERT_TRUE(context);
  register_standard_schemes(**context);
  auto device = open_device(**context, "ram:256M");
  ASSERT_TRUE(device) << device.error().to_string();
  ASSERT_TRUE(FileSystem::format(**context, **device, {}).ok());
  auto mounted = FileSystem::mount(**context, std::move(*device), {});
  ASSERT_TRUE(mounted) << mounted.error().to_string();
  std::shared_ptr<FileSystem> shared = std::move(*mounted);
  auto fs = NewRocksdbFileSystem(shared, "mine");
  EXPECT_EQ(fs->GetId(), "mine");
  put(*fs, "/f", "seen by both");
  EXPECT_TRUE(shared->stat("/f"));
}

}  // namespace
}  // namespace basalt::rocksdb_env
