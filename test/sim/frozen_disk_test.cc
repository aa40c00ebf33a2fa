// FrozenDisk: the states power loss may leave. Method: a disk driven by its command interface, frozen, and
// its survivors compared with what seeds make of the same disk after a cut, and with their hashes.
#include "sim/frozen_disk.h"

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>

#include "sim/sim_command.h"

namespace basalt::sim {
namespace {

void execute(SimDisk& disk, Op op, uint64_t lba, uint64_t count, char fill, bool fua = false) {
  std::vector<std::byte> buffer(count * kBlock, static_cast<std::byte>(fill));
  const iovec vector{buffer.data(), buffer.size()};
  Io io;
  io.op = op;
  io.lba = Lba{lba};
  io.block_count = BlockCount{count};
  io.flags.fua = fua;
  if (op == Op::write) io.data = {&vector, 1};
  const uint64_t point = disk.flush_point();
  ASSERT_EQ(disk.complete(io, disk.execute(io, point)), StatusCode::ok);
}
std::string content(const SimImage& image, uint64_t blocks) {
  std::string text;
  for (uint64_t i = 0; i < blocks; ++i) {
    std::byte byte{};
    image.read(i * kBlock, {&byte, 1});
    text += byte == std::byte{0} ? '.' : static_cast<char>(byte);
  }
  return text;
}
// Every state's content, with its hash.
std::map<std::string, std::set<uint64_t>> all_states(const FrozenDisk& disk, uint64_t blocks) {
  std::map<std::string, std::set<uint64_t>> states;
  for (uint64_t bits = 0; bits < uint64_t{1} << disk.units().size(); ++bits) {
    FrozenDisk::Selection kept(disk.units().size());
    for (size_t i = 0; i < kept.size(); ++i) kept[i] = (bits >> i & 1) != 0;
    states[content(disk.survivor(kept), blocks)].insert(disk.hash(kept));
  }
  return states;
}

TEST(FrozenDisk, HasEveryStateThatSeedsFindAndTellsThemApart) {
  for (const uint32_t atomic : {1u, 2u}) {
    SimOptions options;
    options.size_bytes = 1 << 20;
    options.atomic_blocks = atomic;
    SimDisk disk(options);
    execute(disk, Op::write, 0, 6, 'd');
    execute(disk, Op::flush, 0, 0, 0);
    execute(disk, Op::write, 1, 3, 'a');
    execute(disk, Op::write, 2, 2, 'b', true);  // durable: the older bytes there are void
    execute(disk, Op::write, 3, 2, 'c');
    const FrozenDisk frozen = disk.freeze();
    EXPECT_EQ(frozen.write_count(), 2u);
    const auto states = all_states(frozen, 7);
    disk.power_cut();
    std::set<std::string> found;
    for (uint64_t seed = 0; seed < 500; ++seed) {
      found.insert(content(disk.surviving_image(seed)->image(), 7));
    }
    std::set<std::string> known;
    std::set<uint64_t> hashes;
    for (const auto& [text, its_hashes] : states) {
      known.insert(text);
      EXPECT_EQ(its_hashes.size(), 1u) << text;
      hashes.insert(its_hashes.begin(), its_hashes.end());
    }
    EXPECT_EQ(known, found);
    EXPECT_EQ(hashes.size(), known.size());
  }
}

TEST(FrozenDisk, HashesDependOnBytesNotOnHowTheyGotThere) {
  SimDisk one(SimOptions{.size_bytes = 1 << 20}), other(SimOptions{.size_bytes = 1 << 20});
  execute(one, Op::write, 5, 2, 'x');
  execute(other, Op::write, 6, 1, 'x');
  execute(other, Op::flush, 0, 0, 0);
  execute(other, Op::write, 5, 1, 'x');
  const FrozenDisk a = one.freeze(), b = other.freeze();
  EXPECT_EQ(a.hash(a.select_writes(1)), b.hash(b.select_writes(1)));
  EXPECT_NE(a.hash(a.select_writes(0)), b.hash(b.select_writes(0)));
}

TEST(SimDisk, EveryMediaCommandIsShownBeforeItCompletes) {
  SimDisk disk(SimOptions{.size_bytes = 1 << 20});
  std::vector<size_t> writes;
  disk.on_command([&](const FrozenDisk& frozen) { writes.push_back(frozen.write_count()); });
  execute(disk, Op::write, 0, 1, 'a');
  execute(disk, Op::write, 1, 1, 'b');
  execute(disk, Op::flush, 0, 0, 0);
  execute(disk, Op::write, 2, 1, 'c', true);
  EXPECT_EQ(writes, (std::vector<size_t>{1, 2, 2, 1}));
  EXPECT_EQ(disk.freeze().write_count(), 0u);
}

TEST(SimDisk, IgnoresTheOneFlushItIsToldTo) {
  SimDisk disk(SimOptions{.size_bytes = 1 << 20});
  disk.ignore_flush(1);
  execute(disk, Op::write, 0, 1, 'a');
  execute(disk, Op::flush, 0, 0, 0);
  execute(disk, Op::write, 1, 1, 'b', true);  // this one
  EXPECT_EQ(disk.unflushed_writes(), 1u);
  execute(disk, Op::write, 2, 1, 'c');
  execute(disk, Op::flush, 0, 0, 0);
  EXPECT_EQ(disk.unflushed_writes(), 0u);
}

}  // namespace
}  // namespace basalt::sim
