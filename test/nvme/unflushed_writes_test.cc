// UnflushedWrites: which writes a flush covers.
#include "nvme/unflushed_writes.h"

#include <gtest/gtest.h>

namespace basalt::nvme {
namespace {

TEST(UnflushedWrites, AFlushCoversWhatHadCompletedWhenItWasSent) {
  UnflushedWrites writes(3);
  EXPECT_FALSE(writes.any());
  writes.wrote(1, 1);
  EXPECT_TRUE(writes.any());
  const uint64_t first = writes.flush_begins();
  writes.flushed(1, first);
  EXPECT_FALSE(writes.any());
  const uint64_t second = writes.flush_begins();
  writes.wrote(2, 1);  // while the flush is on its way
  writes.flushed(1, second);
  EXPECT_TRUE(writes.any());
  writes.flushed(1, writes.flush_begins());
  EXPECT_FALSE(writes.any());
}

TEST(UnflushedWrites, FlushesMayCompleteInAnyOrder) {
  UnflushedWrites writes(2);
  const uint64_t first = writes.flush_begins();
  writes.wrote(1, 1);
  const uint64_t second = writes.flush_begins();
  writes.flushed(1, second);
  writes.flushed(1, first);
  EXPECT_FALSE(writes.any());
}

TEST(UnflushedWrites, AFlushIsOfItsNamespaceAlone) {
  UnflushedWrites writes(4);
  writes.wrote(1, 1);
  writes.wrote(2, 2);
  writes.flushed(1, writes.flush_begins());
  EXPECT_TRUE(writes.any());
  writes.flushed(2, writes.flush_begins());
  EXPECT_FALSE(writes.any());
  // A queue that is used for one namespace after the other, flushed between, is like two.
  writes.wrote(1, 2);
  writes.flushed(2, writes.flush_begins());
  EXPECT_FALSE(writes.any());
  // One that mixes them takes a flush of all.
  writes.wrote(3, 1);
  writes.wrote(3, 2);
  writes.flushed(1, writes.flush_begins());
  writes.flushed(2, writes.flush_begins());
  EXPECT_TRUE(writes.any());
  writes.flushed(kAllNamespaces, writes.flush_begins());
  EXPECT_FALSE(writes.any());
}

}  // namespace
}  // namespace basalt::nvme
