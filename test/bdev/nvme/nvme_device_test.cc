// nvme: devices: the conformance suite over a controller model behind a vfio-user socket, and what is NVMe's own:
// the description, URIs, discards, a controller that goes or is reset beneath the channel.
#include "bdev/nvme/nvme_device.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "base/sync.h"
#include "bdev/nvme/nvme_uri.h"
#include "nvme/served_controller.h"
#include "nvme/tcp_target.h"
#include "test/bdev/conformance.h"

namespace basalt {
namespace {

using nvme::ServedController;
using nvme::model::ModelOptions;

// The controller of the conformance case that runs; its device is closed before the next is made.
std::unique_ptr<ServedController> of_this_case;
std::unique_ptr<nvme::TcpTarget> target_of_this_case;

ConformanceTarget target(std::string name, ModelOptions options, std::string keys = "") {
  return {.name = std::move(name),
          .register_schemes = register_nvme_scheme,
          .make_uri = [options, keys](const std::string& directory) {
            of_this_case = std::make_unique<ServedController>(directory, options);
            return "nvme:vfio-user:" + of_this_case->path + "/1" + keys;
          }};
}

ModelOptions namespace_of(uint32_t block_size) {
  ModelOptions options;
  options.namespaces = {
      {.block_count = (uint64_t{64} << 20) / block_size, .block_size = block_size}};
  return options;
}
ModelOptions protected_by(uint8_t type) {
  ModelOptions options = namespace_of(4096);
  options.namespaces[0].protection_type = type;
  return options;
}
ModelOptions without_optional_commands() {
  ModelOptions options = namespace_of(512);
  options.optional_commands = 0;
  options.max_transfer_shift = 1;
  options.volatile_cache = true;
  return options;
}

INSTANTIATE_TEST_SUITE_P(Nvme, DeviceConformance,
                         testing::Values(target("block512", namespace_of(512)),
                                         target("block4096", namespace_of(4096)),
                                         target("shallow", namespace_of(512), "?depth=1"),
                                         target("polled", namespace_of(512), "?interrupts=off"),
                                         target("protected1", protected_by(1)),
                                         target("protected3", protected_by(3)),
                                         target("only_what_must_be", without_optional_commands())),
                         conformance_name);

ConformanceTarget tcp_target(std::string name, nvme::TcpTargetOptions options,
                             std::string keys = "") {
  return {.name = std::move(name),
          .register_schemes = register_nvme_scheme,
          .make_uri = [options, keys](const std::string&) {
            target_of_this_case = std::make_unique<nvme::TcpTarget>(options);
            return "nvme:tcp:" + target_of_this_case->address() + "/" + options.nqn + "/1" + keys;
          }};
}

INSTANTIATE_TEST_SUITE_P(
    NvmeTcp, DeviceConformance,
    testing::Values(tcp_target("plain", {}), tcp_target("volatile", {.volatile_cache = true}),
                    tcp_target("digests", {.block_size = 512, .block_count = 131072},
                               "?header_digest&data_digest"),
                    tcp_target("nothing_in_capsules", {.capsule_data = 0, .transfer = 8192},
                               "?depth=4")),
    conformance_name);

// Two controllers of one namespace.
std::unique_ptr<nvme::TcpTarget> other_of_this_case;

std::string two_paths(nvme::TcpTargetOptions options, const std::string& keys) {
  target_of_this_case = std::make_unique<nvme::TcpTarget>(options);
  options.controller_id = 8;
  other_of_this_case = std::make_unique<nvme::TcpTarget>(options, *target_of_this_case);
  for (auto* each : {target_of_this_case.get(), other_of_this_case.get()}) {
    each->namespace_id = 5;
  }
  return "nvme:tcp:" + target_of_this_case->address() + "," + other_of_this_case->address() + "/" +
         options.nqn + "/1?" + keys;
}
ConformanceTarget multipath_target(std::string name, nvme::TcpTargetOptions options,
                                   std::string keys) {
  return {.name = std::move(name),
          .register_schemes = register_nvme_scheme,
          .make_uri = [options, keys](const std::string&) { return two_paths(options, keys); }};
}

INSTANTIATE_TEST_SUITE_P(NvmeMultipath, DeviceConformance,
                         testing::Values(multipath_target("round_robin", {.volatile_cache = true},
                                                          "multipath=round-robin"),
                                         multipath_target("queue_depth", {.reports_access = true},
                                                          "multipath=queue-depth&depth=2")),
                         conformance_name);

// Events of a device, which come from another thread.
class Events final : public DeviceListener {
 public:
  explicit Events(Device& device) : device_(device) { device.add_listener(*this); }
  ~Events() override { device_.remove_listener(*this); }
  void on_event(Device&, DeviceEvent event) override {
    const MutexLock lock(mutex_);
    events_.push_back(event);
  }
  bool wait_for(DeviceEvent event) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    for (; std::chrono::steady_clock::now() < end; sleep_for(std::chrono::milliseconds(10))) {
      const MutexLock lock(mutex_);
      if (std::find(events_.begin(), events_.end(), event) != events_.end()) return true;
    }
    return false;
  }

