// The driver on a real controller through VFIO, inside a guest: bring-up, data, resets under load, removal.
//
// The controllers to use are in NVME_BDFS, separated by spaces; each test takes what it needs and says so when
// that is not there. What is on them is overwritten. Run by run.sh, not by ctest.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <sstream>
#include <thread>

#include "mem/arena.h"
#include "nvme/commands.h"
#include "nvme/controller.h"
#include "nvme/vfio/vfio_function.h"
#include "nvme/waited.h"

namespace basalt::nvme {
namespace {

using namespace std::chrono_literals;

std::vector<std::string> addresses() {
  const char* list = std::getenv("NVME_BDFS");
  std::istringstream words(list != nullptr ? list : "");
  return {std::istream_iterator<std::string>(words), {}};
}

class Guest : public testing::Test {
 protected:
  void SetUp() override {
    if (addresses().empty()) GTEST_SKIP() << "NVME_BDFS names no controller";
    auto made = Context::create();
    ASSERT_TRUE(made);
    context = std::move(*made);
    auto arena_made = Arena::create({.bytes = size_t{8} << 20, .map = &context->memory()});
    ASSERT_TRUE(arena_made) << arena_made.error().to_string();
    arena = std::move(*arena_made);
  }
  void open(const ControllerOptions& options = {}) {
    auto function = VfioFunction::open(
        addresses()[0], {.allow_noiommu = std::getenv("BASALT_NOIOMMU") != nullptr, .paths = {}});
    ASSERT_TRUE(function) << function.error().to_string();
    auto opened = Controller::open(host(*context), std::move(*function), options);
    ASSERT_TRUE(opened) << opened.error().to_string();
    controller = std::move(*opened);
    auto pair = controller->open_queue_pair();
    ASSERT_TRUE(pair) << pair.error().to_string();
    queue = std::move(*pair);
    ASSERT_FALSE(controller->namespaces().empty());
    space = controller->namespaces()[0];
  }
  std::span<std::byte> buffer(size_t bytes) {
    auto made = arena->allocate(bytes);
    EXPECT_TRUE(made);
    buffers.push_back(std::move(*made));
    return buffers.back().span();
  }
  bool wait(const Waited& waited) {
    const auto end = std::chrono::steady_clock::now() + 60s;
    while (!waited.done && std::chrono::steady_clock::now() < end) queue->wait(100ms);
    return waited.done;
  }
  StatusCode run(const Command& command, std::span<std::byte> data = {}) {
    Waited waited(command, data);
    queue->submit(waited.request);
    EXPECT_TRUE(wait(waited));
    return waited.request.status;
  }

