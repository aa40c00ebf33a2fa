#include "fixture.h"

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>

namespace basalt {

namespace {

// Keeps expected warnings out of the test's output.
class QuietLog final : public LogSink {
 public:
  void log(LogLevel, std::string_view, std::string_view) override {}
};
QuietLog quiet_log;

}  // namespace

std::vector<std::byte> pattern(size_t length, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<std::byte> bytes(length);
  for (size_t i = 0; i < length; i += 8) {
    const uint64_t word = random();
    for (size_t j = i; j < std::min(length, i + 8); ++j) {
      bytes[j] = static_cast<std::byte>(word >> (8 * (j - i)));
    }
  }
  return bytes;
}

FsTest::FsTest() {
  const char* base = std::getenv("TMPDIR");
  std::string name = std::string(base != nullptr ? base : "/tmp") + "/basalt-blobfs-XXXXXX";
  if (::mkdtemp(name.data()) == nullptr) std::abort();
  shared_dir_ = name;
  new_context();
}

FsTest::~FsTest() {
  fs_.reset();
  context_.reset();
  std::filesystem::remove_all(shared_dir_);
}

void FsTest::new_context() {
  fs_.reset();
  ContextOptions options;
  options.log = &quiet_log;
  options.boot_id = boot_;
  options.shared_memory_dir = shared_dir_;
  auto context = Context::create(options);
  ASSERT_TRUE(context.has_value()) << context.error().to_string();
  context_ = std::move(*context);
}

void FsTest::make(const MemoryDiskOptions& disk, const FormatOptions& format) {
  fs_.reset();
  disk_ = std::make_unique<MemoryDisk>(disk);
  const auto device = disk_->open();
  ASSERT_OK(FileSystem::format(*context_, *device, format));
}

Status FsTest::try_mount(const MountOptions& options) {
  auto fs = FileSystem::mount(*context_, disk_->open(), options);
  if (!fs) return fs.error();
  fs_ = std::move(*fs);
  return {};
}

void FsTest::mount(const MountOptions& options) { ASSERT_OK(try_mount(options)); }

void FsTest::unmount() {
  if (!fs_) return;
  EXPECT_OK(fs_->unmount());
  fs_.reset();
}

bool FsTest::in_child(const std::function<void()>& body, const MountOptions& options) {
  fs_.reset();
  context_.reset();  // no threads while forking
  std::fflush(nullptr);
  const pid_t child = ::fork();
  if (child == 0) {
    // An exception must not lead the child back into the test program.
    struct Guard {
      ~Guard() { ::_exit(2); }
    } guard;
    new_context();
    if (kill_at_write_ != 0) {
      disk_->fail_if([left = kill_at_write_](const Io& io) mutable {
        if (io.op == Op::write && --left == 0) ::raise(SIGKILL);
        return false;
      });
    }
    mount(options);
    if (!HasFatalFailure()) body();
    die();
  }
  int state = 0;
  ::waitpid(child, &state, 0);
  new_context();
  const bool killed = WIFSIGNALED(state) && WTERMSIG(state) == SIGKILL;
  EXPECT_TRUE(killed) << "the child failed";
  return killed;
}

void FsTest::die() {
  std::fflush(nullptr);
  if (!HasFailure()) ::raise(SIGKILL);
  ::_exit(1);
}

void FsTest::expect_clean() {
  const auto device = disk_->open();
  const auto report = FileSystem::check(*context_, *device);
  ASSERT_TRUE(report.has_value()) << report.error().to_string();
  for (const std::string& problem : report->problems) ADD_FAILURE() << problem;
}

std::unique_ptr<File> FsTest::create(const std::string& path, FileKind kind,
                                     const CreateOptions& options) {
  auto file = fs_->create(path, kind, options);
  EXPECT_TRUE(file.has_value()) << file.error().to_string();
  return file ? std::move(*file) : nullptr;
}

std::unique_ptr<File> FsTest::open(const std::string& path, OpenMode mode) {
  auto file = fs_->open(path, mode);
  EXPECT_TRUE(file.has_value()) << file.error().to_string();
  return file ? std::move(*file) : nullptr;
}

void FsTest::write_file(const std::string& path, FileKind kind, std::span<const std::byte> bytes) {
  const auto file = create(path, kind);
  ASSERT_OK(file->append(bytes));
  ASSERT_OK(file->close());
}

std::vector<std::byte> FsTest::read_all(File& file) {
  std::vector<std::byte> bytes(file.size());
  const auto count = file.read(0, bytes);
  EXPECT_TRUE(count.has_value()) << count.error().to_string();
  EXPECT_EQ(count.value_or(0), bytes.size());
  return bytes;
}

std::vector<std::byte> FsTest::read_file(const std::string& path) {
  const auto file = open(path);
  return file ? read_all(*file) : std::vector<std::byte>{};
}

bool FsTest::has_note(const std::string& part) {
  for (const std::string& note : fs_->recovery_notes()) {
    if (note.find(part) != note.npos) return true;
  }
  return false;
}

uint64_t FsTest::find_block(uint64_t file_id, uint64_t position, uint32_t block_bytes) {
  uint64_t found = ~uint64_t{0};
  for (uint64_t at = 0; at < disk_->options().bytes; at += block_bytes) {
    const std::byte* block = disk_->contents() + at;
    uint64_t id = 0, where = 0;
    uint16_t version = 0;
    std::memcpy(&version, block + 6, 2);
    std::memcpy(&id, block + 8, 8);
    std::memcpy(&where, block + 16, 8);
    if (version == 1 && id == file_id && where == position) found = at;
  }
  return found;
}

std::vector<std::string> FsTest::tail_files() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(shared_dir_)) {
    names.push_back(entry.path());
  }
  return names;
}

}  // namespace basalt