 private:
  Device& device_;
  Mutex mutex_;
  std::vector<DeviceEvent> events_;
};

TEST(NvmeMultipathDevice, RefusesPathsToDifferentNamespaces) {
  auto context = std::move(*Context::create());
  register_nvme_scheme(*context);
  const std::string uri = two_paths({}, "multipath=round-robin");
  other_of_this_case->namespace_id = 6;
  auto opened = open_device(*context, uri);
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code(), StatusCode::invalid_argument);
  EXPECT_NE(opened.error().to_string().find("is another than over the first path"),
            std::string::npos)
      << opened.error().to_string();
  target_of_this_case->namespace_id = 0;
  other_of_this_case->namespace_id = 0;
  opened = open_device(*context, uri);
  ASSERT_FALSE(opened);
  EXPECT_NE(opened.error().to_string().find("has no identifier"), std::string::npos)
      << opened.error().to_string();
}

TEST(NvmeMultipathDevice, ANamespaceIsOpenOnceForWritingOverWhateverPaths) {
  auto context = std::move(*Context::create());
  register_nvme_scheme(*context);
  const std::string uri = two_paths({}, "multipath=round-robin");
  const auto opened = open_device(*context, uri);
  ASSERT_TRUE(opened) << opened.error().to_string();
  nvme::TcpTarget third({.controller_id = 9}, *target_of_this_case);
  third.namespace_id = 5;
  const auto again =
      open_device(*context, "nvme:tcp:" + target_of_this_case->address() + "," + third.address() +
                                "/nqn.2014-08.org.example:disk/1?multipath=round-robin");
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code(), StatusCode::busy) << again.error().to_string();
}

TEST(NvmeMultipathDevice, APathToAnotherNamespaceIsNotUsed) {
  auto context = std::move(*Context::create());
  register_nvme_scheme(*context);
  const auto opened = open_device(*context, two_paths({}, "multipath=round-robin&keep_alive=1"));
  ASSERT_TRUE(opened) << opened.error().to_string();
  const auto channel = std::move(*(*opened)->open_channel());
  TestMemory memory(4096);
  iovec piece{memory.data(), memory.size()};
  Io io;
  io.op = Op::write;
  io.block_count = BlockCount{1};
  io.data = {&piece, 1};
  for (int i = 0; i < 4; ++i) ASSERT_EQ(run(*channel, io), StatusCode::ok);
  EXPECT_EQ(other_of_this_case->commands(), 2u);
  other_of_this_case->namespace_id = 6;
  other_of_this_case->tell_namespaces_changed();
  // Until the host has heard of it there is no knowing.
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  for (uint64_t before = 0; std::chrono::steady_clock::now() < end;) {
    before = other_of_this_case->commands();
    for (int i = 0; i < 4; ++i) ASSERT_EQ(run(*channel, io), StatusCode::ok);
    if (other_of_this_case->commands() == before) break;
    sleep_for(std::chrono::milliseconds(50));
  }
  const uint64_t before = other_of_this_case->commands();
  for (int i = 0; i < 8; ++i) ASSERT_EQ(run(*channel, io), StatusCode::ok);
  EXPECT_EQ(other_of_this_case->commands(), before);
}

