// DmaMap on functions that have one address for a region, and on those that have one for each hugepage of it.
#include "nvme/dma_map.h"

#include <basalt/context.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <map>
#include <memory>
#include <vector>

namespace basalt::nvme {
namespace {

constexpr size_t kPart = size_t{2} << 20;

// Answers the addresses it is given, in order; the rest of a function is not there.
class Addresses final : public PciFunction {
 public:
  explicit Addresses(size_t part_bytes) : part_bytes_(part_bytes) {}
  const std::string& name() const override { return name_; }
  Result<uint32_t> read32(uint32_t) override { return missing(); }
  Result<uint64_t> read64(uint32_t) override { return missing(); }
  Status write32(uint32_t, uint32_t) override { return missing().value(); }
  Status write64(uint32_t, uint64_t) override { return missing().value(); }
  std::span<volatile std::byte> doorbells() override { return {}; }
  size_t contiguous_dma_bytes() const override { return part_bytes_; }
  Result<uint64_t> map_dma(const DmaMemory& memory) override {
    if (next.empty()) return missing();
    const uint64_t address = next.front();
    next.erase(next.begin());
    mapped[address] = memory.bytes.size();
    return address;
  }
  Status unmap_dma(uint64_t address, size_t bytes) override {
    EXPECT_EQ(mapped[address], bytes);
    mapped.erase(address);
    return {};
  }
  uint32_t interrupt_count() const override { return 0; }
  Status set_interrupts(std::span<const int>) override { return missing().value(); }
  Status set_bus_master(bool) override { return missing().value(); }
  Status reset() override { return missing().value(); }
  int removal_fd() const override { return -1; }

  std::vector<uint64_t> next;
  std::map<uint64_t, size_t> mapped;

 private:
  static tl::unexpected<Status> missing() { return error(StatusCode::unsupported, "not here"); }
  const std::string name_ = "addresses";
  const size_t part_bytes_;
};

class DmaMapTest : public testing::Test {
 protected:
  void start(size_t part_bytes, std::vector<uint64_t> answers) {
    context = std::move(*Context::create());
    function = std::make_unique<Addresses>(part_bytes);
    function->next = std::move(answers);
    map = std::make_unique<DmaMap>(*function, context->memory(), context->log());
    void* at = ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    ASSERT_NE(at, MAP_FAILED);
    memory = {static_cast<std::byte*>(at), kBytes};
    region = *context->memory().register_region(memory);
  }
  void forget() { EXPECT_TRUE(context->memory().unregister_region(region).ok()); }
  void TearDown() override {
    map.reset();
    if (!memory.empty()) ::munmap(memory.data(), memory.size());
  }

  static constexpr size_t kBytes = 3 * kPart + 8192;
  std::unique_ptr<Context> context;
  std::unique_ptr<Addresses> function;
  std::unique_ptr<DmaMap> map;
  std::span<std::byte> memory;
  uint32_t region = 0;
};

TEST_F(DmaMapTest, ARegionWithOneAddressIsOnePiece) {
  start(0, {0x7000'0000});
  const DmaMap::Piece piece = map->find(memory.data() + 4096, kBytes - 4096);
  EXPECT_EQ(piece.iova, 0x7000'1000u);
  EXPECT_EQ(piece.bytes, kBytes - 4096);
  forget();
  EXPECT_TRUE(function->mapped.empty());
  EXPECT_EQ(map->find(memory.data(), 1).bytes, 0u);
}

TEST_F(DmaMapTest, PartsThatFollowEachOtherAreOnePieceAndOthersAreNot) {
  // The second follows the first; the third lies elsewhere, and so does the end.
  start(kPart, {0x4000'0000, 0x4000'0000 + kPart, 0x1000'0000, 0x9000'0000});
  EXPECT_EQ(function->mapped.size(), 4u);
  EXPECT_EQ(function->mapped[0x9000'0000], 8192u);
  const auto expect_piece = [&](size_t offset, size_t wanted, uint64_t iova, size_t bytes) {
    const DmaMap::Piece piece = map->find(memory.data() + offset, wanted);
    EXPECT_EQ(piece.iova, iova) << offset;
    EXPECT_EQ(piece.bytes, bytes) << offset;
    EXPECT_EQ(map->iova(memory.data() + offset, wanted),
              bytes == wanted ? iova : DmaMap::kUnmapped);
  };
  expect_piece(0, 4096, 0x4000'0000, 4096);
  expect_piece(kPart - 4096, 8192, 0x4000'0000 + kPart - 4096, 8192);
  expect_piece(512, kBytes - 512, 0x4000'0200, 2 * kPart - 512);
  expect_piece(2 * kPart - 4096, 8192, 0x4000'0000 + 2 * kPart - 4096, 4096);
  expect_piece(2 * kPart, kPart, 0x1000'0000, kPart);
  expect_piece(3 * kPart - 512, 1024, 0x1000'0000 + kPart - 512, 512);
  expect_piece(3 * kPart, 8192, 0x9000'0000, 8192);
  forget();
  EXPECT_TRUE(function->mapped.empty());
}

TEST_F(DmaMapTest, ARegionOfWhichAPartCannotBeMappedIsNotMappedAtAll) {
  start(kPart, {0x4000'0000, 0x5000'0000});
  EXPECT_TRUE(function->mapped.empty());
  EXPECT_EQ(map->find(memory.data(), 4096).bytes, 0u);
  forget();
}

}  // namespace
}  // namespace basalt::nvme
