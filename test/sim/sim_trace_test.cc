// SimTrace: every command of a disk is in it, in the order of execution and completion; where two part is told.
#include "sim/sim_trace.h"

#include <gtest/gtest.h>

#include "sim/sim_command.h"

namespace basalt::sim {
namespace {

TEST(SimTrace, HasExecutionsAndCompletionsInTheirOrder) {
  SimOptions options = small();
  options.trace = std::make_shared<SimTrace>();
  SimDisk disk(options);
  Command first(Op::write, 8, 2, 'a'), second(Op::write, 0, 1, 'b', true);
  const auto one = disk.execute(first.io, 0);
  const auto two = disk.execute(second.io, 0);
  disk.complete(second.io, two);
  disk.complete(first.io, one);
  disk.inject({.ops = {Op::flush}, .first = Lba{0}, .block_count = BlockCount{1}});
  Command flushing(Op::flush, 0, 0);
  EXPECT_EQ(finish(disk, flushing), StatusCode::io_error);
  EXPECT_EQ(content(disk, 8, 1), "a");
  disk.power_cut();
  disk.surviving_image(1)->power_cut();
  Command late(Op::read, 8, 1);
  EXPECT_EQ(finish(disk, late), StatusCode::device_removed);
  char a2[9], b[9], a1[9];
  std::snprintf(a2, sizeof a2, "%08x", crc_of(first.io));
  std::snprintf(b, sizeof b, "%08x", crc_of(second.io));
  Command single(Op::write, 8, 1, 'a');
  std::snprintf(a1, sizeof a1, "%08x", crc_of(single.io));
  EXPECT_EQ(options.trace->text(), "> 1 write 8+2 crc " + std::string(a2) +
                                       "\n"
                                       "> 2 write 0+1 fua crc " +
                                       b +
                                       "\n"
                                       "< 2 ok\n"
                                       "< 1 ok\n"
                                       "> 3 flush\n"
                                       "< 3 I/O error\n"
                                       "> 4 read 8+1 crc " +
                                       a1 +
                                       "\n"
                                       "< 4 ok\n"
                                       "> 5 read 8+1\n"
                                       "< 5 device removed\n");
}

TEST(SimTrace, TellsWhereTwoPart) {
  EXPECT_EQ(first_difference("one\ntwo\n", "one\ntwo\n"), "");
  EXPECT_EQ(first_difference("one\ntwo\nthree\n", "one\ntoo\nthree\n"),
            "line 2: \"two\" against \"too\"");
  EXPECT_EQ(first_difference("one\n", "one\ntwo\n"), "line 2: \"(end)\" against \"two\"");
  EXPECT_EQ(first_difference("xne\n", "one\n"), "line 1: \"xne\" against \"one\"");
  EXPECT_EQ(first_difference("one", "one\n"), "line 1: \"(end)\" against \"one\"");
}

}  // namespace
}  // namespace basalt::sim