TEST(NvmeMultipathDevice, TheLastPathIsNotWaitedForEver) {
  auto context = std::move(*Context::create());
  register_nvme_scheme(*context);
  nvme::TcpTarget target;
  const auto opened = open_device(*context, "nvme:tcp:" + target.address() +
                                                "/nqn.2014-08.org.example:disk/1"
                                                "?multipath=round-robin&keep_alive=1&reconnect=1");
  ASSERT_TRUE(opened) << opened.error().to_string();
  const auto channel = std::move(*(*opened)->open_channel());
  target.stop();
  TestMemory memory(4096);
  iovec piece{memory.data(), memory.size()};
  Io io;
  io.op = Op::read;
  io.block_count = BlockCount{1};
  io.data = {&piece, 1};
  EXPECT_EQ(run(*channel, io), StatusCode::io_error);
}

TEST(NvmeTcpDevice, AnotherNamespaceUnderItsNumberIsNotItsOwn) {
  auto context = std::move(*Context::create());
  register_nvme_scheme(*context);
  nvme::TcpTarget target;
  target.namespace_id = 5;
  const auto opened = open_device(
      *context, "nvme:tcp:" + target.address() + "/nqn.2014-08.org.example:disk/1?keep_alive=1");
  ASSERT_TRUE(opened) << opened.error().to_string();
  Events events(**opened);
  target.namespace_id = 6;
  target.tell_namespaces_changed();
  EXPECT_TRUE(events.wait_for(DeviceEvent::removed));
}

TEST(NvmeMultipathDevice, OpensWithThePathsThereAre) {
  auto context = std::move(*Context::create());
  register_nvme_scheme(*context);
  const std::string uri = two_paths({}, "multipath=queue-depth");
  target_of_this_case->stop();
  {
    const auto opened = open_device(*context, uri);
    ASSERT_TRUE(opened) << opened.error().to_string();
    EXPECT_EQ((*opened)->info().block_size, 4096u);
  }
  other_of_this_case->stop();
  const auto opened = open_device(*context, uri);
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code(), StatusCode::not_found) << opened.error().to_string();
  for (const std::string& wrong :
       {uri + "x", "nvme:tcp:" + other_of_this_case->address() + ",/nqn.x/1?multipath=round-robin",
        std::string("nvme:tcp:,/nqn.x/1")}) {
    const auto refused = open_device(*context, wrong);
    ASSERT_FALSE(refused) << wrong;
    EXPECT_EQ(refused.error().code(), StatusCode::invalid_argument) << refused.error().to_string();
  }
}

class NvmeDeviceTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string path = testing::TempDir() + "basalt-nvme-XXXXXX";
    ASSERT_NE(mkdtemp(path.data()), nullptr);
    directory = path;
    context = std::move(*Context::create());
    register_nvme_scheme(*context);
  }
  void TearDown() override {
    channel.reset();
    device.reset();
    served.reset();
    std::filesystem::remove_all(directory);
  }
  void open(const ModelOptions& options) {
    served = std::make_unique<ServedController>(directory, options);
    auto opened = open_device(*context, "nvme:vfio-user:" + served->path + "/1");
    ASSERT_TRUE(opened) << opened.error().to_string();
    device = std::move(*opened);
    channel = std::move(*device->open_channel());
  }
  Result<std::unique_ptr<Device>> open_namespace(const std::string& rest,
                                                 OpenMode mode = OpenMode::read_write) {
    DeviceOpenOptions options;
    options.mode = mode;
    return open_device(*context, "nvme:vfio-user:" + served->path + "/" + rest, options);
  }
  StatusCode run_io(Op op, uint64_t lba, uint64_t count, std::span<std::byte> data = {}) {
    iovec piece{data.data(), data.size()};
    Io io;
    io.op = op;
    io.lba = Lba{lba};
    io.block_count = BlockCount{count};
    if (!data.empty()) io.data = {&piece, 1};
    return run(*channel, io);
  }

  std::string directory;
  std::unique_ptr<Context> context;
  std::unique_ptr<ServedController> served;
  std::unique_ptr<Device> device;
  std::unique_ptr<Channel> channel;
};

