// Commands for a SimDisk without a device over it, so that the moments of execution and completion are the
// test's; and what seeds make of the disk after a power cut. A block is filled with one byte, and written
// as that character, '.' for zero.
#pragma once

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include "sim/sim_disk.h"

namespace basalt::sim {

inline constexpr uint32_t kBlock = 512;
inline constexpr uint64_t kSeeds = 200;

// A command with its buffer: blocks filled with one byte.
struct Command {
  Command(Op op, uint64_t lba, uint64_t count, unsigned fill = 0, bool fua = false)
      : buffer(count * kBlock, static_cast<std::byte>(fill)), vector{buffer.data(), buffer.size()} {
    io.op = op;
    io.lba = Lba{lba};
    io.block_count = BlockCount{count};
    io.flags.fua = fua;
    if (op == Op::write || op == Op::read) io.data = {&vector, 1};
  }
  std::vector<std::byte> buffer;
  iovec vector;
  Io io;
};

inline StatusCode finish(SimDisk& disk, Command& command) {
  const uint64_t point = disk.flush_point();
  return disk.complete(command.io, disk.execute(command.io, point));
}
inline void write(SimDisk& disk, uint64_t lba, uint64_t count, unsigned fill, bool fua = false) {
  Command command(Op::write, lba, count, fill, fua);
  ASSERT_EQ(finish(disk, command), StatusCode::ok);
}
inline void flush(SimDisk& disk) {
  Command command(Op::flush, 0, 0);
  ASSERT_EQ(finish(disk, command), StatusCode::ok);
}
// The first byte of each block of [lba, lba+count).
inline std::string content(SimDisk& disk, uint64_t lba, uint64_t count) {
  Command command(Op::read, lba, count);
  EXPECT_EQ(finish(disk, command), StatusCode::ok);
  std::string result;
  for (uint64_t i = 0; i < count; ++i) {
    const char first = static_cast<char>(command.buffer[i * kBlock]);
    for (size_t j = 1; j < kBlock; ++j) {
      EXPECT_EQ(static_cast<char>(command.buffer[i * kBlock + j]), first) << "torn inside a block";
    }
    result += first == 0 ? '.' : first;
  }
  return result;
}
// Everything that seeds can make of [lba, lba+count) after a cut.
inline std::set<std::string> outcomes(SimDisk& disk, uint64_t lba, uint64_t count) {
  disk.power_cut();
  std::set<std::string> result;
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    const auto survivor = disk.surviving_image(seed);
    result.insert(content(*survivor, lba, count));
  }
  return result;
}
using Set = std::set<std::string>;
inline SimOptions small() { return {.size_bytes = 1 << 20}; }

}  // namespace basalt::sim
