// The controller model by itself: registers, admin commands, queues, events. By hand-made commands; no
// driver.
#include <gtest/gtest.h>

#include <cstring>

#include "nvme/model_host.h"

namespace basalt::nvme::model {
namespace {

constexpr unsigned kNone = ~0u;

class ModelTest : public testing::Test {
 protected:
  void start(const ModelOptions& options = {}) {
    host.reset();
    model = std::make_unique<ControllerModel>(options);
    host = std::make_unique<ModelHost>(*model);
  }
  void bring_up(const ModelOptions& options = {}) {
    start(options);
    ASSERT_TRUE(host->bring_up());
  }
  unsigned admin(const Command& command) { return host->status_of(host->admin, command); }
  Command identify(uint32_t cns, uint32_t nsid, std::byte* page) {
    Command command = ModelHost::admin_command(AdminOpcode::identify, nsid);
    command.cdw10 = cns;
    command.data.prp1 = ModelHost::iova(page);
    return command;
  }
  Command feature(AdminOpcode opcode, Feature id, uint32_t value = 0) {
    Command command = ModelHost::admin_command(opcode);
    command.cdw10 = static_cast<uint32_t>(id);
    command.cdw11 = value;
    return command;
  }
  Command log_page(LogPage id, std::byte* page, uint32_t bytes) {
    Command command = ModelHost::admin_command(AdminOpcode::get_log_page);
    command.cdw10 = (bytes / 4 - 1) << 16 | static_cast<uint32_t>(id);
    command.data.prp1 = ModelHost::iova(page);
    return command;
  }