TEST_F(NvmeDeviceTest, SaysWhatTheControllerSays) {
  ModelOptions options = namespace_of(4096);
  options.volatile_cache = true;
  options.atomic_write_blocks = 40;
  options.namespaces[0].optimal_io_boundary = 16;
  open(options);
  const DeviceInfo& info = device->info();
  EXPECT_EQ(info.block_size, 4096u);
  EXPECT_EQ(info.block_count.value, 16384u);
  EXPECT_TRUE(info.volatile_write_cache);
  EXPECT_EQ(info.atomic_write_blocks, 32u) << "a power of two of the 40";
  EXPECT_EQ(info.optimal_io_blocks, 16u);
  EXPECT_EQ(info.max_transfer_blocks, 32u);
  EXPECT_TRUE(info.native.has(Op::compare));
  EXPECT_TRUE(info.native.has(Op::discard));
}

TEST_F(NvmeDeviceTest, AtomicWritesEndAtTheirBoundary) {
  ModelOptions options = namespace_of(512);
  options.namespaces[0].atomic_write_blocks = 64;
  options.namespaces[0].atomic_boundary_blocks = 16;
  open(options);
  EXPECT_EQ(device->info().atomic_write_blocks, 16u);
}

TEST_F(NvmeDeviceTest, ComparesAndWritesAtOnceWhereTheControllerDoes) {
  ModelOptions options = namespace_of(512);
  options.atomic_write_blocks = 8;
  open(options);
  EXPECT_TRUE(device->info().native.has(Op::compare_and_write));
  EXPECT_EQ(device->info().max_compare_and_write_blocks, 8u);
  TestMemory memory(2 * 4096);
  memory.fill(3);
  std::memset(memory.data(), 0, 4096);
  EXPECT_EQ(run_io(Op::compare_and_write, 8, 8, memory.span()), StatusCode::ok);
  EXPECT_EQ(run_io(Op::compare_and_write, 8, 8, memory.span()), StatusCode::miscompare);
  EXPECT_EQ(run_io(Op::read, 8, 8, memory.span().first(4096)), StatusCode::ok);
  EXPECT_TRUE(std::equal(memory.data(), memory.data() + 4096, memory.data() + 4096));
  EXPECT_EQ(channel->stats().emulated, 0u);
}

TEST_F(NvmeDeviceTest, ElsewhereACompareAndWriteIsMadeOfTwo) {
  ModelOptions options = namespace_of(512);
  options.fused_compare_and_write = false;
  open(options);
  EXPECT_FALSE(device->info().native.has(Op::compare_and_write));
  EXPECT_TRUE(device->info().supported.has(Op::compare_and_write));
  EXPECT_EQ(device->info().max_compare_and_write_blocks, 0u);
}

TEST_F(NvmeDeviceTest, DiscardsReachTheController) {
  open(namespace_of(512));
  TestMemory memory(8192);
  memory.fill(3);
  ASSERT_EQ(run_io(Op::write, 8, 16, memory.span()), StatusCode::ok);
  ASSERT_EQ(run_io(Op::discard, 12, 8), StatusCode::ok);
  const auto media = served->model.media(1);
  EXPECT_TRUE(std::equal(memory.data(), memory.data() + 2048, media.begin() + 8 * 512));
  EXPECT_TRUE(std::all_of(media.begin() + 12 * 512, media.begin() + 20 * 512,
                          [](std::byte b) { return b == std::byte{0}; }));
  EXPECT_TRUE(std::equal(memory.data() + 6144, memory.data() + 8192, media.begin() + 20 * 512));
}

