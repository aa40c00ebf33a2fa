// Arena and Buffer: allocation, alignment, exhaustion, sharing by descriptor, registration.
#include "mem/arena.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <random>
#include <vector>

#include "mem/memory_map.h"
#include "test/mem/steady_clock.h"

namespace basalt {
namespace {

TEST(Arena, AllocatesAligned) {
  auto arena = Arena::create({.bytes = 1 << 20});
  ASSERT_TRUE(arena) << arena.error().to_string();
  EXPECT_EQ((*arena)->free_bytes(), size_t{1} << 20);
  for (const size_t alignment : {1, 2, 64, 512, 4096}) {
    for (const size_t bytes : {1, 63, 64, 65, 511, 512, 513, 4095, 4096, 4097}) {
      auto buffer = (*arena)->allocate(bytes, alignment);
      ASSERT_TRUE(buffer) << buffer.error().to_string();
      EXPECT_GE(buffer->size(), bytes);
      EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer->data()) % alignment, 0u);
      std::memset(buffer->data(), 1, buffer->size());
    }
  }
  EXPECT_EQ((*arena)->free_bytes(), size_t{1} << 20) << "buffers give their memory back";
}

// Goal: what makes no sense, and what does not fit, is refused with the figures.
TEST(Arena, RefusesWithReasons) {
  EXPECT_EQ(Arena::create({.bytes = 0}).error().code(), StatusCode::invalid_argument);
  auto arena = Arena::create({.bytes = 64 << 10});
  ASSERT_TRUE(arena);
  for (const size_t alignment : {size_t{0}, size_t{3}, size_t{8192}}) {
    EXPECT_EQ((*arena)->allocate(64, alignment).error().code(), StatusCode::invalid_argument);
  }
  EXPECT_EQ((*arena)->allocate(0).error().code(), StatusCode::invalid_argument);
  for (const size_t bytes : {size_t{(64 << 10) + 1}, ~size_t{0}, ~size_t{0} - 63}) {
    EXPECT_EQ((*arena)->allocate(bytes).error().code(), StatusCode::no_space);
  }
  auto all = (*arena)->allocate(64 << 10);
  ASSERT_TRUE(all);
  const auto more = (*arena)->allocate(1);
  ASSERT_FALSE(more);
  EXPECT_NE(more.error().message().find("largest free piece is 0 B"), std::string_view::npos);
}

// Goal: buffers never overlap, in any order of allocating and freeing, and the space joins again.
TEST(Arena, NeverOverlaps) {
  auto arena = Arena::create({.bytes = 256 << 10});
  ASSERT_TRUE(arena);
  std::mt19937 random(1);
  struct Held {
    Buffer buffer;
    std::byte tag;
  };
  std::vector<Held> held;
  for (int round = 0; round < 5000; ++round) {
    if (!held.empty() && random() % 2 == 0) {
      const size_t which = random() % held.size();
      for (const std::byte byte : held[which].buffer.span()) ASSERT_EQ(byte, held[which].tag);
      std::swap(held[which], held.back());
      held.pop_back();
      continue;
    }
    auto buffer = (*arena)->allocate(1 + random() % 9000, size_t{1} << random() % 13);
    if (!buffer) continue;
    const auto tag = static_cast<std::byte>(random());
    std::memset(buffer->data(), static_cast<int>(tag), buffer->size());
    held.push_back({std::move(*buffer), tag});
  }
  held.clear();
  EXPECT_TRUE((*arena)->allocate(256 << 10)) << "the free space is one piece again";
}

// Goal: the memory can be mapped elsewhere through its descriptor.
TEST(Arena, IsShared) {
  auto arena = Arena::create({.bytes = 8192, .hugepages = Hugepages::no});
  ASSERT_TRUE(arena);
  std::strcpy(reinterpret_cast<char*>((*arena)->memory().data()), "hello");
  void* again = mmap(nullptr, 8192, PROT_READ, MAP_SHARED, (*arena)->fd(), 0);
  ASSERT_NE(again, MAP_FAILED);
  EXPECT_STREQ(static_cast<char*>(again), "hello");
  munmap(again, 8192);
}

// Goal: hugepages and a node are used where they are, and their absence is no error.
TEST(Arena, WorksWithoutHugepagesOrNode) {
  auto arena = Arena::create({.bytes = (2 << 20) + 1, .numa_node = 0});
  ASSERT_TRUE(arena) << arena.error().to_string();
  EXPECT_GE((*arena)->memory().size(), size_t{(2 << 20) + 1});
  EXPECT_EQ((*arena)->memory().size() % (*arena)->page_bytes(), 0u);
  EXPECT_TRUE(Arena::create({.bytes = 4096, .numa_node = 1023}));
}

TEST(Arena, RegistersItself) {
  SteadyClock clock;
  MemoryMap map(clock);
  {
    auto arena = Arena::create({.bytes = 1 << 20, .map = &map});
    ASSERT_TRUE(arena);
    auto buffer = (*arena)->allocate(4096);
    EXPECT_NE(map.find(buffer->data(), 4096), MemoryMap::kNotFound);
    ASSERT_EQ(map.regions().size(), 1u);
    EXPECT_EQ(map.regions()[0].fd, (*arena)->fd());
  }
  EXPECT_TRUE(map.regions().empty());
}

TEST(Buffer, Moves) {
  auto arena = Arena::create({.bytes = 8192});
  ASSERT_TRUE(arena);
  Buffer a = std::move(*(*arena)->allocate(4096));
  Buffer b = std::move(a);
  EXPECT_FALSE(a);
  EXPECT_TRUE(b);
  Buffer c = std::move(*(*arena)->allocate(4096));
  EXPECT_EQ((*arena)->free_bytes(), 0u);
  c = std::move(b);
  EXPECT_EQ((*arena)->free_bytes(), 4096u) << "assigning releases what was held";
}

}  // namespace
}  // namespace basalt