  std::unique_ptr<ControllerModel> model;
  std::unique_ptr<ModelHost> host;
};

// ---- Registers

TEST_F(ModelTest, CapabilitiesSayWhatTheOptionsSay) {
  start({.max_queue_entries = 256, .doorbell_stride_shift = 2, .ready_timeout_halves = 9});
  const Capabilities cap{model->read64(0)};
  EXPECT_EQ(cap.max_queue_entries(), 256u);
  EXPECT_EQ(cap.doorbell_stride(), 16u);
  EXPECT_EQ(cap.ready_timeout_halves(), 9u);
  EXPECT_TRUE(cap.contiguous_queues_required());
  EXPECT_TRUE(cap.nvm_command_set());
  EXPECT_EQ(cap.min_page_bytes(), 4096u);
  EXPECT_EQ(cap.max_page_bytes(), 65536u);
  EXPECT_EQ(model->read32(0), static_cast<uint32_t>(cap.value));
  EXPECT_EQ(model->read32(4), static_cast<uint32_t>(cap.value >> 32));
  EXPECT_EQ(model->read32(8), 0x20000u);
}

TEST_F(ModelTest, ReadyFollowsEnableAndDisableAfterAsManyReadsAsAsked) {
  start({.ready_polls = 3});
  host->admin = host->make_queue(0, 8);
  model->write32(0x24, 7 << 16 | 7);
  model->write64(0x28, ModelHost::iova(host->admin.commands));
  model->write64(0x30, ModelHost::iova(host->admin.completions));
  model->write32(0x14, kEntrySizes | kEnable);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(model->read32(0x1c), 0u);
  EXPECT_EQ(model->read32(0x1c), 1u);
  model->write32(0x14, kEntrySizes);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(model->read32(0x1c), 1u);
  EXPECT_EQ(model->read32(0x1c), 0u);
}

TEST_F(ModelTest, AConfigurationThatIsNotAllowedIsFatal) {
  const auto fails = [&](uint32_t aqa, uint64_t asq_offset, uint32_t cc) {
    start({.ready_polls = 0});
    std::byte* ring = host->allocate(8);
    model->write32(0x24, aqa);
    model->write64(0x28, ModelHost::iova(ring) + asq_offset);
    model->write64(0x30, ModelHost::iova(ring + 4 * kPage));
    model->write32(0x14, cc | kEnable);
    return ControllerStatus{model->read32(0x1c)}.fatal();
  };
  EXPECT_FALSE(fails(7 << 16 | 7, 0, kEntrySizes));
  EXPECT_TRUE(fails(7 << 16 | 0, 0, kEntrySizes));
  EXPECT_TRUE(fails(0 << 16 | 7, 0, kEntrySizes));
  EXPECT_TRUE(fails(7 << 16 | 7, 0, kEntrySizes | page_size_field(5)));
  EXPECT_TRUE(fails(7 << 16 | 7, 0, kEntrySizes | kCommandSetAdminOnly));
  EXPECT_FALSE(fails(7 << 16 | 7, 0x800, kEntrySizes));  // ASQ has no bits there
}

TEST_F(ModelTest, AnAdminQueueThatCannotBeReachedIsFatalWhenItIsUsed) {
  start();
  model->write32(0x24, 7 << 16 | 7);
  model->write64(0x28, 0x1000);
  model->write64(0x30, 0x2000);
  model->write32(0x14, kEntrySizes | kEnable);
  ASSERT_TRUE(host->wait_ready(true));
  host->write_doorbell(submission_doorbell(0, 4), 1);
  model->step();
  EXPECT_TRUE(model->fatal());
  EXPECT_EQ(model->counters().unreachable, 1u);
}

TEST_F(ModelTest, ShutdownCompletesAndAResetEndsIt) {
  bring_up();
  model->write32(0x14, kEntrySizes | kEnable | kShutdownNormal);
  EXPECT_TRUE(ControllerStatus{model->read32(0x1c)}.shutting_down());
  EXPECT_TRUE(ControllerStatus{model->read32(0x1c)}.shutdown_complete());
  std::byte* page = host->allocate(1);
  EXPECT_EQ(admin(identify(1, 0, page)), kNone);
  model->write32(0x14, 0);
  ASSERT_TRUE(host->wait_ready(false));
  EXPECT_EQ(model->read32(0x1c), 0u);
  ASSERT_TRUE(host->bring_up());
  EXPECT_EQ(admin(identify(1, 0, page)), kOk);
}

TEST_F(ModelTest, SubsystemAndFunctionResetsForgetTheRegisters) {
  bring_up();
  model->write32(0x20, 12345);  // not the key
  EXPECT_TRUE(model->ready());
  model->write32(0x20, 0x4e56'4d65);
  EXPECT_EQ(model->read32(0x14), 0u);
  EXPECT_TRUE(ControllerStatus{model->read32(0x1c)}.subsystem_reset_occurred());
  model->write32(0x1c, 1 << 4);
  EXPECT_EQ(model->read32(0x1c), 0u);
  ASSERT_TRUE(host->bring_up());
  model->function_reset();
  EXPECT_EQ(model->read64(0x28), 0u);
  EXPECT_FALSE(model->ready());
}

TEST_F(ModelTest, ARemovedFunctionReadsAsOnesUntilItIsPluggedIn) {
  bring_up();
  model->remove();
  EXPECT_EQ(model->read32(0x1c), 0xffff'ffffu);
  EXPECT_EQ(model->read64(0), ~uint64_t{0});
  model->write32(0x14, kEnable);
  EXPECT_EQ(model->step(), 0u);
  model->plug_in();
  EXPECT_EQ(model->read32(0x1c), 0u);
  EXPECT_TRUE(host->bring_up());
}

TEST_F(ModelTest, NothingIsProcessedWithoutBusMastering) {
  bring_up();
  model->set_bus_master(false);
  std::byte* page = host->allocate(1);
  Command command = identify(1, 0, page);
  host->submit(host->admin, command);
  host->ring(host->admin);
  EXPECT_EQ(model->step(), 0u);
  model->set_bus_master(true);
  EXPECT_EQ(model->step(), 1u);
}

// ---- Identify

TEST_F(ModelTest, IdentifyTellsTheOptions) {
  bring_up({.namespaces = {{.block_count = 1000}, {.block_count = 50, .block_size = 4096}},
            .serial = "S1",
            .max_transfer_shift = 3,
            .sgl = true,
            .volatile_cache = true});
  std::byte* page = host->allocate(1);
  ASSERT_EQ(admin(identify(1, 0, page)), kOk);
  IdentifyController controller;
  std::memcpy(static_cast<void*>(&controller), page, sizeof controller);
  EXPECT_EQ(printable_field({controller.serial, sizeof controller.serial}), "S1");
  EXPECT_EQ(controller.namespace_count, 2u);
  EXPECT_EQ(controller.max_transfer_shift, 3);
  EXPECT_EQ(controller.sgl_support & 3, 1u);
  EXPECT_EQ(controller.volatile_write_cache & 1, 1);
  EXPECT_EQ(controller.submission_entry_size, 0x66);

  ASSERT_EQ(admin(identify(0, 2, page)), kOk);
  IdentifyNamespace ns;
  std::memcpy(static_cast<void*>(&ns), page, sizeof ns);
  EXPECT_EQ(ns.size, 50u);
  EXPECT_EQ(ns.formats[format_index(ns)].data_shift, 12);
  EXPECT_EQ(ns.formats[format_index(ns)].metadata_bytes, 0);
}

TEST_F(ModelTest, IdentifyListsActiveNamespacesAndRefusesOthers) {
  bring_up({.namespaces = {{}, {.active = false}, {}}});
  std::byte* page = host->allocate(1);
  le32 ids[4];
  ASSERT_EQ(admin(identify(2, 0, page)), kOk);
  std::memcpy(static_cast<void*>(ids), page, sizeof ids);
  EXPECT_EQ(ids[0], 1u);
  EXPECT_EQ(ids[1], 3u);
  EXPECT_EQ(ids[2], 0u);
  ASSERT_EQ(admin(identify(2, 1, page)), kOk);
  std::memcpy(static_cast<void*>(ids), page, sizeof ids);
  EXPECT_EQ(ids[0], 3u);
  EXPECT_EQ(ids[1], 0u);

  ASSERT_EQ(admin(identify(0, 2, page)), kOk);  // inactive: zeros
  EXPECT_EQ(page[0], std::byte{0});
  EXPECT_EQ(admin(identify(3, 1, page)), kOk);
  EXPECT_EQ(page[0], std::byte{2});  // an NGUID
  EXPECT_EQ(admin(identify(0, 4, page)), code_of(kInvalidNamespace));
  EXPECT_EQ(admin(identify(0, 0, page)), code_of(kInvalidNamespace));
  EXPECT_EQ(admin(identify(2, kAllNamespaces, page)), code_of(kInvalidNamespace));
  EXPECT_EQ(admin(identify(0x77, 1, page)), code_of(kInvalidField));
}

TEST_F(ModelTest, AdminDataGoesAnywhereInAPageAndOverTwo) {
  bring_up();
  std::byte* pages = host->allocate(3);
  Command command = identify(1, 0, pages + 2048);
  command.data.prp2 = ModelHost::iova(pages + 2 * kPage);
  ASSERT_EQ(admin(command), kOk);
  EXPECT_EQ(static_cast<char>(pages[2048 + 4]), 'B');  // serial
  EXPECT_EQ(pages[2 * kPage], std::byte{0xc4});        // byte 2048 of the data: 25 W in centiwatts
  command.data.prp1 = ModelHost::iova(pages) + 2;
  EXPECT_EQ(admin(command), 0x13u);
  command.data.prp1 = 0x5000;
  EXPECT_EQ(admin(command), code_of(kDataTransferError));
}

// ---- Queues

TEST_F(ModelTest, QueueCreationChecksEachField) {
  bring_up({.max_queue_entries = 64, .queue_pairs = 4, .interrupt_vectors = 3});
  const auto cq = [&](uint16_t id, uint32_t entries, uint16_t vector = 0) {
    ModelHost::Queue queue = host->make_queue(id, std::max<uint32_t>(entries, 1));
    queue.entries = entries;
    return ModelHost::create_cq(queue, vector, kQueueInterrupts);
  };
  const auto sq = [&](uint16_t id, uint32_t entries, uint16_t cq_id) {
    ModelHost::Queue queue = host->make_queue(id, std::max<uint32_t>(entries, 1));
    queue.entries = entries;
    return ModelHost::create_sq(queue, cq_id);
  };
  EXPECT_EQ(admin(cq(0, 8)), code_of(kInvalidQueueId));
  EXPECT_EQ(admin(cq(5, 8)), code_of(kInvalidQueueId));
  EXPECT_EQ(admin(cq(1, 1)), code_of(kInvalidQueueSize));
  EXPECT_EQ(admin(cq(1, 65)), code_of(kInvalidQueueSize));
  EXPECT_EQ(admin(cq(1, 8, 3)), code_of(kInvalidInterruptVector));
  Command scattered = cq(1, 8);
  scattered.cdw11 = scattered.cdw11 & ~kQueueContiguous;
  EXPECT_EQ(admin(scattered), code_of(kInvalidField));
  Command misplaced = cq(1, 8);
  misplaced.data.prp1 = misplaced.data.prp1 + 8;
  EXPECT_EQ(admin(misplaced), 0x13u);
  Command unreachable = cq(1, 8);
  unreachable.data.prp1 = unreachable.data.prp1 - kIovaOffset;  // a virtual address
  EXPECT_EQ(admin(unreachable), code_of(kDataTransferError));
  EXPECT_EQ(admin(cq(1, 64, 2)), kOk);
  EXPECT_EQ(admin(cq(1, 8)), code_of(kInvalidQueueId));

  EXPECT_EQ(admin(sq(1, 8, 2)), code_of(kCompletionQueueInvalid));
  EXPECT_EQ(admin(sq(1, 8, 0)), code_of(kInvalidQueueId));
  EXPECT_EQ(admin(sq(0, 8, 1)), code_of(kInvalidQueueId));
  EXPECT_EQ(admin(sq(1, 65, 1)), code_of(kInvalidQueueSize));
  EXPECT_EQ(admin(sq(1, 2, 1)), kOk);
  EXPECT_EQ(admin(sq(1, 2, 1)), code_of(kInvalidQueueId));
  EXPECT_EQ(model->io_queue_count(), 1u);
}

TEST_F(ModelTest, QueuesAreDeletedInOrder) {
  bring_up();
  host->create_queue_pair(3, 8);
  Command remove_cq = ModelHost::admin_command(AdminOpcode::delete_completion_queue);
  Command remove_sq = ModelHost::admin_command(AdminOpcode::delete_submission_queue);
  remove_cq.cdw10 = remove_sq.cdw10 = 3;
  EXPECT_EQ(admin(remove_cq), 0x10cu);
  EXPECT_EQ(admin(remove_sq), kOk);
  EXPECT_EQ(admin(remove_sq), code_of(kInvalidQueueId));
  EXPECT_EQ(admin(remove_cq), kOk);
  EXPECT_EQ(admin(remove_cq), code_of(kInvalidQueueId));
  remove_cq.cdw10 = remove_sq.cdw10 = 0;
  EXPECT_EQ(admin(remove_sq), code_of(kInvalidQueueId));
  EXPECT_EQ(admin(remove_cq), code_of(kInvalidQueueId));
}

TEST_F(ModelTest, QueueCountIsGrantedBeforeQueuesExist) {
  bring_up({.queue_pairs = 8});
  auto completion = host->run(
      host->admin, feature(AdminOpcode::set_features, Feature::queue_count, 99 << 16 | 99));
  ASSERT_TRUE(completion && completion->status().ok());
  EXPECT_EQ(completion->result, 7u << 16 | 7u);
  completion =
      host->run(host->admin, feature(AdminOpcode::set_features, Feature::queue_count, 1 << 16 | 5));
  EXPECT_EQ(completion->result, 1u << 16 | 1u);
  EXPECT_EQ(admin(ModelHost::create_cq(host->make_queue(3, 8), 0, 0)), code_of(kInvalidQueueId));
  EXPECT_EQ(admin(feature(AdminOpcode::set_features, Feature::queue_count, 0xffff)),
            code_of(kInvalidField));
  host->create_queue_pair(2, 8);
  EXPECT_EQ(admin(feature(AdminOpcode::set_features, Feature::queue_count, 0)), 0x00cu);
}

TEST_F(ModelTest, InvalidDoorbellsAreReportedAndChangeNothing) {
  bring_up();
  const ModelHost::Queue queue = host->create_queue_pair(1, 8);
  Command request = ModelHost::admin_command(AdminOpcode::async_event_request);
  for (request.cid = 0; request.cid < 3; request.cid = request.cid + 1)
    host->submit(host->admin, request);
  host->ring(host->admin);
  model->run_until_idle();
  ASSERT_EQ(model->outstanding_event_requests(), 3u);

  const auto event = [&]() -> std::optional<AsyncEvent> {
    for (int i = 0; i < 3; ++i) model->step();
    const auto completion = host->poll(host->admin);
    if (!completion) return std::nullopt;
    return AsyncEvent::from_word(completion->result);
  };
  std::byte* page = host->allocate(1);
  const AsyncEvent bad_value{AsyncEventType::error, kInvalidDoorbellValue, 1};
  host->write_doorbell(submission_doorbell(1, 4), 8);
  EXPECT_EQ(event(), bad_value);
  host->write_doorbell(submission_doorbell(1, 4), 0);
  host->write_doorbell(completion_doorbell(1, 4), 3);  // nothing has been posted
  EXPECT_EQ(event(), std::nullopt);                    // the log page has not been read
  EXPECT_EQ(admin(log_page(LogPage::error_information, page, 64)), kOk);
  EXPECT_EQ(event(), bad_value);
  host->write_doorbell(completion_doorbell(1, 4), 0);
  EXPECT_EQ(admin(log_page(LogPage::error_information, page, 64)), kOk);
  host->write_doorbell(submission_doorbell(9, 4), 1);  // no such queue
  EXPECT_EQ(event(), (AsyncEvent{AsyncEventType::error, kInvalidDoorbellRegister, 1}));
  EXPECT_EQ(model->counters().invalid_doorbells, 3u);
  EXPECT_TRUE(model->ready());
  EXPECT_FALSE(model->fatal());
  (void)queue;
}

TEST_F(ModelTest, AFullCompletionQueueHoldsCommandsBack) {
  bring_up();
  ModelHost::Queue queue = host->create_queue_pair(1, 4);
  const Command flush = ModelHost::io_command(IoOpcode::flush, 0, 1);
  for (int i = 0; i < 3; ++i) host->submit(queue, flush);
  host->ring(queue);
  EXPECT_EQ(model->step(), 3u);
  for (int i = 0; i < 3; ++i) host->submit(queue, flush);
  host->ring(queue);
  EXPECT_EQ(model->step(), 0u);
  ASSERT_TRUE(host->poll(queue));
  EXPECT_EQ(model->step(), 1u);
  int left = 0;
  for (int i = 0; i < 10; ++i) {
    if (host->poll(queue)) ++left;
    model->step();
  }
  EXPECT_EQ(left, 5);
}

TEST_F(ModelTest, ThePhaseTurnsWithEachRoundOfTheRing) {
  bring_up();
  uint16_t id = 0;
  for (const uint32_t entries : {2u, 3u, 7u, 64u}) {
    ModelHost::Queue queue = host->create_queue_pair(++id, entries);
    for (uint32_t i = 0; i < 5 * entries; ++i) {
      ASSERT_EQ(host->status_of(queue, ModelHost::io_command(IoOpcode::flush, 0, 1)), kOk) << i;
    }
  }
}

// ---- Features, logs, events, abort

TEST_F(ModelTest, FeaturesKeepWhatIsSet) {
  bring_up({.volatile_cache = true});
  const auto get = [&](Feature id, FeatureSelect select = FeatureSelect::current) {
    Command command = feature(AdminOpcode::get_features, id);
    command.cdw10 = command.cdw10 | static_cast<uint32_t>(select) << 8;
    const auto completion = host->run(host->admin, command);
    return completion && completion->status().ok() ? uint32_t{completion->result} : kNone;
  };
  EXPECT_EQ(get(Feature::volatile_write_cache), 1u);
  EXPECT_EQ(admin(feature(AdminOpcode::set_features, Feature::volatile_write_cache, 0)), kOk);
  EXPECT_EQ(get(Feature::volatile_write_cache), 0u);
  EXPECT_EQ(get(Feature::volatile_write_cache, FeatureSelect::defaults), 1u);
  EXPECT_EQ(get(Feature::arbitration, FeatureSelect::capabilities), kFeatureChangeable);
  EXPECT_EQ(admin(feature(AdminOpcode::set_features, Feature{0x7e})), code_of(kInvalidField));
  Command save = feature(AdminOpcode::set_features, Feature::arbitration, 3);
  save.cdw10 = save.cdw10 | kSaveFeature;
  EXPECT_EQ(admin(save), 0x10du);
  bring_up();
  EXPECT_EQ(get(Feature::volatile_write_cache), kNone);
}

TEST_F(ModelTest, EventsWaitForRequestsAndForTheirLogPage) {
  bring_up({.namespaces = {{.block_count = 100}}, .async_event_limit = 2});
  const AsyncEvent changed{AsyncEventType::notice, kNamespacesChanged, 4};
  EXPECT_FALSE(model->raise_event(changed));  // not enabled
  EXPECT_EQ(admin(feature(AdminOpcode::set_features, Feature::async_event_config, 1 << 8)), kOk);
  Command request = ModelHost::admin_command(AdminOpcode::async_event_request);
  EXPECT_EQ(admin(request), kNone);
  EXPECT_EQ(admin(request), kNone);
  EXPECT_EQ(admin(request), code_of(kAsyncEventLimitExceeded));

  model->resize_namespace(1, 50);
  model->step();
  auto completion = host->poll(host->admin);
  ASSERT_TRUE(completion);
  EXPECT_EQ(AsyncEvent::from_word(completion->result), changed);
  model->resize_namespace(1, 60);
  model->step();
  EXPECT_FALSE(host->poll(host->admin));

  std::byte* page = host->allocate(1);
  ASSERT_EQ(admin(log_page(LogPage::changed_namespaces, page, 4096)), kOk);
  EXPECT_EQ(page[0], std::byte{1});
  EXPECT_EQ(page[4], std::byte{0});
  model->step();
  EXPECT_TRUE(host->poll(host->admin));
  ASSERT_EQ(admin(identify(0, 1, page)), kOk);
  EXPECT_EQ(page[0], std::byte{60});
}

TEST_F(ModelTest, LogPagesEndWithZerosAndRefuseOffsetsBehindTheirEnd) {
  bring_up();
  std::byte* page = host->allocate(2);
  EXPECT_EQ(admin(identify(0, 99, page)), code_of(kInvalidNamespace));
  std::memset(page, 0xff, 2 * kPage);
  ASSERT_EQ(admin(log_page(LogPage::error_information, page, 4096)), kOk);
  ErrorLogEntry entry;
  std::memcpy(static_cast<void*>(&entry), page, sizeof entry);
  EXPECT_EQ(entry.count, 1u);
  EXPECT_EQ(entry.nsid, 99u);
  EXPECT_EQ(code_of(CompletionStatus(static_cast<uint16_t>(entry.status_and_phase >> 1))),
            code_of(kInvalidNamespace));
  EXPECT_EQ(page[64], std::byte{0});

  ASSERT_EQ(admin(log_page(LogPage::health, page, 512)), kOk);
  EXPECT_EQ(page[3], std::byte{100});
  ASSERT_EQ(admin(log_page(LogPage::firmware_slots, page, 512)), kOk);
  EXPECT_EQ(page[8], std::byte{'1'});
  ASSERT_EQ(admin(log_page(LogPage::commands_supported, page, 4096)), kOk);
  EXPECT_EQ(admin(log_page(LogPage{0x70}, page, 64)), code_of(kInvalidLogPage));
  Command beyond = log_page(LogPage::health, page, 64);
  beyond.cdw12 = 516;
  EXPECT_EQ(admin(beyond), code_of(kInvalidField));
}

TEST_F(ModelTest, AbortFindsEventRequestsOnly) {
  bring_up();
  Command request = ModelHost::admin_command(AdminOpcode::async_event_request);
  request.cid = 7;
  host->submit(host->admin, request);
  host->ring(host->admin);
  model->run_until_idle();
  Command abort = ModelHost::admin_command(AdminOpcode::abort);
  abort.cdw10 = 8u << 16;
  auto completion = host->run(host->admin, abort);
  ASSERT_TRUE(completion);
  EXPECT_EQ(completion->result & 1, kNotAborted);
  abort.cdw10 = 7u << 16;
  completion = host->run(host->admin, abort);
  ASSERT_TRUE(completion);
  EXPECT_EQ(completion->result & 1, 0u);
  model->step();
  completion = host->poll(host->admin);
  ASSERT_TRUE(completion);
  EXPECT_EQ(completion->cid, 7);
  EXPECT_EQ(code_of(completion->status()), code_of(kAbortRequested));
}

TEST_F(ModelTest, UnknownCommandsAreInvalidOpcodes) {
  bring_up({.optional_commands = 0, .format = false});
  ModelHost::Queue queue = host->create_queue_pair(1, 8);
  EXPECT_EQ(admin(ModelHost::admin_command(AdminOpcode::sanitize)), code_of(kInvalidOpcode));
  EXPECT_EQ(admin(ModelHost::admin_command(AdminOpcode::format_nvm, 1)), code_of(kInvalidOpcode));
  for (const IoOpcode opcode : {IoOpcode::compare, IoOpcode::copy, IoOpcode::write_zeroes,
                                IoOpcode::dataset_management, IoOpcode::zone_append}) {
    EXPECT_EQ(host->status_of(queue, ModelHost::io_command(opcode, 0, 1)), code_of(kInvalidOpcode));
  }
  EXPECT_EQ(admin(ModelHost::admin_command(AdminOpcode::keep_alive)), kOk);
}

// What the doorbells are for: a host that follows the shadow rings only when EventIdx asks.
TEST_F(ModelTest, ShadowDoorbellsReplaceTheRealOnes) {
  for (const ShadowDoorbells mode : {ShadowDoorbells::polled, ShadowDoorbells::on_event}) {
    bring_up({.shadow_doorbells = mode});
    std::byte* shadow = host->allocate(1);
    std::byte* index = host->allocate(1);
    std::memset(shadow, 0, kPage);
    std::memset(index, 0, kPage);
    Command config = ModelHost::admin_command(AdminOpcode::doorbell_buffer_config);
    config.data.prp1 = ModelHost::iova(shadow);
    config.data.prp2 = ModelHost::iova(index);
    ASSERT_EQ(admin(config), kOk);
    ModelHost::Queue queue = host->create_queue_pair(1, 8);
    model->step();

    auto* tail_shadow = reinterpret_cast<uint32_t*>(shadow + 8);
    auto* head_shadow = reinterpret_cast<uint32_t*>(shadow + 12);
    auto* tail_index = reinterpret_cast<uint32_t*>(index + 8);
    unsigned rung = 0;
    for (int i = 0; i < 100; ++i) {
      const uint32_t old = queue.tail;
      host->submit(queue, ModelHost::io_command(IoOpcode::flush, 0, 1));
      __atomic_store_n(tail_shadow, queue.tail, __ATOMIC_SEQ_CST);
      const auto event = static_cast<uint16_t>(*tail_index);
      if (static_cast<uint16_t>(queue.tail - event - 1) < static_cast<uint16_t>(queue.tail - old)) {
        ++rung;
        host->ring(queue);
      }
      ASSERT_EQ(model->step(), 1u) << i;
      ASSERT_TRUE(host->poll(queue));
      __atomic_store_n(head_shadow, queue.head, __ATOMIC_RELEASE);
    }
    EXPECT_EQ(rung, mode == ShadowDoorbells::polled ? 0u : 100u);
    EXPECT_EQ(model->counters().invalid_doorbells, 0u);
  }
}

TEST_F(ModelTest, FormatChangesTheBlockSizeAndErases) {
  bring_up({.namespaces = {{.block_count = 800}}});
  model->media(1)[5] = std::byte{9};
  Command format = ModelHost::admin_command(AdminOpcode::format_nvm, 1);
  format.cdw10 = 2;
  EXPECT_EQ(admin(format), 0x10au);
  format.cdw10 = 1;
  EXPECT_EQ(admin(format), kOk);
  EXPECT_EQ(model->media(1)[5], std::byte{0});
  std::byte* page = host->allocate(1);
  ASSERT_EQ(admin(identify(0, 1, page)), kOk);
  EXPECT_EQ(page[0], std::byte{100});
}

}  // namespace
}  // namespace basalt::nvme::model