TEST_F(NvmeDeviceTest, NamespacesOfAControllerAreOpenAtOnce) {
  ModelOptions options = namespace_of(512);
  options.namespaces.push_back({.block_count = 1000, .block_size = 4096});
  open(options);
  auto second = open_namespace("2");
  ASSERT_TRUE(second) << second.error().to_string();
  EXPECT_EQ((*second)->info().block_size, 4096u);
  auto second_channel = std::move(*(*second)->open_channel());
  TestMemory memory(4096), back(4096);
  memory.fill(5);
  iovec piece{memory.data(), 4096};
  Io io;
  io.op = Op::write;
  io.lba = Lba{3};
  io.block_count = BlockCount{1};
  io.data = {&piece, 1};
  EXPECT_EQ(run(*second_channel, io), StatusCode::ok);
  // The first goes; the second has its controller still.
  channel.reset();
  device.reset();
  piece = {back.data(), 4096};
  io.op = Op::read;
  EXPECT_EQ(run(*second_channel, io), StatusCode::ok);
  EXPECT_TRUE(std::equal(memory.data(), memory.data() + 4096, back.data()));
  EXPECT_TRUE(std::all_of(served->model.media(1).begin(), served->model.media(1).begin() + 65536,
                          [](std::byte b) { return b == std::byte{0}; }));
}

TEST_F(NvmeDeviceTest, AHolderOfTheControllerKnowsWhetherOthersHaveIt) {
  ModelOptions options = namespace_of(512);
  options.namespaces.push_back({.block_count = 1000, .block_size = 4096});
  open(options);
  const auto lease = lease_nvme_controller(*context, *parse_uri("nvme:vfio-user:" + served->path));
  ASSERT_TRUE(lease) << lease.error().to_string();
  EXPECT_TRUE(lease->is_alone_with(1));
  EXPECT_FALSE(lease->is_alone_with(0));
  {
    const auto second = open_namespace("2");
    ASSERT_TRUE(second) << second.error().to_string();
    EXPECT_FALSE(lease->is_alone_with(1));
    EXPECT_TRUE(lease->is_alone_with(2));
  }
  EXPECT_TRUE(lease->is_alone_with(1));
  const auto other = lease_nvme_controller(*context, *parse_uri("nvme:vfio-user:" + served->path));
  ASSERT_TRUE(other) << other.error().to_string();
  EXPECT_FALSE(lease->is_alone_with(1));
}

TEST_F(NvmeDeviceTest, ANamespaceIsOpenOnceForWriting) {
  open(namespace_of(512));
  const auto again = open_namespace("1");
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code(), StatusCode::busy);
  EXPECT_NE(again.error().to_string().find("is open in this process for writing"),
            std::string::npos)
      << again.error().to_string();
  EXPECT_FALSE(open_namespace("1", OpenMode::read_only));
  channel.reset();
  device.reset();
  auto one = open_namespace("1", OpenMode::read_only),
       other = open_namespace("1", OpenMode::read_only);
  EXPECT_TRUE(one && other);
  const auto writer = open_namespace("1");
  ASSERT_FALSE(writer);
  EXPECT_EQ(writer.error().code(), StatusCode::busy);
}

TEST_F(NvmeDeviceTest, AControllerHasTheSameSettingsForAllItsNamespaces) {
  ModelOptions options = namespace_of(512);
  options.namespaces.push_back({.block_count = 1000, .block_size = 512});
  open(options);
  const auto other = open_namespace("2?depth=7");
  ASSERT_FALSE(other);
  EXPECT_EQ(other.error().code(), StatusCode::invalid_argument);
  EXPECT_NE(other.error().to_string().find("is open with depth=256"), std::string::npos)
      << other.error().to_string();
  EXPECT_TRUE(open_namespace("2?depth=256&interrupts=on"));
  const auto missing = open_namespace("3");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code(), StatusCode::not_found);
  // Nothing is left of the failed openings: with the last device the controller goes.
  channel.reset();
  device.reset();
  EXPECT_TRUE(open_namespace("2?depth=7"));
}

