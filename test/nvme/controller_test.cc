// The driver against the controller model: bring-up, identity, commands of every kind and size through queue
// pairs, polled and with interrupts, and how it ends.
#include "nvme/controller.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "bdev/count_allocations.h"
#include "nvme/driver.h"

namespace basalt::nvme {
namespace {

using namespace std::chrono_literals;

void fill(std::span<std::byte> bytes, unsigned seed) {
  for (size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<std::byte>((i * 2654435761u >> 13) + seed * 31);
  }
}

TEST(Controller, ComesUpAndKnowsItsNamespaces) {
  Driver driver({.namespaces = {{.block_count = 1000},
                                {.block_count = 50, .active = false},
                                {.block_count = 77, .block_size = 4096}}});
  ASSERT_TRUE(driver.start().ok());
  const IdentifyController identity = driver.controller->identity();
  EXPECT_EQ(printable_field({identity.serial, sizeof identity.serial}), "BASALT0001");
  const auto namespaces = driver.controller->namespaces();
  ASSERT_EQ(namespaces.size(), 2u);
  EXPECT_EQ(namespaces[0].nsid, 1u);
  EXPECT_EQ(namespaces[0].block_count, 1000u);
  EXPECT_EQ(namespaces[0].block_bytes, 512u);
  EXPECT_EQ(namespaces[0].atomic_write_blocks, 256u);
  EXPECT_EQ(namespaces[1].nsid, 3u);
  EXPECT_EQ(namespaces[1].block_bytes, 4096u);
  EXPECT_EQ(driver.controller->max_transfer_bytes(), 128u * 1024);
  EXPECT_EQ(driver.controller->queue_pair_limit(), 4);
}

// How the controller and the way to it may differ, and what must not.
struct Variant {
  const char* name;
  model::ModelOptions model{};
  model::ModelFunctionOptions function{};
  bool interrupts = true;
  Driver::Way way = Driver::Way::in_process;
};
std::vector<Variant> variants() {
  std::vector<Variant> list;
  list.push_back({.name = "interrupts"});
  list.push_back({.name = "polled", .interrupts = false});
  list.push_back({.name = "no_vectors", .model = {.interrupt_vectors = 0}});
  list.push_back({.name = "doorbells_by_register", .function = {.mapped_doorbells = false}});
  list.push_back({.name = "wide_doorbells", .model = {.doorbell_stride_shift = 3}});
  list.push_back({.name = "short_rings", .model = {.max_queue_entries = 4}});
  list.push_back({.name = "files_only", .function = {.dma_mode = model::DmaMode::files_only}});
  list.push_back({.name = "shadow_doorbells_polled",
                  .model = {.shadow_doorbells = model::ShadowDoorbells::polled}});
  list.push_back({.name = "shadow_doorbells_on_event",
                  .model = {.shadow_doorbells = model::ShadowDoorbells::on_event}});
  list.push_back({.name = "sgl", .model = {.sgl = true}});
  list.push_back({.name = "vfio_user", .way = Driver::Way::vfio_user});
  list.push_back({.name = "vfio_user_polled",
                  .model = {.shadow_doorbells = model::ShadowDoorbells::polled},
                  .interrupts = false,
                  .way = Driver::Way::vfio_user});
  return list;
}
class EveryController : public testing::TestWithParam<size_t> {
 protected:
  EveryController()
      : variant(variants()[GetParam()]), driver(variant.model, variant.function, variant.way) {}
  void SetUp() override {
    ControllerOptions options = Driver::quick();
    options.interrupts = variant.interrupts;
    const Status status = driver.start(options);
    ASSERT_TRUE(status.ok()) << status.to_string();
  }
  const Variant variant;
  Driver driver;
};
INSTANTIATE_TEST_SUITE_P(Variants, EveryController, testing::Range<size_t>(0, variants().size()),
                         [](const auto& param_info) {
                           return std::string(variants()[param_info.param].name);
                         });

TEST_P(EveryController, ReadsWhatWasWritten) {
  const auto written = driver.buffer(128 * 1024), read = driver.buffer(128 * 1024);
  unsigned seed = 0;
  for (const uint32_t blocks : {1, 2, 7, 8, 9, 16, 17, 128, 255, 256}) {
    const auto out = written.first(blocks * 512), in = read.first(blocks * 512);
    fill(out, ++seed);
    std::fill(in.begin(), in.end(), std::byte{0});
    ASSERT_EQ(driver.run(write_command(1, 40 + seed, blocks), out), StatusCode::ok);
    ASSERT_EQ(driver.run(read_command(1, 40 + seed, blocks), in), StatusCode::ok);
    EXPECT_TRUE(std::equal(out.begin(), out.end(), in.begin())) << blocks << " blocks";
  }
  EXPECT_EQ(driver.run(flush_command(1)), StatusCode::ok);
}

// Data that begins and ends inside pages.
TEST_P(EveryController, ReadsToAnyDwordInMemory) {
  const auto written = driver.buffer(64 * 1024), read = driver.buffer(80 * 1024);
  fill(written, 3);
  ASSERT_EQ(driver.run(write_command(1, 0, 128), written), StatusCode::ok);
  for (const size_t offset : {4, 512, 2048, 4092, 4096, 4100}) {
    std::fill(read.begin(), read.end(), std::byte{0x5a});
    const auto in = read.subspan(offset, 64 * 1024);
    ASSERT_EQ(driver.run(read_command(1, 0, 128), in), StatusCode::ok) << offset;
    EXPECT_TRUE(std::equal(written.begin(), written.end(), in.begin())) << offset;
    EXPECT_EQ(read[offset - 1], std::byte{0x5a}) << "before the buffer";
    EXPECT_EQ(read[offset + in.size()], std::byte{0x5a}) << "behind the buffer";
  }
}

// More than the queue holds, many times round the rings, each completing once.
TEST_P(EveryController, ManyCommandsAtOnce) {
  constexpr unsigned kCommands = 1000;
  const auto data = driver.buffer(kCommands * 512);
  fill(data, 9);
  std::vector<std::unique_ptr<Waited>> all;
  for (unsigned i = 0; i < kCommands; ++i) {
    all.push_back(std::make_unique<Waited>(write_command(1, i, 1), data.subspan(i * 512, 512)));
    driver.queue->submit(all.back()->request);
  }
  for (const auto& waited : all) ASSERT_TRUE(driver.wait(*waited));
  EXPECT_EQ(driver.queue->outstanding(), 0u);
  EXPECT_TRUE(driver.queue->check_invariants());
  EXPECT_EQ(driver.queue->counters().completed, kCommands);
  EXPECT_EQ(driver.queue->counters().stray, 0u);
  for (const auto& waited : all) EXPECT_EQ(waited->request.status, StatusCode::ok);
  const auto media = driver.model.media(1);
  EXPECT_TRUE(std::equal(data.begin(), data.end(), media.begin()));
}

TEST_P(EveryController, NothingIsAllocatedPerCommand) {
  const auto data = driver.buffer(64 * 4096);
  std::vector<std::unique_ptr<Waited>> all;
  for (unsigned i = 0; i < 64; ++i) {
    const Command command = i % 3 == 0 ? write_command(1, i * 8, 8) : read_command(1, i * 8, 8);
    all.push_back(std::make_unique<Waited>(command, data.subspan(i * 4096, 4096)));
  }
  const auto run_all = [&] {
    for (const auto& waited : all) {
      waited->done = false;
      driver.queue->submit(waited->request);
    }
    for (const auto& waited : all) {
      while (!waited->done) driver.queue->wait(1s);
    }
  };
  run_all();
  const uint64_t before = allocations_so_far();
  for (int i = 0; i < 10; ++i) run_all();
  EXPECT_EQ(allocations_so_far() - before, 0u);
}

TEST_P(EveryController, IsOutOfRange) {
  const auto data = driver.buffer(4096);
  EXPECT_EQ(driver.run(read_command(1, 65536, 1), data.first(512)), StatusCode::out_of_range);
  EXPECT_EQ(driver.run(read_command(9, 0, 1), data.first(512)), StatusCode::not_found);
}

TEST_P(EveryController, MemoryTheControllerDoesNotReachIsRefused) {
  std::vector<std::byte> own(8192);
  EXPECT_EQ(driver.run(read_command(1, 0, 1), std::span(own).first(512)),
            StatusCode::invalid_argument);
  EXPECT_TRUE(driver.queue->check_invariants());
}

TEST_P(EveryController, HasAsManyQueuePairsAsItGrants) {
  std::vector<std::unique_ptr<QueuePair>> more;
  while (more.size() < 8) {
    auto made = driver.controller->open_queue_pair();
    if (!made) {
      EXPECT_EQ(made.error().code(), StatusCode::no_space);
      break;
    }
    more.push_back(std::move(*made));
  }
  EXPECT_EQ(more.size() + 1, driver.controller->queue_pair_limit());
  more.pop_back();
  auto again = driver.controller->open_queue_pair();
  ASSERT_TRUE(again) << again.error().to_string();
  const auto data = driver.buffer(512);
  Waited waited(read_command(1, 0, 1), data);
  (*again)->submit(waited.request);
  for (int i = 0; i < 1000 && !waited.done; ++i) (*again)->wait(20ms);
  EXPECT_TRUE(waited.done);
  EXPECT_EQ(waited.request.status, StatusCode::ok);
}

// What a queue left in the shadow doorbells and event indexes is not taken for the next one's of that number.
TEST_P(EveryController, AQueueOfAUsedNumberIsHeard) {
  const auto data = driver.buffer(4096);
  for (unsigned commands = 5; commands > 0; --commands) {
    for (unsigned i = 0; i < commands; ++i) {
      ASSERT_EQ(driver.run(read_command(1, 0, 8), data), StatusCode::ok) << commands;
    }
    driver.queue.reset();
    driver.queue = std::move(*driver.controller->open_queue_pair());
  }
  EXPECT_EQ(driver.controller->reset_count(), 0u);
}

TEST_P(EveryController, GoesOnAfterAReset) {
  const auto data = driver.buffer(4096), read = driver.buffer(4096);
  fill(data, 1);
  ASSERT_EQ(driver.run(write_command(1, 0, 8), data), StatusCode::ok);
  for (int i = 0; i < 3; ++i) {
    const Status status = driver.controller->reset("for a test");
    ASSERT_TRUE(status.ok()) << status.to_string();
    ASSERT_EQ(driver.run(read_command(1, 0, 8), read), StatusCode::ok);
    EXPECT_TRUE(std::equal(data.begin(), data.end(), read.begin()));
  }
  EXPECT_EQ(driver.controller->reset_count(), 3u);
}

// Two pieces that pages cannot name: an SGL where the controller takes them, else refused.
TEST_P(EveryController, PiecesInsidePages) {
  const auto memory = driver.buffer(16384);
  fill(memory, 7);
  std::array<iovec, 2> pieces{iovec{memory.data() + 512, 512}, iovec{memory.data() + 9000, 512}};
  Waited waited(write_command(1, 5, 2));
  waited.request.data = pieces;
  driver.queue->submit(waited.request);
  ASSERT_TRUE(driver.wait(waited));
  if (!variant.model.sgl) {
    EXPECT_EQ(waited.request.status, StatusCode::invalid_argument);
    return;
  }
  ASSERT_EQ(waited.request.status, StatusCode::ok);
  const auto media = driver.model.media(1).subspan(5 * 512, 1024);
  EXPECT_EQ(std::memcmp(media.data(), memory.data() + 512, 512), 0);
  EXPECT_EQ(std::memcmp(media.data() + 512, memory.data() + 9000, 512), 0);
}

TEST(Controller, SaysWhatIsWrongWithItsOptions) {
  Driver driver;
  ControllerOptions options = Driver::quick();
  options.queue_depth = 1024;
  EXPECT_EQ(driver.start(options).code(), StatusCode::invalid_argument);
  options = Driver::quick();
  options.queue_pairs = 0;
  EXPECT_EQ(driver.start(options).code(), StatusCode::invalid_argument);
}

TEST(Controller, TellsOfEvents) {
  Driver driver;
  ASSERT_TRUE(driver.start().ok());
  std::atomic<uint32_t> seen{0};
  driver.controller->on_event([&](uint32_t event) { seen = event; });
  ASSERT_TRUE(
      driver.controller->run_admin(set_feature_command(Feature::async_event_config, 0x100)).ok());
  driver.model.resize_namespace(1, 4000);
  for (int i = 0; i < 300 && seen == 0; ++i) std::this_thread::sleep_for(10ms);
  EXPECT_EQ(seen & 0xffff, 0x0002u) << "a notice (2): namespace attribute changed (0)";
  EXPECT_EQ(seen >> 16, 0x04u) << "the log page to read";
}

TEST(Controller, ShutsDownInTheEnd) {
  Driver driver({.volatile_cache = true});
  ASSERT_TRUE(driver.start().ok());
  const auto data = driver.buffer(512);
  ASSERT_EQ(driver.run(write_command(1, 0, 1), data), StatusCode::ok);
  driver.queue.reset();
  driver.controller.reset();
  driver.model.power_cut();
  EXPECT_EQ(driver.model.unflushed_blocks(1), 0u);
  EXPECT_TRUE(std::equal(data.begin(), data.end(), driver.model.media(1).begin()));
  EXPECT_EQ(driver.log.text(), "");
}

}  // namespace
}  // namespace basalt::nvme