  std::unique_ptr<Context> context;
  std::unique_ptr<Arena> arena;
  std::unique_ptr<Controller> controller;
  std::vector<Buffer> buffers;
  std::unique_ptr<QueuePair> queue;
  NamespaceInfo space;
};

TEST_F(Guest, ComesUp) {
  open();
  const IdentifyController identity = controller->identity();
  std::printf(
      "%s: %s %s, %u namespaces, %u queue pairs, transfers of %llu B\n", controller->name().c_str(),
      printable_field({identity.model, sizeof identity.model}).c_str(),
      printable_field({identity.serial, sizeof identity.serial}).c_str(),
      static_cast<unsigned>(controller->namespaces().size()), controller->queue_pair_limit(),
      static_cast<unsigned long long>(controller->max_transfer_bytes()));
  for (const NamespaceInfo& n : controller->namespaces()) {
    std::printf("  namespace %u: %llu blocks of %u B\n", n.nsid,
                static_cast<unsigned long long>(n.block_count), n.block_bytes);
  }
}

void round_trip(QueuePair& queue, const NamespaceInfo& space, std::span<std::byte> out,
                std::span<std::byte> in, unsigned seed) {
  const auto run = [&](const Command& command, std::span<std::byte> data) {
    Waited waited(command, data);
    queue.submit(waited.request);
    for (int i = 0; i < 600 && !waited.done; ++i) queue.wait(100ms);
    ASSERT_TRUE(waited.done);
    ASSERT_EQ(waited.request.status, StatusCode::ok)
        << describe(waited.request.completion.status());
  };
  const auto blocks = static_cast<uint32_t>(out.size() / space.block_bytes);
  for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<std::byte>(i / 512 * 11 + i + seed);
  std::fill(in.begin(), in.end(), std::byte{0});
  run(write_command(space.nsid, seed * 3, blocks), out);
  run(flush_command(space.nsid), {});
  run(read_command(space.nsid, seed * 3, blocks), in);
  EXPECT_TRUE(std::equal(out.begin(), out.end(), in.begin())) << blocks << " blocks";
}

TEST_F(Guest, ReadsWhatWasWritten) {
  for (const bool interrupts : {true, false}) {
    open({.interrupts = interrupts});
    const auto out = buffer(size_t{1} << 20), in = buffer(size_t{1} << 20);
    unsigned seed = 0;
    for (const size_t bytes : {4096, 8192, 12288, 65536, 131072, 524288}) {
      round_trip(*queue, space, out.first(bytes), in.first(bytes), ++seed);
    }
    queue.reset();
    controller.reset();
  }
}

TEST_F(Guest, EveryNamespace) {
  open();
  const auto out = buffer(65536), in = buffer(65536);
  for (const NamespaceInfo& each : controller->namespaces()) {
    round_trip(*queue, each, out, in, each.nsid);
  }
}

TEST_F(Guest, ZonesAreAppendedToAndReset) {
  open();
  if (space.command_set != CommandSet::zoned) GTEST_SKIP() << "the namespace has no zones";
  ASSERT_GT(space.zone_blocks, 0u);
  const uint64_t zone = space.zone_blocks;  // the second
  const auto report = buffer(4096);
  const auto second_zone = [&] {
    EXPECT_EQ(run(zone_report_command(space.nsid, zone, 4096), report), StatusCode::ok);
    ZoneDescriptor descriptor;
    std::memcpy(static_cast<void*>(&descriptor), report.data() + sizeof(ZoneReportHeader),
                sizeof descriptor);
    return descriptor;
  };
  ASSERT_EQ(run(zone_action_command(space.nsid, zone, ZoneAction::reset)), StatusCode::ok);
  EXPECT_EQ(second_zone().zone_state(), ZoneState::empty);
  EXPECT_EQ(second_zone().first_block, zone);
  const auto out = buffer(3 * 4096), in = buffer(3 * 4096);
  for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<std::byte>(i / 512 * 7 + i);
  const uint32_t blocks = 4096 / space.block_bytes;
  for (unsigned i = 0; i < 3; ++i) {
    Waited append(zone_append_command(space.nsid, zone, blocks),
                  out.subspan(i * size_t{4096}, 4096));
    queue->submit(append.request);
    ASSERT_TRUE(wait(append));
    ASSERT_EQ(append.request.status, StatusCode::ok);
    EXPECT_EQ(
        append.request.completion.result | uint64_t{append.request.completion.result_high} << 32,
        zone + i * blocks);
  }
  EXPECT_EQ(second_zone().write_pointer, zone + 3 * blocks);
  ASSERT_EQ(run(read_command(space.nsid, zone, 3 * blocks), in), StatusCode::ok);
  EXPECT_TRUE(std::equal(out.begin(), out.end(), in.begin()));
  EXPECT_NE(run(write_command(space.nsid, zone, blocks), out.first(4096)), StatusCode::ok)
      << "not at the write pointer";
  ASSERT_EQ(run(zone_action_command(space.nsid, zone, ZoneAction::reset)), StatusCode::ok);
  EXPECT_EQ(second_zone().write_pointer, zone);
}

TEST_F(Guest, ManyCommandsAtOnce) {
  open();
  constexpr unsigned kCommands = 500;
  const auto data = buffer(kCommands * 4096);
  const auto read = buffer(4096);
  const uint32_t blocks = 4096 / space.block_bytes;
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::byte>(i / 4096 * 3 + i);
  std::vector<std::unique_ptr<Waited>> all;
  for (unsigned i = 0; i < kCommands; ++i) {
    all.push_back(std::make_unique<Waited>(write_command(space.nsid, i * blocks, blocks),
                                           data.subspan(i * 4096, 4096)));
    queue->submit(all.back()->request);
  }
  for (const auto& waited : all) {
    ASSERT_TRUE(wait(*waited));
    EXPECT_EQ(waited->request.status, StatusCode::ok);
  }
  for (unsigned i = 0; i < kCommands; i += 17) {
    ASSERT_EQ(run(read_command(space.nsid, i * blocks, blocks), read), StatusCode::ok);
    EXPECT_TRUE(std::equal(read.begin(), read.end(), data.begin() + i * 4096));
  }
}

TEST_F(Guest, ErrorsAreToldInWords) {
  open();
  const auto data = buffer(4096);
  Waited waited(read_command(space.nsid, space.block_count, 1), data.first(space.block_bytes));
  queue->submit(waited.request);
  ASSERT_TRUE(wait(waited));
  EXPECT_EQ(waited.request.status, StatusCode::out_of_range);
  EXPECT_EQ(describe(waited.request.completion.status()), "LBA out of range (0x80)");
  const Status status = controller->run_admin(admin_command(static_cast<AdminOpcode>(0xc5)));
  EXPECT_EQ(status.code(), StatusCode::unsupported) << status.to_string();
}

TEST_F(Guest, ResetsUnderLoadLoseNothing) {
  open();
  constexpr unsigned kCommands = 400;
  const auto data = buffer(kCommands * 4096);
  const uint32_t blocks = 4096 / space.block_bytes;
  std::vector<std::unique_ptr<Waited>> all;
  std::thread resetter([&] {
    for (int i = 0; i < 3; ++i) {
      std::this_thread::sleep_for(20ms);
      const Status status = controller->reset("for a test");
      EXPECT_TRUE(status.ok()) << status.to_string();
    }
  });
  for (unsigned i = 0; i < kCommands; ++i) {
    all.push_back(std::make_unique<Waited>(write_command(space.nsid, i * blocks, blocks),
                                           data.subspan(i * 4096, 4096)));
    queue->submit(all.back()->request);
    if (i % 8 == 0) queue->wait(5ms);
  }
  for (const auto& waited : all) {
    ASSERT_TRUE(wait(*waited));
    EXPECT_EQ(waited->request.status, StatusCode::ok);
  }
  resetter.join();
  EXPECT_EQ(controller->reset_count(), 3u);
}

// The controller goes while reads are under way: each of them comes back, and later ones fail at once.
TEST_F(Guest, UnpluggedUnderLoad) {
  if (std::getenv("BASALT_REMOVAL") == nullptr) GTEST_SKIP() << "nobody is going to unplug it";
  open();
  constexpr unsigned kDepth = 32;
  const auto data = buffer(kDepth * 4096);
  const uint32_t blocks = 4096 / space.block_bytes;
  std::vector<std::unique_ptr<Waited>> all;
  for (unsigned i = 0; i < kDepth; ++i) {
    all.push_back(std::make_unique<Waited>(read_command(space.nsid, i * blocks, blocks),
                                           data.subspan(i * 4096, 4096)));
    queue->submit(all.back()->request);
  }
  std::printf("at work\n");
  std::fflush(stdout);
  const auto end = std::chrono::steady_clock::now() + 120s;
  uint64_t reads = 0;
  unsigned gone = 0;
  while (gone < kDepth && std::chrono::steady_clock::now() < end) {
    queue->wait(100ms);
    for (const auto& waited : all) {
      if (!waited->done || waited->request.status == StatusCode::device_removed) continue;
      ASSERT_EQ(waited->request.status, StatusCode::ok);
      ++reads;
      waited->done = false;
      queue->submit(waited->request);
    }
    gone = static_cast<unsigned>(std::count_if(all.begin(), all.end(), [](const auto& waited) {
      return waited->done && waited->request.status == StatusCode::device_removed;
    }));
  }
  EXPECT_EQ(gone, kDepth) << "after " << reads << " reads";
  EXPECT_EQ(queue->outstanding(), 0u);
  EXPECT_GT(reads, 0u);
  EXPECT_EQ(run(read_command(space.nsid, 0, blocks), data.first(4096)), StatusCode::device_removed);
  EXPECT_EQ(controller->run_admin(identify_command(IdentifyKind::controller)).code(),
            StatusCode::io_error);
}

}  // namespace
}  // namespace basalt::nvme