TEST_F(NvmeDeviceTest, AFlushedWriteSurvivesAPowerCut) {
  ModelOptions options = namespace_of(512);
  options.volatile_cache = true;
  open(options);
  TestMemory memory(512);
  memory.fill(5);
  ASSERT_EQ(run_io(Op::write, 1, 1, memory.span()), StatusCode::ok);
  ASSERT_EQ(run_io(Op::flush, 0, 0), StatusCode::ok);
  ASSERT_EQ(run_io(Op::write, 2, 1, memory.span()), StatusCode::ok);
  EXPECT_EQ(served->model.unflushed_blocks(1), 1u);
  served->model.power_cut();
  const auto media = served->model.media(1);
  EXPECT_TRUE(std::equal(memory.data(), memory.data() + 512, media.begin() + 512));
  EXPECT_FALSE(std::equal(memory.data(), memory.data() + 512, media.begin() + 1024));
}

TEST_F(NvmeDeviceTest, AControllerThatGoesFailsWhatIsThereAndWhatComes) {
  open(namespace_of(512));
  TestMemory memory(512);
  ASSERT_EQ(run_io(Op::read, 0, 1, memory.span()), StatusCode::ok);
  served->model.remove();
  EXPECT_EQ(run_io(Op::read, 0, 1, memory.span()), StatusCode::device_removed);
  EXPECT_EQ(run_io(Op::write, 0, 1, memory.span()), StatusCode::device_removed);
}

TEST_F(NvmeDeviceTest, AnotherSizeIsTold) {
  open(namespace_of(512));
  Events events(*device);
  served->model.resize_namespace(1, 200000);
  ASSERT_TRUE(events.wait_for(DeviceEvent::resized));
  EXPECT_EQ(device->info().block_count.value, 200000u);
  TestMemory memory(512);
  EXPECT_EQ(run_io(Op::read, 199999, 1, memory.span()), StatusCode::ok);
  EXPECT_EQ(run_io(Op::read, 200000, 1, memory.span()), StatusCode::out_of_range);
}

TEST_F(NvmeDeviceTest, ARemovalIsTold) {
  open(namespace_of(512));
  Events events(*device);
  served->model.remove();
  EXPECT_TRUE(events.wait_for(DeviceEvent::removed)) << "without a command that would notice";
}

TEST_F(NvmeDeviceTest, AFatalControllerIsResetBeneathTheChannel) {
  open(namespace_of(512));
  TestMemory memory(4096);
  memory.fill(1);
  served->model.faults().arm({.kind = nvme::model::FaultKind::fatal_status, .queue_id = 1});
  EXPECT_EQ(run_io(Op::write, 0, 8, memory.span()), StatusCode::ok);
  EXPECT_TRUE(std::equal(memory.data(), memory.data() + 4096, served->model.media(1).begin()));
}

TEST_F(NvmeDeviceTest, RefusesUrisThatNameNoNamespace) {
  served = std::make_unique<ServedController>(directory, namespace_of(512));
  const std::string good = "nvme:vfio-user:" + served->path;
  for (const std::string& uri :
       {good, good + "/", good + "/0", good + "/x", good + "/1x", good + "/4294967295",
        good + "/1?depth=0", good + "/1?depth=1024", good + "/1?size=1G",
        std::string("nvme:rdma:host/1"), std::string("nvme:pci:01:00.0/1")}) {
    const auto opened = open_device(*context, uri);
    ASSERT_FALSE(opened) << uri;
    EXPECT_EQ(opened.error().code(), StatusCode::invalid_argument) << opened.error().to_string();
  }
  const auto missing = open_device(*context, good + "/7");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code(), StatusCode::not_found);
  EXPECT_NE(missing.error().message().find("no namespace 7; there are: 1"), std::string::npos)
      << missing.error().to_string();
}

}  // namespace
}  // namespace basalt
