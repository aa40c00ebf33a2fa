// Goal: I/O that only this backend does: registered buffers, vectors, short files, full file
// systems, closing and opening in a row, work left behind by threads that end. Method: real files.
#include <fcntl.h>
#include <sys/mount.h>

#include <optional>
#include <thread>

#include "mem/memory_map.h"
#include "test/bdev/uring/fixture.h"
#include "test/bdev/uring/loop_device.h"

namespace basalt {
namespace {

class UringIo : public UringTest {
 protected:
  void open_disk(const std::string& keys) {
    auto device = open(file_uri(keys));
    ASSERT_TRUE(device) << device.error().to_string();
    device_ = std::move(*device);
    auto channel = device_->open_channel();
    ASSERT_TRUE(channel) << channel.error().to_string();
    channel_ = std::move(*channel);
  }
  void TearDown() override {
    channel_.reset();
    device_.reset();
  }
  StatusCode io(Op op, uint64_t lba, std::span<std::byte> data, IoFlags flags = {}) {
    return UringTest::io(*channel_, op, lba, data, device_->info().block_size, flags);
  }
  UringDevice& uring() { return dynamic_cast<UringDevice&>(*device_); }

  std::unique_ptr<Device> device_;
  std::unique_ptr<Channel> channel_;
};

// Goal: the same bytes through registered memory and through other memory, whether the region came
// before or after the channel, and after it has gone.
TEST_F(UringIo, UsesRegisteredMemory) {
  const Pages early(1 << 20, 1);
  const Pages late(1 << 20, 2);
  const Pages plain(1 << 20, 3);
  MemoryMap& memory = context_->memory();
  const auto early_index = memory.register_region(early.span());
  ASSERT_TRUE(early_index);
  open_disk("size=8M");
  const auto late_index = memory.register_region(late.span());
  ASSERT_TRUE(late_index);
  EXPECT_EQ(uring().unregistered_regions(), 0u);

  int value = 10;
  for (const Pages* from : {&early, &late, &plain}) {
    for (const Pages* to : {&plain, &late, &early}) {
      const_cast<Pages*>(from)->fill(++value);
      ASSERT_EQ(io(Op::write, 0, from->span()), StatusCode::ok);
      const_cast<Pages*>(to)->fill(0);
      ASSERT_EQ(io(Op::read, 0, to->span()), StatusCode::ok);
      EXPECT_TRUE(to->all(value));
    }
  }
  ASSERT_TRUE(memory.unregister_region(*late_index).ok());
  const_cast<Pages&>(late).fill(77);
  ASSERT_EQ(io(Op::write, 0, late.span()), StatusCode::ok);
  ASSERT_EQ(io(Op::read, 0, early.span()), StatusCode::ok);
  EXPECT_TRUE(early.all(77));
  channel_.reset();
  ASSERT_TRUE(memory.unregister_region(*early_index).ok());
}

// Goal: a file cut short behind our back is an I/O error at the place, and nothing hangs.
TEST_F(UringIo, SurvivesAFileCutShort) {
  open_disk("size=1M");
  const Pages memory(64 << 10, 5);
  ASSERT_EQ(io(Op::write, 0, memory.span()), StatusCode::ok);
  std::filesystem::resize_file(directory_ + "/disk", 32 << 10);
  const uint64_t blocks = (32 << 10) / device_->info().block_size;
  EXPECT_EQ(io(Op::read, 0, memory.span().first(32 << 10)), StatusCode::ok);
  EXPECT_EQ(io(Op::read, 0, memory.span()), StatusCode::io_error) << "half of it is there";
  EXPECT_EQ(io(Op::read, blocks, memory.span().first(4096)), StatusCode::io_error);
  EXPECT_EQ(log_.count(LogLevel::error, "read of"), 1u) << "told once";
}

// Goal: no_space from a full file system, with what was there before unharmed and deleting helping.
TEST_F(UringIo, AnswersNoSpaceOnAFullFileSystem) {
  const std::string mount_point = directory_ + "/small";
  std::filesystem::create_directory(mount_point);
  if (mount("basalt-test", mount_point.c_str(), "tmpfs", 0, "size=8m") != 0) {
    GTEST_SKIP() << "cannot mount a tmpfs here";
  }
  {
    auto device = open("file:" + mount_point + "/disk?size=64M&direct=0");
    ASSERT_TRUE(device) << device.error().to_string();
    device_ = std::move(*device);
    channel_ = std::move(*device_->open_channel());
    const uint64_t step = (1 << 20) / device_->info().block_size;
    const Pages memory(1 << 20, 9);
    StatusCode status = StatusCode::ok;
    uint64_t written = 0;
    while (status == StatusCode::ok && written < 64) {
      status = io(Op::write, written++ * step, memory.span());
    }
    EXPECT_EQ(status, StatusCode::no_space);
    EXPECT_GE(written, 7u);
    const Pages back(1 << 20, 0);
    EXPECT_EQ(io(Op::read, 0, back.span()), StatusCode::ok);
    EXPECT_TRUE(back.all(9));
    EXPECT_EQ(io(Op::discard, 0, memory.span()), StatusCode::ok);
    EXPECT_EQ(io(Op::discard, step, memory.span()), StatusCode::ok);
    EXPECT_EQ(io(Op::write, written * step, memory.span()), StatusCode::ok);
    channel_.reset();
    device_.reset();
  }
  EXPECT_NE(why_not("file:" + mount_point + "/other?size=64M&direct=0&reserve=1").find("no space"),
            std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(mount_point + "/other")) << "nothing is left behind";
  EXPECT_EQ(umount(mount_point.c_str()), 0);
}

// Goal: zeroes are zeroes, kept allocated or not, also where the file system has no ZERO_RANGE
// (tmpfs).
TEST_F(UringIo, WritesZeroesOnEveryFileSystem) {
  std::vector<std::string> folders = {directory_};
  if (std::filesystem::exists("/dev/shm")) folders.push_back("/dev/shm");
  for (const std::string& folder : folders) {
    const std::string path = folder + "/basalt-zeroes-" + std::to_string(getpid());
    auto device = open("file:" + path + "?size=8M&direct=0");
    std::filesystem::remove(path);
    ASSERT_TRUE(device) << device.error().to_string();
    auto channel = (*device)->open_channel();
    ASSERT_TRUE(channel);
    const uint32_t block_size = (*device)->info().block_size;
    const Pages memory(4 << 20, 1);
    for (const bool keep : {false, true}) {
      const_cast<Pages&>(memory).fill(1);
      ASSERT_EQ(UringTest::io(**channel, Op::write, 0, memory.span(), block_size), StatusCode::ok);
      IoFlags flags;
      flags.no_deallocate = keep;
      ASSERT_EQ(UringTest::io(**channel, Op::write_zeroes, 0, memory.span(), block_size, flags),
                StatusCode::ok);
      ASSERT_EQ(UringTest::io(**channel, Op::read, 0, memory.span(), block_size), StatusCode::ok);
      EXPECT_TRUE(memory.all(0)) << folder;
    }
  }
}

// Goal: what is closed can be opened at once, though the kernel takes rings down behind our back.
TEST_F(UringIo, OpensAgainAtOnce) {
  std::optional<LoopDevice> loop;
  std::vector<std::string> uris = {file_uri("size=1M")};
  if (why_no_loop_devices().empty()) {
    auto made = LoopDevice::create(directory_ + "/backing", 1 << 20, 512);
    ASSERT_TRUE(made) << made.error().to_string();
    loop.emplace(std::move(*made));
    uris.push_back("uring:" + loop->path());
  }
  const Pages memory(4096, 1);
  for (const std::string& uri : uris) {
    for (int round = 0; round < 100; ++round) {
      auto device = open(uri, {.lock_timeout = Duration::zero()});
      ASSERT_TRUE(device) << device.error().to_string() << ", round " << round;
      auto channel = (*device)->open_channel();
      ASSERT_TRUE(channel);
      const uint32_t block_size = (*device)->info().block_size;
      ASSERT_EQ(UringTest::io(**channel, Op::write, 0, memory.span(), block_size), StatusCode::ok);
      ASSERT_EQ(UringTest::io(**channel, Op::flush, 0, memory.span(), block_size), StatusCode::ok);
    }
  }
}

// Goal: a thread that ends with commands under way takes none of them with it. The kernel cancels
// what it has queued for that thread's workers (flushes); the channel repeats that.
TEST_F(UringIo, OutlivesTheThreadThatSubmitted) {
  open_disk("size=8M&depth=64");
  const Pages memory(4096, 1);
  iovec vector{memory.span().data(), memory.span().size()};
  unsigned failed = 0;
  unsigned done = 0;
  struct Counted {
    Io io;
    unsigned* done;
    unsigned* failed;
  };
  std::vector<Counted> all(200);
  for (int round = 0; round < 20; ++round) {
    done = 0;
    std::thread([&] {
      for (size_t i = 0; i < all.size(); ++i) {
        all[i] = {.io = {}, .done = &done, .failed = &failed};
        Io& io = all[i].io;
        io.op = i % 3 == 2 ? Op::flush : Op::write;
        io.lba = Lba{i * 8};
        io.block_count = BlockCount{4096 / device_->info().block_size};
        io.data = {&vector, 1};
        io.user = &all[i];
        io.done = [](Io& ended) {
          auto& counted = *static_cast<Counted*>(ended.user);
          ++*counted.done;
          *counted.failed += ended.status != StatusCode::ok;
        };
        channel_->submit(io);
      }
      channel_->poll();
    }).join();
    for (int waits = 0; done < all.size() && waits < 600; ++waits) {
      channel_->wait(std::chrono::milliseconds(100));
    }
    ASSERT_EQ(done, all.size()) << "round " << round;
    ASSERT_EQ(failed, 0u) << "round " << round;
  }
}

}  // namespace
}  // namespace basalt
