// Every fault of the controller model does what its comment says, as often as armed. By hand-made commands.
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cstring>

#include "nvme/model_host.h"

namespace basalt::nvme::model {
namespace {

class ModelFaultsTest : public testing::Test {
 protected:
  void SetUp() override { bring_up({}); }
  void bring_up(const ModelOptions& options) {
    host.reset();
    model = std::make_unique<ControllerModel>(options);
    host = std::make_unique<ModelHost>(*model);
    ASSERT_TRUE(host->bring_up());
    queue = host->create_queue_pair(1, 16);
    buffer = host->allocate(2);
  }
  Command command(IoOpcode opcode, uint16_t cid = 5) {
    Command result = ModelHost::io_command(opcode, 0, 8);
    result.data.prp1 = ModelHost::iova(buffer);
    result.cid = cid;
    return result;
  }
  // Submits one and steps until nothing happens; what comes of it is left to be polled for.
  void start(const Command& one) {
    host->submit(queue, one);
    host->ring(queue);
    model->run_until_idle();
  }
  std::optional<Completion> poll() { return host->poll(queue); }
  unsigned run(IoOpcode opcode) { return host->status_of(queue, command(opcode)); }
  void arm(const Fault& fault) { model->faults().arm(fault); }

  std::unique_ptr<ControllerModel> model;
  std::unique_ptr<ModelHost> host;
  ModelHost::Queue queue;
  std::byte* buffer = nullptr;
};

TEST_F(ModelFaultsTest, CountsSkipsAndMatches) {
  arm({.kind = FaultKind::status,
       .skip = 1,
       .times = 2,
       .queue_id = 1,
       .opcode = static_cast<uint8_t>(IoOpcode::read),
       .status = with_retry(kNamespaceNotReady, Retry::forbidden, 2)});
  EXPECT_EQ(run(IoOpcode::write), kOk);
  EXPECT_EQ(run(IoOpcode::read), kOk);
  EXPECT_EQ(run(IoOpcode::write), kOk);
  start(command(IoOpcode::read));
  const auto completion = poll();
  ASSERT_TRUE(completion);
  EXPECT_EQ(code_of(completion->status()), code_of(kNamespaceNotReady));
  EXPECT_TRUE(completion->status().do_not_retry());
  EXPECT_EQ(completion->status().retry_delay(), 2u);
  EXPECT_EQ(run(IoOpcode::read), code_of(kNamespaceNotReady));
  EXPECT_EQ(run(IoOpcode::read), kOk);
  EXPECT_EQ(model->faults().struck(FaultKind::status), 2u);
  EXPECT_FALSE(model->faults().any());
}

TEST_F(ModelFaultsTest, StatusWithAndWithoutEffect) {
  std::memset(buffer, 'x', kPage);
  arm({.kind = FaultKind::status});
  EXPECT_EQ(run(IoOpcode::write), code_of(kInternalError));
  EXPECT_EQ(model->media(1)[0], std::byte{0});
  arm({.kind = FaultKind::status_after, .status = kWriteFault});
  EXPECT_EQ(run(IoOpcode::write), code_of(kWriteFault));
  EXPECT_EQ(model->media(1)[0], std::byte{'x'});
}

TEST_F(ModelFaultsTest, LostCommandsAndCompletionsNeverCome) {
  std::memset(buffer, 'x', kPage);
  arm({.kind = FaultKind::lost_command});
  start(command(IoOpcode::write));
  EXPECT_FALSE(poll());
  EXPECT_EQ(model->media(1)[0], std::byte{0});
  arm({.kind = FaultKind::lost_completion});
  start(command(IoOpcode::write));
  EXPECT_FALSE(poll());
  EXPECT_EQ(model->media(1)[0], std::byte{'x'});
  EXPECT_EQ(run(IoOpcode::read), kOk);
}

TEST_F(ModelFaultsTest, DelayedCompletionsComeAfterTheirStepsOrWhenReleased) {
  arm({.kind = FaultKind::delayed_completion, .delay_steps = 3});
  host->submit(queue, command(IoOpcode::read));
  host->ring(queue);
  model->step();
  for (int i = 0; i < 2; ++i) {
    model->step();
    EXPECT_FALSE(poll());
  }
  model->step();
  EXPECT_TRUE(poll());

  arm({.kind = FaultKind::delayed_completion});
  start(command(IoOpcode::read, 7));
  start(command(IoOpcode::read, 8));
  auto completion = poll();
  ASSERT_TRUE(completion);
  EXPECT_EQ(completion->cid, 8);
  start(command(IoOpcode::read, 7));  // still in use
  completion = poll();
  ASSERT_TRUE(completion);
  EXPECT_EQ(code_of(completion->status()), code_of(kIdConflict));
  EXPECT_EQ(model->held_commands(), 1u);
  model->release_held();
  model->step();
  completion = poll();
  ASSERT_TRUE(completion);
  EXPECT_EQ(completion->cid, 7);
}

TEST_F(ModelFaultsTest, DelayedCommandsTouchMemoryLate) {
  model->media(1)[0] = std::byte{'m'};
  arm({.kind = FaultKind::delayed_command});
  start(command(IoOpcode::read));
  EXPECT_EQ(buffer[0], std::byte{0});
  model->release_held();
  model->step();
  EXPECT_TRUE(poll());
  EXPECT_EQ(buffer[0], std::byte{'m'});
}

TEST_F(ModelFaultsTest, AbortFindsWhatIsDelayedUnlessItIsIgnored) {
  arm({.kind = FaultKind::delayed_command});
  start(command(IoOpcode::read, 9));
  Command abort = ModelHost::admin_command(AdminOpcode::abort);
  abort.cdw10 = 9u << 16 | 1;
  arm({.kind = FaultKind::abort_ignored});
  auto completion = host->run(host->admin, abort);
  ASSERT_TRUE(completion);
  EXPECT_EQ(completion->result, kNotAborted);
  completion = host->run(host->admin, abort);
  ASSERT_TRUE(completion);
  EXPECT_EQ(completion->result, 0u);
  model->step();
  completion = poll();
  ASSERT_TRUE(completion);
  EXPECT_EQ(completion->cid, 9);
  EXPECT_EQ(code_of(completion->status()), code_of(kAbortRequested));
}

TEST_F(ModelFaultsTest, DeletingAQueueAbortsWhatIsDelayed) {
  arm({.kind = FaultKind::delayed_command});
  start(command(IoOpcode::read, 9));
  Command remove = ModelHost::admin_command(AdminOpcode::delete_submission_queue);
  remove.cdw10 = 1;
  EXPECT_EQ(host->status_of(host->admin, remove), kOk);
  const auto completion = poll();
  ASSERT_TRUE(completion);
  EXPECT_EQ(code_of(completion->status()), code_of(kAbortSubmissionQueueDeleted));
  EXPECT_EQ(model->held_commands(), 0u);
}

TEST_F(ModelFaultsTest, CompletionsWithWrongFields) {
  arm({.kind = FaultKind::wrong_cid, .value = 77});
  arm({.kind = FaultKind::wrong_sq_id, .value = 3});
  arm({.kind = FaultKind::garbage_sq_head, .value = 0xabcd});
  arm({.kind = FaultKind::duplicate_completion});
  for (int i = 0; i < 4; ++i) start(command(IoOpcode::read));
  EXPECT_EQ(poll()->cid, 77);
  EXPECT_EQ(poll()->sq_id, 3);
  EXPECT_EQ(poll()->sq_head, 0xabcd);
  EXPECT_EQ(poll()->cid, 5);
  EXPECT_EQ(poll()->cid, 5);
  EXPECT_FALSE(poll());
}

TEST_F(ModelFaultsTest, AStalePhaseHidesACompletionAndTheNextIsBehindIt) {
  arm({.kind = FaultKind::stale_phase});
  start(command(IoOpcode::read));
  start(command(IoOpcode::read));
  EXPECT_FALSE(poll());
  queue.head = 1;
  EXPECT_TRUE(poll());
}

TEST_F(ModelFaultsTest, UnsolicitedCompletions) {
  arm({.kind = FaultKind::unsolicited_completion, .queue_id = 1, .value = 1234});
  model->step();
  const auto completion = poll();
  ASSERT_TRUE(completion);
  EXPECT_EQ(completion->cid, 1234);
  EXPECT_TRUE(completion->status().ok());
}

TEST_F(ModelFaultsTest, AnOverrunOverwritesWhatWasNotRead) {
  for (uint16_t i = 0; i < 15; ++i) host->submit(queue, command(IoOpcode::read, i));
  host->ring(queue);
  model->run_until_idle();
  host->submit(queue, command(IoOpcode::read, 100));
  host->submit(queue, command(IoOpcode::read, 101));
  host->ring(queue);
  EXPECT_EQ(model->step(), 0u);
  arm({.kind = FaultKind::completion_overrun, .times = 2, .queue_id = 1});
  EXPECT_EQ(model->step(), 2u);
}

TEST_F(ModelFaultsTest, DataFaults) {
  std::memset(buffer, 'x', kPage);
  arm({.kind = FaultKind::dropped_write});
  EXPECT_EQ(run(IoOpcode::write), kOk);
  EXPECT_EQ(model->media(1)[0], std::byte{0});
  arm({.kind = FaultKind::torn_write, .status = kWriteFault, .value = 3});
  EXPECT_EQ(run(IoOpcode::write), code_of(kWriteFault));
  EXPECT_EQ(model->media(1)[3 * 512 - 1], std::byte{'x'});
  EXPECT_EQ(model->media(1)[3 * 512], std::byte{0});
  EXPECT_EQ(run(IoOpcode::write), kOk);

  arm({.kind = FaultKind::corrupt_read, .value = 1000});
  EXPECT_EQ(run(IoOpcode::read), kOk);
  EXPECT_EQ(buffer[999], std::byte{'x'});
  EXPECT_EQ(buffer[1000], ~std::byte{'x'});
  std::memset(buffer, 0, kPage);
  arm({.kind = FaultKind::short_read, .value = 700});
  EXPECT_EQ(run(IoOpcode::read), kOk);
  EXPECT_EQ(buffer[699], std::byte{'x'});
  EXPECT_EQ(buffer[700], std::byte{0});
}

TEST_F(ModelFaultsTest, Interrupts) {
  const int fd = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  ASSERT_GE(fd, 0);
  const auto signals = [&] {
    eventfd_t count = 0;
    return ::eventfd_read(fd, &count) == 0 ? count : 0;
  };
  model->set_interrupt(3, fd);
  ModelHost::Queue loud = host->create_queue_pair(2, 16, 3, kQueueInterrupts);
  EXPECT_EQ(host->status_of(loud, command(IoOpcode::read)), kOk);
  EXPECT_EQ(signals(), 1u);
  EXPECT_EQ(run(IoOpcode::read), kOk);  // queue 1 has none
  EXPECT_EQ(signals(), 0u);
  arm({.kind = FaultKind::no_interrupt});
  EXPECT_EQ(host->status_of(loud, command(IoOpcode::read)), kOk);
  EXPECT_EQ(signals(), 0u);
  arm({.kind = FaultKind::spurious_interrupt, .value = 3});
  model->step();
  EXPECT_EQ(signals(), 1u);
  model->set_interrupt(3, -1);
  EXPECT_EQ(host->status_of(loud, command(IoOpcode::read)), kOk);
  EXPECT_EQ(signals(), 0u);
  ::close(fd);
}

TEST_F(ModelFaultsTest, ReadinessFaults) {
  arm({.kind = FaultKind::never_unready});
  model->write32(0x14, 0);
  EXPECT_FALSE(host->wait_ready(false));
  model->function_reset();
  EXPECT_TRUE(host->wait_ready(false));

  arm({.kind = FaultKind::never_ready});
  EXPECT_FALSE(host->bring_up());
  model->write32(0x14, 0);
  EXPECT_TRUE(host->wait_ready(false));

  arm({.kind = FaultKind::slow_ready, .value = 15});
  EXPECT_TRUE(host->bring_up());
  model->write32(0x14, 0);
  EXPECT_TRUE(host->wait_ready(false));

  arm({.kind = FaultKind::fatal_on_enable});
  EXPECT_FALSE(host->bring_up());
  EXPECT_TRUE(model->fatal());
  model->write32(0x14, 0);
  EXPECT_TRUE(host->wait_ready(false));
  EXPECT_FALSE(model->fatal());
  EXPECT_TRUE(host->bring_up());
}

TEST_F(ModelFaultsTest, ShutdownThatNeverCompletes) {
  arm({.kind = FaultKind::shutdown_hangs});
  model->write32(0x14, kEntrySizes | kEnable | kShutdownNormal);
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(ControllerStatus{model->read32(0x1c)}.shutting_down());
}

TEST_F(ModelFaultsTest, FatalStatusStopsEverything) {
  arm({.kind = FaultKind::fatal_status});
  start(command(IoOpcode::read));
  EXPECT_FALSE(poll());
  EXPECT_TRUE(ControllerStatus{model->read32(0x1c)}.fatal());
  EXPECT_TRUE(ControllerStatus{model->read32(0x1c)}.ready());
  start(command(IoOpcode::read));
  EXPECT_FALSE(poll());
  model->write32(0x14, 0);
  EXPECT_TRUE(host->wait_ready(false));
  EXPECT_TRUE(host->bring_up());
}

TEST_F(ModelFaultsTest, RemovalByACommandAndByAnAccess) {
  arm({.kind = FaultKind::removal});
  start(command(IoOpcode::read));
  EXPECT_FALSE(poll());
  EXPECT_TRUE(model->removed());
  EXPECT_EQ(model->read32(0x1c), 0xffff'ffffu);
  pollfd removal{model->removal_fd(), POLLIN, 0};
  EXPECT_EQ(::poll(&removal, 1, 0), 1);
  model->plug_in();
  EXPECT_EQ(::poll(&removal, 1, 0), 0);

  arm({.kind = FaultKind::removal_by_access, .skip = 2});
  EXPECT_EQ(model->read32(8), 0x20000u);
  EXPECT_EQ(model->read32(8), 0x20000u);
  EXPECT_EQ(model->read32(8), 0xffff'ffffu);
}

TEST_F(ModelFaultsTest, PowerCutByACommand) {
  bring_up({.volatile_cache = true});
  std::memset(buffer, 'x', kPage);
  EXPECT_EQ(run(IoOpcode::write), kOk);
  arm({.kind = FaultKind::power_cut});
  start(command(IoOpcode::flush));
  EXPECT_FALSE(poll());
  EXPECT_EQ(model->media(1)[0], std::byte{0});
  EXPECT_FALSE(model->ready());
}

TEST_F(ModelFaultsTest, RegistersThatLie) {
  arm({.kind = FaultKind::register_value, .selector = 0, .value = 0});
  EXPECT_EQ(model->read32(8), 0x20000u);
  EXPECT_EQ(model->read64(0), 0u);
  EXPECT_NE(model->read64(0), 0u);
}

TEST_F(ModelFaultsTest, AQueueThatIsNotLookedAt) {
  arm({.kind = FaultKind::queue_silent, .times = 2, .queue_id = 1});
  host->submit(queue, command(IoOpcode::read));
  host->ring(queue);
  EXPECT_EQ(model->step(), 0u);
  EXPECT_EQ(model->step(), 0u);
  EXPECT_EQ(model->step(), 1u);
}

TEST_F(ModelFaultsTest, AdminFaults) {
  Command identify = ModelHost::admin_command(AdminOpcode::identify);
  identify.cdw10 = 1;
  identify.data.prp1 = ModelHost::iova(buffer);
  arm({.kind = FaultKind::admin_timeout, .opcode = static_cast<uint8_t>(AdminOpcode::identify)});
  EXPECT_EQ(run(IoOpcode::dataset_management), kOk);
  EXPECT_EQ(host->status_of(host->admin, identify), ~0u);
  arm({.kind = FaultKind::identify_damaged,
       .selector = 1,
       .offset = 77,
       .bytes = {std::byte{0xaa}, std::byte{0xbb}}});
  EXPECT_EQ(host->status_of(host->admin, identify), kOk);
  EXPECT_EQ(buffer[77], std::byte{0xaa});
  EXPECT_EQ(buffer[78], std::byte{0xbb});
  EXPECT_EQ(host->status_of(host->admin, identify), kOk);
  EXPECT_EQ(buffer[77], std::byte{5});

  Command log = ModelHost::admin_command(AdminOpcode::get_log_page);
  log.cdw10 = 127 << 16 | static_cast<uint32_t>(LogPage::health);
  log.data.prp1 = ModelHost::iova(buffer);
  arm({.kind = FaultKind::log_page_damaged, .bytes = {std::byte{0x1f}}});
  EXPECT_EQ(host->status_of(host->admin, log), kOk);
  EXPECT_EQ(buffer[0], std::byte{0x1f});

  bring_up({});
  model->write32(0x14, 0);
  ASSERT_TRUE(host->wait_ready(false));
  ASSERT_TRUE(host->bring_up());
  Command count = ModelHost::admin_command(AdminOpcode::set_features);
  count.cdw10 = static_cast<uint32_t>(Feature::queue_count);
  count.cdw11 = 7 << 16 | 7;
  arm({.kind = FaultKind::fewer_queues, .value = 2});
  const auto completion = host->run(host->admin, count);
  ASSERT_TRUE(completion);
  EXPECT_EQ(completion->result, 1u << 16 | 1u);
}

}  // namespace
}  // namespace basalt::nvme::model
