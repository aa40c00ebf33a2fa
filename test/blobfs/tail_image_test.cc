// The shared-memory tail as a file: what is published is found, what is released is not, whatever binds it
// must match, and damaged or hostile content is refused or left out, never believed.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <utility>

#include "base/crc32c.h"
#include "blobfs/append_tail.h"
#include "blobfs/tail_replay.h"

namespace basalt::blobfs {
namespace {

std::vector<std::byte> bytes_of(const std::string& text) {
  std::vector<std::byte> bytes(text.size());
  std::memcpy(bytes.data(), text.data(), text.size());
  return bytes;
}

class TailTest : public ::testing::Test {
 protected:
  TailTest() {
    std::string name = "/tmp/basalt-tail-XXXXXX";
    dir_ = own_dir_ = ::mkdtemp(name.data());
    binding_.store_uuid.fill(std::byte{1});
    binding_.open_id.fill(std::byte{2});
    binding_.boot_id = "01234567-89ab-cdef-0123-456789abcdef";
  }
  ~TailTest() override { std::filesystem::remove_all(own_dir_); }
  std::unique_ptr<SharedTail> create(uint64_t bytes = kMinTailBytes) {
    auto tail = SharedTail::create(dir_, binding_, bytes);
    EXPECT_TRUE(tail.has_value()) << tail.error().to_string();
    return std::move(*tail);
  }
  std::vector<std::byte> content() {
    std::ifstream file(tail_path(dir_, binding_), std::ios::binary);
    const std::string text((std::istreambuf_iterator<char>(file)), {});
    return bytes_of(text);
  }
  static StatusCode code_of(const Result<TailImage>& image) {
    return image ? StatusCode::ok : image.error().code();
  }
  StatusCode parsed(const TailBinding& wanted) {
    return code_of(TailImage::parse(content(), wanted));
  }
  StatusCode loaded() { return code_of(TailImage::load(dir_, binding_)); }
  std::string own_dir_;
  std::string dir_;  // where tails are
  TailBinding binding_;
};

TEST_F(TailTest, WhatWasPublishedIsFound) {
  {
    const auto tail = create();
    EXPECT_TRUE(tail->keep(blob::Ticket{5}, bytes_of("five")));
    EXPECT_TRUE(tail->keep(blob::Ticket{6}, bytes_of("number six")));
    const auto slot = tail->acquire(77, 4096, {});
    ASSERT_TRUE(slot.has_value());
    std::memcpy(tail->bytes(*slot), "hello world", 11);
    tail->publish(*slot, 4096 + 5);
    const auto gone = tail->acquire(78, 0, {});
    tail->publish(*gone, 10);
    tail->release(*gone);
    tail->acquire(79, 0, {});  // holds nothing
  }
  const auto image = TailImage::load(dir_, binding_);
  ASSERT_TRUE(image.has_value()) << image.error().to_string();
  ASSERT_EQ(image->transactions().size(), 2u);
  EXPECT_EQ(image->transactions()[0].ticket, 5u);
  EXPECT_EQ(image->transactions()[1].bytes, bytes_of("number six"));
  ASSERT_EQ(image->chunks().size(), 1u);
  EXPECT_EQ(image->chunks()[0].file_id, 77u);
  EXPECT_EQ(image->chunks()[0].offset, 4096u);
  EXPECT_TRUE(std::ranges::equal(image->chunks()[0].bytes, bytes_of("hello")));
  EXPECT_TRUE(image->notes().empty());
  EXPECT_FALSE(image->predecessor().has_value());
}

TEST_F(TailTest, TheRingWrapsAndForgetsWhatIsDurable) {
  const auto tail = create();
  uint64_t ticket = 0, refused = 0;
  std::vector<std::byte> bytes(1000);
  for (int i = 0; i < 5000; ++i) {
    ++ticket;
    std::fill(bytes.begin(), bytes.end(), static_cast<std::byte>(ticket));
    bytes.resize(900 + ticket % 200);
    if (!tail->keep(blob::Ticket{ticket}, bytes)) {
      ++refused;
      tail->durable(blob::Ticket{ticket});  // as the store does: commits and goes on
    }
  }
  EXPECT_GT(refused, 5u);
  const auto image = TailImage::parse(content(), binding_);
  ASSERT_TRUE(image.has_value());
  ASSERT_FALSE(image->transactions().empty());
  EXPECT_EQ(image->transactions().back().ticket, ticket);
  for (size_t i = 1; i < image->transactions().size(); ++i) {
    EXPECT_EQ(image->transactions()[i].ticket, image->transactions()[i - 1].ticket + 1);
  }
}

TEST_F(TailTest, TheBindingMustMatchInEverything) {
  create();
  TailBinding other = binding_;
  other.store_uuid[0] = std::byte{9};
  EXPECT_EQ(parsed(other), StatusCode::miscompare);
  other = binding_;
  other.open_id[15] = std::byte{9};
  EXPECT_EQ(parsed(other), StatusCode::miscompare);
  other = binding_;
  other.boot_id.back() = 'x';
  EXPECT_EQ(parsed(other), StatusCode::miscompare);
  other.boot_id.pop_back();
  EXPECT_EQ(parsed(other), StatusCode::miscompare) << "a prefix";
  EXPECT_EQ(parsed(binding_), StatusCode::ok);
  EXPECT_EQ(code_of(TailImage::load(dir_ + "/none", binding_)), StatusCode::not_found);
}

// One field at a time; the checksum put right, but where it is what should tell.
TEST_F(TailTest, AForgedHeaderIsRefused) {
  create();
  const auto good = content();
  enum class Checksum : uint8_t { right, as_it_was };
  const auto forged = [&](auto&& change, Checksum checksum = Checksum::right) {
    auto bytes = good;
    TailHeader header;
    std::memcpy(&header, bytes.data(), sizeof header);
    change(header);
    if (checksum == Checksum::right) {
      header.crc =
          crc32c(std::as_bytes(std::span(&header, 1)).subspan(offsetof(TailHeader, version)));
    }
    std::memcpy(bytes.data(), &header, sizeof header);
    return code_of(TailImage::parse(bytes, binding_));
  };
  EXPECT_EQ(forged([](auto&) {}), StatusCode::ok);
  EXPECT_EQ(forged([](auto& h) { h.magic[0] = 'X'; }), StatusCode::corruption);
  EXPECT_EQ(forged([](auto& h) { h.predecessor[0] = std::byte{1}; }, Checksum::as_it_was),
            StatusCode::corruption);
  EXPECT_EQ(forged([](auto& h) { h.version = kTailVersion + 1; }), StatusCode::unsupported);
  EXPECT_EQ(forged([](auto& h) { h.version = 0; }), StatusCode::unsupported);
  EXPECT_EQ(forged([](auto& h) { h.file_bytes = h.file_bytes + 1; }), StatusCode::corruption);
  EXPECT_EQ(forged([](auto& h) { h.ring_offset = h.ring_offset + 1; }), StatusCode::corruption);
  EXPECT_EQ(forged([](auto& h) { h.ring_bytes = h.ring_bytes + 1; }), StatusCode::corruption);
  EXPECT_EQ(forged([](auto& h) { h.table_offset = h.table_offset + 1; }), StatusCode::corruption);
  EXPECT_EQ(forged([](auto& h) { h.chunk_count = h.chunk_count + 1; }), StatusCode::corruption);
  EXPECT_EQ(forged([](auto& h) { h.chunks_offset = h.chunks_offset + 1; }), StatusCode::corruption);
  EXPECT_EQ(forged([](auto& h) { h.chunk_bytes = h.chunk_bytes + 1; }), StatusCode::corruption);
}

// Version 1 had its chunks wherever the table ended, and at first without a check.
TEST_F(TailTest, TheFirstVersionIsReplayed) {
  constexpr uint64_t kBytes = uint64_t{64} << 20;
  const TailLayout layout = tail_layout(kBytes, 1);
  ASSERT_NE(layout.chunks_offset, tail_layout(kBytes).chunks_offset);
  std::vector<std::byte> bytes(kBytes);
  TailHeader header = make_tail_header(binding_, layout);
  header.version = 1;
  header.crc = crc32c(std::as_bytes(std::span(&header, 1)).subspan(offsetof(TailHeader, version)));
  std::memcpy(bytes.data(), &header, sizeof header);
  const std::array<TailChunkEntry, 2> entries{
      TailChunkEntry{.file_id = 5, .offset = 0, .end = 3, .check = chunk_check(5, 0)},
      TailChunkEntry{.file_id = 6, .offset = 0, .end = 3, .check = 0}};
  std::memcpy(bytes.data() + layout.table_offset, entries.data(), sizeof entries);
  std::memcpy(bytes.data() + layout.chunks_offset, "abc", 3);
  std::memcpy(bytes.data() + layout.chunks_offset + kTailChunkBytes, "xyz", 3);
  const auto image = TailImage::parse(bytes, binding_);
  ASSERT_TRUE(image) << image.error().to_string();
  ASSERT_EQ(image->chunks().size(), 2u);
  EXPECT_TRUE(std::ranges::equal(image->chunks()[0].bytes, bytes_of("abc")));
  EXPECT_TRUE(std::ranges::equal(image->chunks()[1].bytes, bytes_of("xyz")));
}

TEST_F(TailTest, APredecessorIsNamedUntilItIsForgotten) {
  binding_.predecessor.fill(std::byte{7});
  const auto tail = create();
  EXPECT_EQ(TailImage::parse(content(), binding_)->predecessor(), binding_.predecessor);
  tail->forget_predecessor();
  EXPECT_FALSE(TailImage::parse(content(), binding_)->predecessor().has_value());
}

TEST_F(TailTest, ALivingOwnerKeepsItsTail) {
  const auto tail = create();
  EXPECT_EQ(loaded(), StatusCode::busy);
  EXPECT_EQ(SharedTail::create(dir_, binding_, kMinTailBytes).error().code(),
            StatusCode::already_exists);
}

TEST_F(TailTest, OnlyAFileOfOursIsRead) {
  create();
  const std::string path = tail_path(dir_, binding_);
  struct stat info {};
  ASSERT_EQ(::stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  ::chmod(path.c_str(), 0644);
  EXPECT_EQ(loaded(), StatusCode::permission_denied);
  ::chmod(path.c_str(), 0600);
  ASSERT_EQ(::link(path.c_str(), (dir_ + "/second").c_str()), 0);
  EXPECT_EQ(loaded(), StatusCode::permission_denied);
  ::unlink(path.c_str());
  ASSERT_EQ(::symlink((dir_ + "/second").c_str(), path.c_str()), 0);
  EXPECT_EQ(loaded(), StatusCode::permission_denied);
  EXPECT_FALSE(SharedTail::create(dir_, binding_, kMinTailBytes).has_value())
      << "no following of links";
}

TEST_F(TailTest, SizesHaveBounds) {
  EXPECT_EQ(SharedTail::create(dir_, binding_, 1000).error().code(), StatusCode::invalid_argument);
  EXPECT_EQ(SharedTail::create(dir_ + "/none", binding_, kMinTailBytes).error().code(),
            StatusCode::not_found);
  for (const uint64_t bytes : {kMinTailBytes, kMinTailBytes + 5000, uint64_t{32} << 20}) {
    const TailLayout layout = tail_layout(bytes);
    EXPECT_GT(layout.chunk_count, 0u);
    EXPECT_LE(layout.chunks_offset + layout.chunk_count * kTailChunkBytes, bytes);
    EXPECT_LE(layout.table_offset + layout.chunk_count * sizeof(TailChunkEntry),
              layout.chunks_offset);
  }
}

// Kilobytes of shared memory that large pages map in the mapping that `byte` lies in.
uint64_t large_kilobytes_at(const std::byte* byte) {
  std::ifstream maps("/proc/self/smaps");
  const auto address = reinterpret_cast<uintptr_t>(byte);
  bool here = false;
  for (std::string line; std::getline(maps, line);) {
    uint64_t begin = 0, end = 0;
    if (std::sscanf(line.c_str(), "%" SCNx64 "-%" SCNx64 " ", &begin, &end) == 2) {
      here = address >= begin && address < end;
    }
    uint64_t kilobytes = 0;
    if (here && std::sscanf(line.c_str(), "ShmemPmdMapped: %" SCNu64, &kilobytes) == 1) {
      return kilobytes;
    }
  }
  return 0;
}

// Whether the kernel makes a large page of a small one of shared memory.
bool has_large_shared_pages() {
  constexpr int kCollapse = 25;  // MADV_COLLAPSE
  const int fd = ::memfd_create("probe", MFD_CLOEXEC);
  EXPECT_EQ(::ftruncate(fd, 2 * kTailLargePage), 0);
  void* memory = ::mmap(nullptr, 2 * kTailLargePage, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  EXPECT_NE(memory, MAP_FAILED);
  auto* const begin = static_cast<std::byte*>(memory);
  const uint64_t before = -reinterpret_cast<uintptr_t>(begin) % kTailLargePage;
  // The large page that begins the file, where the file may be mapped at its multiple.
  void* at =
      ::mmap(begin + before, kTailLargePage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
  *static_cast<std::byte*>(at) = std::byte{1};
  const bool made = ::madvise(at, kTailLargePage, kCollapse) == 0;
  ::munmap(memory, 2 * kTailLargePage);
  ::close(fd);
  return made;
}

// Runs what was posted when told to.
struct ManualExecutor final : Executor {
  void post(BackgroundTask& task, Duration) override { posted = &task; }
  void cancel(BackgroundTask&) override { posted = nullptr; }
  bool run() {
    if (posted == nullptr) return false;
    std::exchange(posted, nullptr)->run();
    return true;
  }
  BackgroundTask* posted = nullptr;
};

// Bytes of the file that have pages.
uint64_t reserved_bytes(const SharedTail& tail) {
  struct stat info {};
  EXPECT_EQ(::stat(tail.path().c_str(), &info), 0);
  return static_cast<uint64_t>(info.st_blocks) * 512;
}

TEST_F(TailTest, ReservesAheadOfNeedInLargePagesWhereTheKernelHasThem) {
  constexpr uint64_t kBytes = uint64_t{96} << 20;
  if (std::filesystem::space("/dev/shm").available < 2 * kBytes) GTEST_SKIP() << "small /dev/shm";
  const bool has_large = has_large_shared_pages();
  std::string name = "/dev/shm/basalt-tail-test-XXXXXX";
  dir_ = ::mkdtemp(name.data());
  ManualExecutor executor;
  {
    auto created = SharedTail::create(dir_, binding_, kBytes, nullptr, &executor);
    ASSERT_TRUE(created) << created.error().to_string();
    SharedTail& tail = **created;
    const auto large_bytes = [&] { return 1024 * large_kilobytes_at(tail.bytes(0)); };
    EXPECT_EQ(reserved_bytes(tail), SharedTail::kFirstBytes);
    // The kernel may find none for a part of it.
    EXPECT_GE(2 * large_bytes(), has_large ? SharedTail::kFirstBytes : 0);
    while (executor.posted == nullptr) ASSERT_TRUE(tail.acquire(5, 0, {}));
    EXPECT_EQ(reserved_bytes(tail), SharedTail::kFirstBytes) << "before anybody needs it";
    while (executor.run() && tail.acquire(5, 0, {})) {
      while (executor.posted == nullptr && tail.acquire(5, 0, {})) {
      }
    }
    EXPECT_EQ(reserved_bytes(tail), kBytes);
    EXPECT_GE(2 * large_bytes(), has_large ? kBytes : 0);
    while (tail.acquire(5, 0, {})) {
    }
    EXPECT_EQ(tail.free_chunks(), 0u);
    EXPECT_EQ(executor.posted, nullptr) << "nothing is left to reserve";
  }
  std::filesystem::remove_all(dir_);
}

// Where the executor has not come to it, who needs a chunk gets one.
TEST_F(TailTest, DoesNotWaitForTheExecutor) {
  ManualExecutor executor;
  auto tail = SharedTail::create(dir_, binding_, uint64_t{64} << 20, nullptr, &executor);
  ASSERT_TRUE(tail) << tail.error().to_string();
  uint64_t taken = 0;
  while ((*tail)->acquire(5, 0, {})) ++taken;
  EXPECT_EQ(taken, (*tail)->chunk_count());
  EXPECT_TRUE(executor.run()) << "posted at the first; there is nothing left to reserve";
  EXPECT_EQ((*tail)->free_chunks(), 0u);
}

TEST_F(TailTest, ChunksRunOutAndComeBack) {
  const auto tail = create();
  std::vector<SharedTail::Slot> slots;
  while (const auto slot = tail->acquire(5, 0, {})) slots.push_back(*slot);
  EXPECT_EQ(slots.size(), tail->chunk_count());
  std::sort(slots.begin(), slots.end());
  EXPECT_EQ(std::unique(slots.begin(), slots.end()), slots.end());
  EXPECT_EQ(tail->free_chunks(), 0u);
  tail->release(slots[3]);
  EXPECT_EQ(tail->acquire(5, 0, {}), slots[3]);
}

TEST_F(TailTest, MemoryIsTakenAsItIsNeeded) {
  const auto tail = create(uint64_t{64} << 20);
  const auto used = [&] { return reserved_bytes(*tail); };
  EXPECT_LE(used(), SharedTail::kFirstBytes + (1 << 20));
  EXPECT_FALSE(tail->is_crowded());
  uint64_t taken = 0;
  for (; const auto slot = tail->acquire(5, taken * kTailChunkBytes, {}); ++taken) {
    std::memset(tail->bytes(*slot), 7, kTailChunkBytes);
    tail->publish(*slot, (taken + 1) * kTailChunkBytes);
    EXPECT_EQ(tail->is_crowded(), tail->free_chunks() < tail->chunk_count() / 4);
  }
  EXPECT_EQ(taken, tail->chunk_count());
  EXPECT_TRUE(tail->is_crowded());
  EXPECT_GT(used(), uint64_t{63} << 20);
  EXPECT_EQ(TailImage::parse(content(), binding_)->chunks().size(), taken);
}

// Where there is no more memory, the tail is as large as it could become, and says so once.
TEST_F(TailTest, MemoryThatEndsIsTold) {
  if (::geteuid() != 0) GTEST_SKIP() << "mounting a small tmpfs takes root";
  struct Log final : LogSink {
    void log(LogLevel, std::string_view, std::string_view line) override {
      lines.emplace_back(line);
    }
    std::vector<std::string> lines;
  } log;
  const std::string small = dir_ + "/small";
  ASSERT_EQ(::mkdir(small.c_str(), 0700), 0);
  if (::mount("none", small.c_str(), "tmpfs", 0, "size=40M") != 0) GTEST_SKIP() << "no tmpfs here";
  {
    auto tail = SharedTail::create(small, binding_, uint64_t{64} << 20, &log);
    ASSERT_TRUE(tail.has_value()) << tail.error().to_string();
    uint64_t taken = 0;
    while ((*tail)->acquire(5, 0, {})) ++taken;
    EXPECT_GT(taken, 480u);
    EXPECT_LT(taken, 640u);
    EXPECT_EQ((*tail)->free_chunks(), 0u);
    EXPECT_TRUE((*tail)->is_crowded());
    EXPECT_FALSE((*tail)->acquire(5, 0, {}));
    (*tail)->release(0);
    EXPECT_EQ((*tail)->acquire(5, 0, {}), 0u);
    ASSERT_EQ(log.lines.size(), 1u);
    EXPECT_NE(log.lines[0].find("No space left"), std::string::npos) << log.lines[0];
  }
  EXPECT_EQ(::umount(small.c_str()), 0);
}

TEST_F(TailTest, AChunkThatClaimsAnotherPlaceIsLeftOut) {
  {
    const auto tail = create();
    tail->publish(*tail->acquire(5, 8192, {}), 8200);
  }
  auto bytes = content();
  ASSERT_EQ(TailImage::parse(bytes, binding_)->chunks().size(), 1u);
  const uint64_t table = tail_layout(bytes.size()).table_offset;
  TailChunkEntry entry;
  for (uint64_t at = table;; at += sizeof entry) {
    std::memcpy(&entry, bytes.data() + at, sizeof entry);
    if (entry.file_id != 5) continue;
    entry.offset = 0;
    std::memcpy(bytes.data() + at, &entry, sizeof entry);
    break;
  }
  const auto image = TailImage::parse(bytes, binding_);
  EXPECT_TRUE(image->chunks().empty());
  EXPECT_EQ(image->notes().size(), 1u);
}

// Any change of the file's bytes yields a refusal or entries within bounds.
TEST_F(TailTest, DamageIsJudgedWithoutHarm) {
  {
    const auto tail = create();
    for (uint64_t i = 1; i < 40; ++i)
      tail->keep(blob::Ticket{i}, bytes_of(std::string(i * 7, 'x')));
    for (uint64_t i = 1; i < 5; ++i) tail->publish(*tail->acquire(i, i * 100, {}), i * 100 + i * 9);
  }
  const auto good = content();
  const TailLayout layout = tail_layout(good.size());
  std::mt19937_64 random(6);
  int refused = 0, notes = 0;
  for (int round = 0; round < 300; ++round) {
    auto bad = good;
    for (uint64_t n = 1 + random() % 4; n > 0; --n) {
      // Header, counters, ring and table; the chunks' bytes mean nothing here.
      const uint64_t places[] = {random() % 200, kRingHeadOffset + random() % 8,
                                 kRingTailOffset + random() % 8,
                                 layout.ring_offset + random() % 6000,
                                 layout.table_offset + random() % (layout.chunk_count * 32)};
      bad[places[random() % 5]] = static_cast<std::byte>(random());
    }
    if (random() % 20 == 0) bad.resize(random() % bad.size());
    const auto image = TailImage::parse(bad, binding_);
    if (!image) {
      ++refused;
      continue;
    }
    notes += image->notes().empty() ? 0 : 1;
    for (const KeptChunk& chunk : image->chunks()) {
      EXPECT_LE(chunk.bytes.size(), kTailChunkBytes);
      EXPECT_NE(chunk.file_id, 0u);
    }
    EXPECT_LE(image->transactions().size(), 39u);
  }
  EXPECT_GT(refused, 10);
  EXPECT_GT(notes, 10);
}

TEST_F(TailTest, AppendTailHoldsBytesInPieces) {
  const auto shared = create();
  const uint64_t chunks = shared->chunk_count();
  for (const bool with_shared : {true, false}) {
    AppendTail tail(with_shared ? shared.get() : nullptr, 9, 1000);
    std::vector<std::byte> model(2500);
    for (size_t i = 0; i < model.size(); ++i) model[i] = static_cast<std::byte>(i % 253);
    std::span<const std::byte> rest(model);
    while (!rest.empty()) {
      if (!tail.has_room()) {
        ASSERT_TRUE(tail.add_piece(5000 + model.size() - rest.size(), AppendTail::Memory::any));
      }
      rest = rest.subspan(tail.append(rest.first(std::min<size_t>(rest.size(), 333))));
    }
    EXPECT_EQ(tail.begin(), 5000u);
    EXPECT_EQ(tail.end(), 7500u);
    EXPECT_EQ(tail.piece_count(), 3u);
    EXPECT_EQ(tail.has_private(), !with_shared);
    std::vector<std::byte> out(1500);
    tail.copy_out(5700, out);
    EXPECT_TRUE(std::ranges::equal(out, std::span(model).subspan(700, 1500)));
    std::vector<std::span<const std::byte>> spans;
    tail.gather(5700, 7200, spans);
    std::vector<std::byte> gathered;
    for (const auto span : spans) gathered.insert(gathered.end(), span.begin(), span.end());
    EXPECT_EQ(gathered, out);
    tail.release_below(6999);
    EXPECT_EQ(tail.begin(), 6000u);
    tail.release_below(7400);
    EXPECT_EQ(tail.begin(), 7000u) << "a piece with room stays";
  }
  EXPECT_EQ(shared->free_chunks(), chunks) << "the destructor gives all back";
}

TEST_F(TailTest, BehindAPrivatePieceAllArePrivate) {
  const auto shared = create();
  std::vector<SharedTail::Slot> slots;
  while (const auto slot = shared->acquire(5, 0, {})) slots.push_back(*slot);
  AppendTail tail(shared.get(), 9, 1000);
  EXPECT_FALSE(tail.add_piece(0, AppendTail::Memory::shared));
  ASSERT_TRUE(tail.add_piece(0, AppendTail::Memory::any));
  tail.append(std::vector<std::byte>(1000));
  shared->release(slots[0]);
  EXPECT_FALSE(tail.add_piece(1000, AppendTail::Memory::shared))
      << "it would be replayed with a gap";
  ASSERT_TRUE(tail.add_piece(1000, AppendTail::Memory::any));
  EXPECT_TRUE(tail.has_private());
}

}  // namespace
}  // namespace basalt::blobfs
