// The controller model behind PciFunction, and in a thread of its own.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <atomic>

#include "nvme/model/model_function.h"
#include "nvme/model_host.h"

namespace basalt::nvme::model {
namespace {

// Whole pages of anonymous memory.
class Pages {
 public:
  explicit Pages(size_t count)
      : bytes_(count * kPage),
        memory_(
            ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) {}
  ~Pages() { ::munmap(memory_, bytes_); }
  std::span<std::byte> bytes() { return {static_cast<std::byte*>(memory_), bytes_}; }

 private:
  size_t bytes_;
  void* memory_;
};

TEST(ModelFunction, DeviceAddressesAreNotVirtualOnes) {
  ControllerModel model;
  ModelFunction function(model);
  Pages pages(4);
  const auto iova = function.map_dma({pages.bytes()});
  ASSERT_TRUE(iova);
  EXPECT_EQ(*iova, reinterpret_cast<uintptr_t>(pages.bytes().data()) + (uint64_t{1} << 44));
  EXPECT_EQ(function.map_dma({pages.bytes()}).error().code(), StatusCode::already_exists);
  EXPECT_EQ(function.counters().mapped_bytes, 4 * kPage);
  EXPECT_EQ(function.unmap_dma(*iova, kPage).code(), StatusCode::not_found);
  EXPECT_TRUE(function.unmap_dma(*iova, 4 * kPage).ok());
  EXPECT_EQ(function.map_dma({pages.bytes().subspan(8, kPage)}).error().code(),
            StatusCode::invalid_argument);
  EXPECT_EQ(function.counters().mapped_bytes, 0u);
}

TEST(ModelFunction, RefusesMemoryAsItsModeSays) {
  ControllerModel model;
  ModelFunction function(model, {.dma_mode = DmaMode::none, .max_mapped_bytes = 2 * kPage});
  Pages pages(4);
  EXPECT_EQ(function.map_dma({pages.bytes()}).error().code(), StatusCode::no_space);
  function.set_dma_mode(DmaMode::files_only);
  EXPECT_EQ(function.map_dma({pages.bytes().first(kPage)}).error().code(), StatusCode::unsupported);
  EXPECT_TRUE(function.map_dma({pages.bytes().first(kPage), 0, 0}));
  function.set_dma_mode(DmaMode::any);
  EXPECT_TRUE(function.map_dma({pages.bytes().subspan(kPage, kPage)}));
  EXPECT_EQ(function.map_dma({pages.bytes().subspan(2 * kPage, kPage)}).error().code(),
            StatusCode::no_space);
  EXPECT_EQ(function.counters().dma_refusals, 3u);
}

TEST(ModelFunction, CountsAccessesAndPassesThemOn) {
  ControllerModel model;
  ModelFunction function(model, {.mapped_doorbells = false});
  EXPECT_TRUE(function.doorbells().empty());
  EXPECT_EQ(function.read32(8).value(), 0x20000u);
  EXPECT_EQ(Capabilities{function.read64(0).value()}.max_queue_entries(), 1024u);
  EXPECT_TRUE(function.write64(0x28, 0x12'3456'7000).ok());
  EXPECT_EQ(function.read64(0x28).value(), 0x12'3456'7000u);
  EXPECT_TRUE(function.write32(kFirstDoorbell, 3).ok());
  const FunctionCounters counters = function.counters();
  EXPECT_EQ(counters.register_reads, 3u);
  EXPECT_EQ(counters.register_writes, 1u);
  EXPECT_EQ(counters.doorbell_writes, 1u);
  EXPECT_EQ(function.interrupt_count(), 17u);
  const std::vector<int> too_many(18, -1);
  EXPECT_EQ(function.set_interrupts(too_many).code(), StatusCode::invalid_argument);
  EXPECT_TRUE(function.set_interrupts({}).ok());
}

TEST(ModelFunction, RemovalIsSeenAsOnesOrAsErrors) {
  ControllerModel model;
  {
    ModelFunction function(model);
    model.remove();
    EXPECT_EQ(function.read32(0x1c).value(), 0xffff'ffffu);
    model.plug_in();
  }
  ModelFunction function(model,
                         {.after_removal = AfterRemoval::device_removed, .function_reset = false});
  EXPECT_EQ(function.reset().code(), StatusCode::unsupported);
  model.remove();
  EXPECT_EQ(function.read32(0x1c).error().code(), StatusCode::device_removed);
  EXPECT_EQ(function.write32(0x14, 0).code(), StatusCode::device_removed);
}

// A host that waits and a model that runs by itself; memory comes and goes meanwhile.
TEST(ModelThread, CommandsCompleteWithoutSteps) {
  for (const Duration sleep : {Duration::zero(), Duration(std::chrono::microseconds(50))}) {
    ControllerModel model({.namespaces = {{.block_count = 64}}});
    ModelHost host(model);
    const ModelThread thread(model, sleep);
    ASSERT_TRUE(host.bring_up());
    const auto run = [&](ModelHost::Queue& queue, const Command& command) {
      host.submit(queue, command);
      host.ring(queue);
      while (true) {
        if (const auto completion = host.poll(queue)) return code_of(completion->status());
        yield_thread();
      }
    };
    ModelHost::Queue queue = host.make_queue(1, 8);
    ASSERT_EQ(run(host.admin, ModelHost::create_cq(queue, 0, 0)), 0u);
    ASSERT_EQ(run(host.admin, ModelHost::create_sq(queue, 1)), 0u);
    Pages other(1);
    for (int i = 0; i < 300; ++i) {
      Command read = ModelHost::io_command(IoOpcode::read, 0, 8);
      read.data.prp1 = 0x4000;
      EXPECT_EQ(run(queue, read), code_of(kDataTransferError));
      ASSERT_TRUE(model.map(0x4000, other.bytes()).ok());
      EXPECT_EQ(run(queue, read), 0u);
      ASSERT_TRUE(model.unmap(0x4000, kPage).ok());
    }
  }
}

}  // namespace
}  // namespace basalt::nvme::model
