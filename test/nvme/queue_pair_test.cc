// QueuePair: fused commands, when the controller goes down between the two.
// Method: a link and a queue of this test's own; the queue notes what it is given and completes nothing.
#include "nvme/queue_pair.h"

#include <gtest/gtest.h>

#include "nvme/commands.h"
#include "test/mem/steady_clock.h"

namespace basalt::nvme {
namespace {

class NotingQueue final : public CommandQueue {
 public:
  explicit NotingQueue(std::vector<Command>& posted) : posted_(posted) {}
  uint16_t depth() const override { return 8; }
  StatusCode post(uint16_t, uint16_t, const Request& request) noexcept override {
    posted_.push_back(request.command);
    return StatusCode::ok;
  }
  void ring() noexcept override {}
  unsigned reap(std::span<Completion>) noexcept override { return 0; }
  void sleep(Duration) noexcept override {}
  int event_fd() const override { return -1; }

 private:
  std::vector<Command>& posted_;
};

class NotingLink final : public ControllerLink {
 public:
  void expired(uint16_t, uint16_t, bool) override {}
  Result<std::unique_ptr<CommandQueue>> renew(uint16_t, uint32_t& made_in) override {
    made_in = epoch.load();
    return std::make_unique<NotingQueue>(posted);
  }
  void close(uint16_t, uint32_t) noexcept override {}
  Duration retry_delay(CompletionStatus) const override { return {}; }
  StatusCode gone_status() const override { return StatusCode::device_removed; }
  std::vector<Command> posted;
};

struct SilentLog final : LogSink {
  void log(LogLevel, std::string_view, std::string_view) override {}
};

TEST(QueuePairFused, ASecondWithoutItsFirstIsNotSent) {
  SteadyClock clock;
  SilentLog log;
  MemoryMap memory(clock);
  NotingLink link;
  QueuePair queue({.id = 1}, link, std::make_unique<NotingQueue>(link.posted), memory, clock, log);
  Request compare, write;
  unsigned done = 0;
  for (Request* request : {&compare, &write}) {
    request->user = &done;
    request->done = [](Request& ended) { ++*static_cast<unsigned*>(ended.user); };
  }
  compare.command = compare_command(1, 0, 1);
  write.command = write_command(1, 0, 1);
  fuse(compare.command, write.command);
  queue.submit(compare);
  link.epoch = 1;  // down, before the other
  queue.submit(write);
  queue.poll();
  link.epoch = 2;  // and up again
  for (int polls = 0; polls < 3; ++polls) queue.poll();
  ASSERT_EQ(done, 2u);
  EXPECT_EQ(compare.status, StatusCode::io_error);
  EXPECT_EQ(write.status, StatusCode::canceled);
  ASSERT_EQ(link.posted.size(), 1u);
  EXPECT_EQ(link.posted[0].flags & kFusedMask, kFusedFirst);
  EXPECT_EQ(queue.outstanding(), 0u);
  EXPECT_TRUE(queue.check_invariants());
}

}  // namespace
}  // namespace basalt::nvme
