// What becomes of commands, queue pairs and the controller when the controller does something wrong: for each
// planted fault of the model the outcome that docs/guide/nvme.md names, and no hang.
#include <gtest/gtest.h>

#include <algorithm>

#include "nvme/driver.h"

namespace basalt::nvme {
namespace {

using namespace std::chrono_literals;
using model::Fault;
using model::FaultKind;
using model::Retry;
using model::with_retry;

// One command meets one fault.
struct Outcome {
  const char* name;
  Fault fault;
  StatusCode status = StatusCode::ok;
  uint64_t resets = 0;
  uint64_t stray = 0;
  uint64_t retried = 0;
  bool ends = false;  // everything after answers the same
};
const Outcome kOutcomes[] = {
    {.name = "StatusThatPasses",
     .fault = {.kind = FaultKind::status,
               .status = with_retry(kNamespaceNotReady, Retry::allowed, 1)},
     .retried = 1},
    {.name = "StatusThatStays",
     .fault = {.kind = FaultKind::status,
               .times = Fault::kForEver,
               .status = with_retry(kInternalError, Retry::allowed)},
     .status = StatusCode::io_error,
     .retried = 4},
    {.name = "StatusNotToBeRetried",
     .fault = {.kind = FaultKind::status,
               .status = with_retry(kUnrecoveredReadError, Retry::forbidden)},
     .status = StatusCode::io_error},
    {.name = "LostCommand",
     .fault = {.kind = FaultKind::lost_command},
     .status = StatusCode::timed_out,
     .resets = 1},
    {.name = "LostCompletion",
     .fault = {.kind = FaultKind::lost_completion},
     .status = StatusCode::timed_out,
     .resets = 1},
    {.name = "DelayedCompletion",
     .fault = {.kind = FaultKind::delayed_completion, .delay_steps = 50}},
    {.name = "DelayedBeyondItsTime",
     .fault = {.kind = FaultKind::delayed_command},
     .status = StatusCode::timed_out},
    {.name = "DuplicateCompletion", .fault = {.kind = FaultKind::duplicate_completion}, .stray = 1},
    {.name = "WrongCid",
     .fault = {.kind = FaultKind::wrong_cid, .value = 0xfffe},
     .status = StatusCode::timed_out,
     .resets = 1,
     .stray = 1},
    {.name = "WrongQueue",
     .fault = {.kind = FaultKind::wrong_sq_id, .value = 77},
     .status = StatusCode::timed_out,
     .resets = 1,
     .stray = 1},
    {.name = "GarbageQueueHead", .fault = {.kind = FaultKind::garbage_sq_head, .value = 0xabcd}},
    {.name = "StalePhase",
     .fault = {.kind = FaultKind::stale_phase},
     .status = StatusCode::timed_out,
     .resets = 1},
    {.name = "NoInterrupt", .fault = {.kind = FaultKind::no_interrupt}},
    {.name = "FatalStatus", .fault = {.kind = FaultKind::fatal_status}, .resets = 1, .retried = 1},
    {.name = "QueueSilent", .fault = {.kind = FaultKind::queue_silent, .times = 100}},
    {.name = "PowerCut",
     .fault = {.kind = FaultKind::power_cut},
     .status = StatusCode::io_error,
     .ends = true},
    {.name = "Removal",
     .fault = {.kind = FaultKind::removal},
     .status = StatusCode::device_removed,
     .ends = true},
    {.name = "ShortRead", .fault = {.kind = FaultKind::short_read, .value = 100}},
    {.name = "CorruptRead", .fault = {.kind = FaultKind::corrupt_read, .value = 5}},
};

class OneFault : public testing::TestWithParam<Outcome> {};
INSTANTIATE_TEST_SUITE_P(Planted, OneFault, testing::ValuesIn(kOutcomes),
                         [](const auto& param_info) { return std::string(param_info.param.name); });

TEST_P(OneFault, EndsAsDocumented) {
  const Outcome& expected = GetParam();
  Driver driver;
  ControllerOptions options = Driver::quick();
  // A fatal controller is found by the watch, once a second; its commands must not be late before that.
  if (expected.fault.kind == FaultKind::fatal_status) options.command_timeout = 10s;
  ASSERT_TRUE(driver.start(options).ok());
  const auto data = driver.buffer(4096);
  Fault fault = expected.fault;
  fault.queue_id = 1;
  driver.model.faults().arm(fault);
  EXPECT_EQ(driver.run(read_command(1, 0, 8), data), expected.status);
  EXPECT_GE(driver.model.faults().struck(fault.kind), 1u);
  EXPECT_EQ(driver.controller->reset_count(), expected.resets) << driver.log.text();
  EXPECT_EQ(driver.queue->counters().stray, expected.stray);
  EXPECT_EQ(driver.queue->counters().retried, expected.retried);
  EXPECT_EQ(driver.queue->outstanding(), 0u);
  EXPECT_TRUE(driver.queue->check_invariants());
  // And what comes after is served, unless the controller is gone.
  driver.model.faults().clear();
  for (int i = 0; i < 100; ++i) {
    ASSERT_EQ(driver.run(read_command(1, 8, 8), data),
              expected.ends ? expected.status : StatusCode::ok);
  }
}

// Many commands in flight, every one of which comes back once.
TEST(Faults, ResetsUnderLoadLoseNothing) {
  Driver driver({.namespaces = {{.block_count = 4096}}});
  ControllerOptions options = Driver::quick();
  options.command_timeout = 30s;
  ASSERT_TRUE(driver.start(options).ok());
  constexpr unsigned kCommands = 2048;
  const auto data = driver.buffer(kCommands * 512);
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::byte>(i / 512 * 7 + i);
  std::vector<std::unique_ptr<Waited>> all;
  std::atomic<bool> stop{false};
  std::thread resetter([&] {
    for (int i = 0; i < 10 && !stop; ++i) {
      EXPECT_TRUE(driver.controller->reset("under load").ok());
      std::this_thread::sleep_for(2ms);
    }
  });
  for (unsigned i = 0; i < kCommands; ++i) {
    all.push_back(std::make_unique<Waited>(write_command(1, i, 1), data.subspan(i * 512, 512)));
    driver.queue->submit(all.back()->request);
    if (i % 16 == 0) driver.queue->wait(1ms);
  }
  for (const auto& waited : all) ASSERT_TRUE(driver.wait(*waited));
  stop = true;
  resetter.join();
  // A command that every reset hit has used its attempts up; the others are written.
  const auto media = driver.model.media(1);
  for (unsigned i = 0; i < kCommands; ++i) {
    if (all[i]->request.status != StatusCode::ok) {
      EXPECT_EQ(all[i]->request.status, StatusCode::io_error);
      EXPECT_EQ(all[i]->request.attempts, 5);
      continue;
    }
    EXPECT_TRUE(
        std::equal(data.begin() + i * 512, data.begin() + (i + 1) * 512, media.begin() + i * 512));
  }
  EXPECT_GE(driver.controller->reset_count(), 1u);
  EXPECT_EQ(driver.queue->counters().stray, 0u);
}

// Completed, not flushed, then lost: the flush that comes after must not succeed.
TEST(Faults, AFlushAfterLostPowerFails) {
  Driver driver({.volatile_cache = true});
  ASSERT_TRUE(driver.start().ok());
  const auto data = driver.buffer(512);
  ASSERT_EQ(driver.run(write_command(1, 0, 1), data), StatusCode::ok);
  driver.model.power_cut();
  EXPECT_EQ(driver.run(flush_command(1)), StatusCode::io_error) << driver.log.text();
  EXPECT_EQ(driver.controller->reset("for a test").code(), StatusCode::io_error);
}

TEST(Faults, AnAbortThatIsIgnoredLeadsToAReset) {
  Driver driver;
  ASSERT_TRUE(driver.start().ok());
  const auto data = driver.buffer(512);
  driver.model.faults().arm({.kind = FaultKind::delayed_command, .queue_id = 1});
  driver.model.faults().arm({.kind = FaultKind::abort_ignored, .times = Fault::kForEver});
  EXPECT_EQ(driver.run(read_command(1, 0, 1), data), StatusCode::timed_out);
  EXPECT_EQ(driver.controller->reset_count(), 1u);
}

// What must not be repeated is not: the model carries the command out and loses the answer to the reset.
TEST(Faults, AFusedCommandIsNotSentAgain) {
  Driver driver;
  ASSERT_TRUE(driver.start().ok());
  const auto data = driver.buffer(512);
  driver.model.faults().arm({.kind = FaultKind::lost_completion,
                             .queue_id = 1,
                             .opcode = static_cast<uint8_t>(IoOpcode::write)});
  Command compare = compare_command(1, 0, 1), write = write_command(1, 0, 1);
  compare.flags = kFusedFirst;
  write.flags = kFusedSecond;
  Waited first(compare, data), second(write, data);
  driver.queue->submit(first.request);
  driver.queue->submit(second.request);
  ASSERT_TRUE(driver.wait(first));
  ASSERT_TRUE(driver.wait(second));
  EXPECT_EQ(first.request.status, StatusCode::ok);
  EXPECT_EQ(second.request.status, StatusCode::timed_out);
  EXPECT_EQ(driver.queue->counters().retried, 0u);
  EXPECT_EQ(driver.model.counters().writes, 1u);
}

// ---- Bring-up

struct Refusal {
  const char* name;
  Fault fault;
  StatusCode status;
  const char* said;
};
std::vector<std::byte> one_byte(uint8_t value) { return {std::byte{value}}; }
std::vector<Refusal> refusals() {
  return {
      {"NeverReady",
       {.kind = FaultKind::never_ready},
       StatusCode::timed_out,
       "enable: not ready after"},
      {"FatalOnEnable",
       {.kind = FaultKind::fatal_on_enable},
       StatusCode::io_error,
       "fatal error (CSTS"},
      {"RemovalByAccess",
       {.kind = FaultKind::removal_by_access, .skip = 5},
       StatusCode::device_removed,
       "all ones"},
      {"IdentifyNotAnswered",
       {.kind = FaultKind::admin_timeout},
       StatusCode::timed_out,
       "identify (0x06): not answered within"},
      {"NoQueueEntries",
       {.kind = FaultKind::register_value,
        .times = 2,
        .selector = 0,
        .value = 0x00f0'0020'0400'0000},
       StatusCode::corruption,
       "CAP.MQES"},
      {"EntriesTooLarge",
       {.kind = FaultKind::identify_damaged, .selector = 1, .offset = 512, .bytes = one_byte(0x77)},
       StatusCode::unsupported,
       "SQES"},
      {"NamespacesOutOfOrder",
       {.kind = FaultKind::identify_damaged,
        .selector = 2,
        .offset = 0,
        .bytes = {std::byte{5}, {}, {}, {}, std::byte{3}, {}, {}, {}}},
       StatusCode::corruption,
       "the list of namespaces goes from 5 to 3"},
  };
}
class BringUp : public testing::TestWithParam<size_t> {};
INSTANTIATE_TEST_SUITE_P(Planted, BringUp, testing::Range<size_t>(0, refusals().size()),
                         [](const auto& param_info) {
                           return std::string(refusals()[param_info.param].name);
                         });

TEST_P(BringUp, SaysWhatItWaitedFor) {
  const Refusal expected = refusals()[GetParam()];
  Driver driver({.ready_timeout_halves = 1});
  driver.model.faults().arm(expected.fault);
  const Status status = driver.start();
  EXPECT_EQ(status.code(), expected.status) << status.to_string();
  EXPECT_NE(status.message().find(expected.said), std::string_view::npos) << status.to_string();
  EXPECT_EQ(status.message().substr(0, 6), "model:") << "the controller is named";
}

TEST(Faults, ADamagedNamespaceIsLeftOut) {
  Driver driver({.namespaces = {{}, {}}});
  driver.model.faults().arm(
      {.kind = FaultKind::identify_damaged, .selector = 0, .offset = 26, .bytes = one_byte(0x0f)});
  ASSERT_TRUE(driver.start().ok());
  ASSERT_EQ(driver.controller->namespaces().size(), 1u);
  EXPECT_EQ(driver.controller->namespaces()[0].nsid, 2u);
  EXPECT_NE(driver.log.text().find("namespace 1: uses format 15"), std::string::npos);
}

TEST(Faults, FewerQueuesAreTakenAsTheyAre) {
  Driver driver;
  driver.model.faults().arm({.kind = FaultKind::fewer_queues, .value = 1});
  ASSERT_TRUE(driver.start().ok());
  EXPECT_EQ(driver.controller->queue_pair_limit(), 1);
  EXPECT_EQ(driver.controller->open_queue_pair().error().code(), StatusCode::no_space);
}

TEST(Faults, AQueuePairWithoutAQueueAfterAResetFailsItsCommands) {
  Driver driver;
  ASSERT_TRUE(driver.start().ok());
  auto second = driver.controller->open_queue_pair();
  ASSERT_TRUE(second);
  driver.model.faults().arm({.kind = FaultKind::fewer_queues, .value = 1});
  ASSERT_TRUE(driver.controller->reset("for a test").ok());
  const auto data = driver.buffer(512);
  EXPECT_EQ(driver.run(read_command(1, 0, 1), data), StatusCode::ok);
  Waited waited(read_command(1, 0, 1), data);
  (*second)->submit(waited.request);
  for (int i = 0; i < 100 && !waited.done; ++i) (*second)->wait(10ms);
  ASSERT_TRUE(waited.done);
  EXPECT_EQ(waited.request.status, StatusCode::no_space);
}

TEST(Faults, AControllerThatStaysEnabledIsResetAsAFunction) {
  Driver driver({.ready_timeout_halves = 1});
  ASSERT_TRUE(driver.start().ok());
  driver.model.faults().arm({.kind = FaultKind::never_unready});
  EXPECT_TRUE(driver.controller->reset("for a test").ok()) << driver.log.text();
  const auto data = driver.buffer(512);
  EXPECT_EQ(driver.run(read_command(1, 0, 1), data), StatusCode::ok);
}

TEST(Faults, AControllerThatDoesNotComeBackIsGivenUp) {
  Driver driver({.ready_timeout_halves = 1});
  ControllerOptions options = Driver::quick();
  options.reset_attempts = 2;
  ASSERT_TRUE(driver.start(options).ok());
  const auto data = driver.buffer(512);
  driver.model.faults().arm({.kind = FaultKind::never_ready, .times = Fault::kForEver});
  EXPECT_EQ(driver.controller->reset("for a test").code(), StatusCode::timed_out);
  EXPECT_EQ(driver.run(read_command(1, 0, 1), data), StatusCode::io_error);
  EXPECT_FALSE(driver.controller->run_admin(identify_command(IdentifyKind::controller)).ok());
  EXPECT_EQ(driver.controller->open_queue_pair().error().code(), StatusCode::io_error);
}

TEST(Faults, AnAdminCommandThatIsNotAnsweredLeadsToAReset) {
  Driver driver;
  ControllerOptions options = Driver::quick();
  ASSERT_TRUE(driver.start(options).ok());
  driver.model.faults().arm({.kind = FaultKind::admin_timeout});
  EXPECT_EQ(
      driver.controller->run_admin(get_feature_command(Feature::volatile_write_cache), {}, {}, 50ms)
          .code(),
      StatusCode::timed_out);
  for (int i = 0; i < 500 && driver.controller->reset_count() == 0; ++i) {
    std::this_thread::sleep_for(10ms);
  }
  EXPECT_EQ(driver.controller->reset_count(), 1u);
  std::array<std::byte, kIdentifyBytes> page;
  for (int i = 0; i < 100; ++i) {  // the reset may still be under way
    if (driver.controller->run_admin(identify_command(IdentifyKind::controller), {}, page).ok())
      break;
    std::this_thread::sleep_for(10ms);
  }
  EXPECT_TRUE(
      driver.controller->run_admin(identify_command(IdentifyKind::controller), {}, page).ok());
}

TEST(Faults, AShutdownThatHangsIsSaidAndLeft) {
  Driver driver;
  ControllerOptions options = Driver::quick();
  options.shutdown_timeout = 50ms;
  ASSERT_TRUE(driver.start(options).ok());
  driver.model.faults().arm({.kind = FaultKind::shutdown_hangs});
  driver.queue.reset();
  driver.controller.reset();
  EXPECT_NE(driver.log.text().find("shutdown: not complete after 50 ms"), std::string::npos);
}

TEST(Faults, CompletionsAndInterruptsOutOfNowhereAreIgnored) {
  Driver driver;
  ASSERT_TRUE(driver.start().ok());
  driver.model.faults().arm(
      {.kind = FaultKind::unsolicited_completion, .queue_id = 1, .value = 0x7fff});
  driver.model.faults().arm({.kind = FaultKind::spurious_interrupt, .times = 20, .value = 1});
  const auto data = driver.buffer(512);
  for (int i = 0; i < 100; ++i) {
    ASSERT_EQ(driver.run(read_command(1, 0, 1), data), StatusCode::ok);
  }
  EXPECT_EQ(driver.queue->counters().stray, 1u);
  EXPECT_NE(driver.log.text().find("a completion for command id 32767"), std::string::npos);
}

TEST(Faults, ARemovalIsToldEvenToWhoeverSleeps) {
  Driver driver;
  ControllerOptions options = Driver::quick();
  options.command_timeout = 60s;
  ASSERT_TRUE(driver.start(options).ok());
  driver.model.faults().arm({.kind = FaultKind::lost_command, .queue_id = 1});
  const auto data = driver.buffer(512);
  Waited waited(read_command(1, 0, 1), data);
  driver.queue->submit(waited.request);
  driver.queue->poll();
  std::thread remover([&] {
    std::this_thread::sleep_for(50ms);
    driver.model.remove();
  });
  ASSERT_TRUE(driver.wait(waited));
  remover.join();
  EXPECT_EQ(waited.request.status, StatusCode::device_removed);
}

}  // namespace
}  // namespace basalt::nvme
