// Two hosts that share a namespace by reservations, over TCP and on a reactor each: what they are told of each other, that
// preempt-and-abort is answered when nothing of the other's is under way any more, and that a target with a store knows them
// again.
#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <thread>

#include "nvme/commands.h"
#include "test/nvme/kept_log.h"
#include "test/targets/nvmf/held_device.h"
#include "test/targets/nvmf/raw_host.h"
#include "test/targets/nvmf/served_target.h"
#include "test/targets/nvmf/sharing_host.h"

namespace basalt {
namespace {

using nvme::Feature;
using nvme::ReservationNotification;
using nvme::ReservationType;

constexpr const char* kShared = ServedTarget::kNqn;

class MapStore final : public nvmf::ReservationStore {
 public:
  Result<std::string> load(std::string_view key) override {
    const auto found = values_.find(key);
    if (found == values_.end()) return error(StatusCode::not_found, "no such key");
    return found->second;
  }
  Status save(std::string_view key, std::string_view value) override {
    values_[std::string(key)] = value;
    return {};
  }
  Status erase(std::string_view key) override {
    values_.erase(std::string(key));
    return {};
  }
  std::map<std::string, std::string, std::less<>> values_;
};

class SharedNamespaceTest : public testing::Test {
 protected:
  void serve(nvmf::TargetOptions options = {}) {
    served_.reset();
    served_ = std::make_unique<ServedTarget>(std::vector<std::string>{}, 2, options, &log_);
    auto below = open_device(*served_->context, "ram:4M");
    ASSERT_TRUE(below) << below.error().to_string();
    device_ = std::make_shared<HeldDevice>(std::move(*below));
    served_->devices.push_back(device_);
    const auto added = served_->target->add_namespace(kShared, device_, {.ids = {.nguid = {7}}});
    ASSERT_TRUE(added) << added.error().to_string();
  }
  // What one reactor has told another has come there.
  nvme::ReservationNotificationLog read_log(SharingHost& host, bool retain = false) {
    for (const auto& loop : served_->loops) loop->run([] {});
    return host.read_log(retain);
  }
  static void send_what_is_asked(SharingHost& host, const RawPdu& asked) {
    auto data = asked.as<nvme::tcp::DataPdu>();
    data.header = {.type = static_cast<uint8_t>(nvme::tcp::PduType::host_data),
                   .flags = nvme::tcp::kLastData,
                   .header_bytes = 24,
                   .data_offset = 24,
                   .bytes = 24 + data.length};
    host.io.send(data, std::vector<std::byte>(data.length));
  }
  void until_kept(size_t commands) {
    for (int i = 0; i < 10'000 && device_->kept() != commands; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    ASSERT_EQ(device_->kept(), commands);
  }

  nvme::KeptLog log_;
  std::shared_ptr<HeldDevice> device_;
  std::unique_ptr<ServedTarget> served_;
};

TEST_F(SharedNamespaceTest, HostsAreToldOfEachOther) {
  serve();
  const auto type = ReservationType::write_exclusive_registrants_only;
  SharingHost first(served_->address, 1, 11), second(served_->address, 2, 22);
  EXPECT_TRUE(first.add().ok() && second.add().ok());
  EXPECT_EQ(read_log(second).type, 0) << "nothing yet";
  const auto wait = nvme::admin_command(nvme::AdminOpcode::async_event_request);
  second.admin.submit(wait);
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(first.acquire(type).ok());
    EXPECT_TRUE(first.release(type).ok());
  }
  const nvme::AsyncEvent available{nvme::AsyncEventType::command_set,
                                   nvme::kReservationLogAvailable, 0x80};
  EXPECT_EQ(second.admin.answer().completion.result, available.word());
  EXPECT_EQ(read_log(second, true).count, 1u);
  const auto log = read_log(second);
  EXPECT_EQ(log.count, 1u) << "kept by the reading before";
  EXPECT_EQ(log.type, static_cast<uint8_t>(ReservationNotification::reservation_released));
  EXPECT_EQ(log.more, 2);
  EXPECT_EQ(log.nsid, 1u);
  // One that reads a page for each event learns of all.
  second.admin.submit(wait);
  EXPECT_EQ(second.admin.answer().completion.result, available.word());
  EXPECT_EQ(read_log(second).count, 2u);
  EXPECT_EQ(read_log(second).count, 3u);
  EXPECT_EQ(read_log(second).count, 0u);
  EXPECT_EQ(read_log(first).type, 0) << "who did it is not told";

  second.preempt_and_abort(11, type);
  EXPECT_TRUE(second.io.answer().status().ok());
  EXPECT_EQ(read_log(first).type,
            static_cast<uint8_t>(ReservationNotification::registration_preempted));
}

TEST_F(SharedNamespaceTest, HostsChooseWhatTheyAreToldOf) {
  serve();
  const auto type = ReservationType::write_exclusive_registrants_only;
  SharingHost first(served_->address, 1, 11), second(served_->address, 2, 22);
  EXPECT_TRUE(first.add().ok() && second.add().ok());
  const auto mask = [&](uint32_t value, uint32_t nsid) {
    return second.admin
        .run(nvme::set_feature_command(Feature::reservation_notification_mask, value, nsid))
        .status();
  };
  const auto masked = [&] {
    const RawAnswer answer =
        second.admin.run(nvme::get_feature_command(Feature::reservation_notification_mask, 1));
    EXPECT_TRUE(answer.status().ok());
    return uint32_t{answer.completion.result};
  };
  EXPECT_TRUE(mask(1u << 2, 1).ok());
  EXPECT_EQ(masked(), 1u << 2);
  EXPECT_TRUE(first.acquire(type).ok() && first.release(type).ok());
  EXPECT_EQ(read_log(second).type, 0);
  EXPECT_TRUE(mask(0, 0xffff'ffff).ok());
  EXPECT_EQ(masked(), 0u);
  EXPECT_TRUE(first.acquire(type).ok() && first.release(type).ok());
  EXPECT_EQ(read_log(second).type, 2);
  EXPECT_TRUE(mask(0, 7).is(nvme::kInvalidNamespace));
  EXPECT_TRUE(
      second.admin
          .run(nvme::get_feature_command(Feature::reservation_notification_mask, 0xffff'ffff))
          .status()
          .is(nvme::kInvalidNamespace));
  // More than are kept: the oldest are gone, which their count shows.
  constexpr auto kKept = nvmf::Controller::kMaxReservationNotifications;
  for (size_t i = 0; i < kKept + 2; ++i) {
    EXPECT_TRUE(first.acquire(type).ok() && first.release(type).ok());
  }
  const auto oldest = read_log(second);
  EXPECT_EQ(oldest.count, 4u) << "one was read before, and two are gone";
  EXPECT_EQ(oldest.more, 255);
}

// Goal: once preempt-and-abort is answered, nothing the other has sent before comes to the device; what is there is waited for.
TEST_F(SharedNamespaceTest, PreemptAndAbortWaitsForWhatIsUnderWay) {
  serve();
  SharingHost first(served_->address, 1, 11), second(served_->address, 2, 22);
  EXPECT_TRUE(first.add().ok() && second.add().ok());
  EXPECT_TRUE(first.acquire(ReservationType::write_exclusive).ok());
  device_->hold(true);
  first.io.submit(nvme::write_command(1, 0, 1), std::vector<std::byte>(SharingHost::kBlock));
  // Its data is asked for, and not there yet.
  first.io.submit(nvme::write_command(1, 8, 16), {}, 8192);
  const auto asked = first.io.receive();
  ASSERT_TRUE(asked && asked->type() == nvme::tcp::PduType::ready_to_transfer);
  until_kept(1);
  second.preempt_and_abort(11, ReservationType::write_exclusive);
  EXPECT_TRUE(second.io.is_silent_for(50));
  send_what_is_asked(first, *asked);
  EXPECT_TRUE(first.io.answer().status().is(nvme::kPreemptedAndAborted));
  EXPECT_EQ(device_->kept(), 1u) << "it did not get there";
  EXPECT_TRUE(second.io.is_silent_for(20));
  device_->hold(false);
  EXPECT_TRUE(first.io.answer().status().ok()) << "it was done";
  EXPECT_TRUE(second.io.answer().status().ok());
  EXPECT_TRUE(first.write(0).is(nvme::kReservationConflict));
  EXPECT_TRUE(second.write(0).ok());
  EXPECT_EQ(second.registered(), 1u);
}

// One command that is several of the device's, of which the next does not follow, although who reads may go on.
TEST_F(SharedNamespaceTest, PreemptAndAbortEndsWhatHasSteps) {
  serve();
  SharingHost first(served_->address, 1, 11), second(served_->address, 2, 22);
  EXPECT_TRUE(first.add().ok() && second.add().ok());
  EXPECT_TRUE(first.acquire(ReservationType::write_exclusive).ok());
  device_->hold(true);
  first.io.submit(nvme::verify_command(1, 0, 8192));
  until_kept(1);
  second.preempt_and_abort(11, ReservationType::write_exclusive);
  EXPECT_TRUE(second.io.is_silent_for(50));
  device_->hold(false);
  EXPECT_TRUE(first.io.answer().status().is(nvme::kPreemptedAndAborted));
  EXPECT_TRUE(second.io.answer().status().ok());
  EXPECT_TRUE(first.io.run(nvme::verify_command(1, 0, 8192)).status().ok());
}

// A fused half that has come waits for its other one's data: both are refused, at once and when that comes.
TEST_F(SharedNamespaceTest, PreemptAndAbortEndsFusedHalves) {
  serve();
  SharingHost first(served_->address, 1, 11), second(served_->address, 2, 22);
  EXPECT_TRUE(first.add().ok() && second.add().ok());
  auto compare = nvme::compare_command(1, 0, 1), write = nvme::write_command(1, 0, 1);
  compare.flags = nvme::kFusedFirst;
  compare.cid = 1;
  write.flags = nvme::kFusedSecond;
  write.cid = 2;
  first.io.submit(compare, std::vector<std::byte>(SharingHost::kBlock));
  first.io.submit(write, {}, SharingHost::kBlock);
  const auto asked = first.io.receive();
  ASSERT_TRUE(asked && asked->type() == nvme::tcp::PduType::ready_to_transfer);
  second.preempt_and_abort(11, ReservationType::write_exclusive);
  EXPECT_TRUE(second.io.answer().status().ok());
  const RawAnswer of_compare = first.io.answer();
  EXPECT_EQ(of_compare.completion.cid, 1);
  EXPECT_TRUE(of_compare.status().is(nvme::kPreemptedAndAborted));
  send_what_is_asked(first, *asked);
  const RawAnswer of_write = first.io.answer();
  EXPECT_EQ(of_write.completion.cid, 2);
  EXPECT_TRUE(of_write.status().is(nvme::kPreemptedAndAborted));
}

TEST_F(SharedNamespaceTest, PreemptAndAbortWaitsForAHostThatIsGone) {
  serve();
  SharingHost second(served_->address, 2, 22);
  {
    SharingHost first(served_->address, 1, 11);
    EXPECT_TRUE(first.add().ok() && second.add().ok());
    device_->hold(true);
    first.io.submit(nvme::write_command(1, 0, 1), std::vector<std::byte>(SharingHost::kBlock));
    until_kept(1);
  }
  second.preempt_and_abort(11, ReservationType::write_exclusive);
  EXPECT_TRUE(second.io.is_silent_for(50));
  device_->hold(false);
  EXPECT_TRUE(second.io.answer().status().ok());
}

TEST_F(SharedNamespaceTest, PreemptAndAbortFailsWhenItTakesTooLong) {
  serve({.preempt_timeout = std::chrono::milliseconds(30)});
  SharingHost first(served_->address, 1, 11), second(served_->address, 2, 22);
  EXPECT_TRUE(first.add().ok() && second.add().ok());
  EXPECT_TRUE(first.acquire(ReservationType::write_exclusive).ok());
  device_->hold(true);
  first.io.submit(nvme::write_command(1, 0, 1), std::vector<std::byte>(SharingHost::kBlock));
  until_kept(1);
  second.preempt_and_abort(11, ReservationType::write_exclusive);
  EXPECT_TRUE(second.io.answer().status().is(nvme::kInternalError));
  EXPECT_EQ(log_.count("still at the device"), 1u) << log_.text();
  EXPECT_EQ(second.registered(), 1u) << "preempted they are";
  device_->hold(false);
  EXPECT_TRUE(first.io.answer().status().ok());
  EXPECT_TRUE(first.write(0).is(nvme::kReservationConflict));
}

TEST_F(SharedNamespaceTest, ATargetWithAStoreKnowsThemAgain) {
  MapStore store;
  const auto reservations = [&](SharingHost& host) {
    const RawAnswer answer =
        host.admin.run(nvme::identify_command(nvme::IdentifyKind::name_space, 1), {}, 4096);
    nvme::IdentifyNamespace data;
    std::memcpy(static_cast<void*>(&data), answer.data.data(), sizeof data);
    return data.reservations;
  };
  const auto persistence = [](SharingHost& host) {
    return uint32_t{host.admin.run(nvme::get_feature_command(Feature::reservation_persistence, 1))
                        .completion.result};
  };
  const auto set_persistence = [](SharingHost& host, uint32_t value, uint32_t nsid) {
    return host.admin.run(nvme::set_feature_command(Feature::reservation_persistence, value, nsid))
        .status();
  };
  const auto persist = nvme::ReservationPersistence::persist;
  serve();
  {
    SharingHost first(served_->address, 1, 11);
    EXPECT_EQ(reservations(first), 0xfe);
    EXPECT_TRUE(first.add(persist).is(nvme::kInvalidField));
    EXPECT_TRUE(set_persistence(first, 1, 1).is(nvme::kFeatureNotChangeable));
    EXPECT_TRUE(set_persistence(first, 0, 1).ok());
  }
  serve({.reservations = &store});
  {
    SharingHost first(served_->address, 1, 11), second(served_->address, 2, 22);
    EXPECT_EQ(reservations(first), 0xff);
    EXPECT_EQ(persistence(first), 0u);
    EXPECT_TRUE(first.add(persist).ok() && second.add().ok());
    EXPECT_EQ(persistence(second), 1u);
    EXPECT_TRUE(first.acquire(ReservationType::write_exclusive).ok());
  }
  serve({.reservations = &store});
  {
    SharingHost first(served_->address, 1, 11), second(served_->address, 2, 22);
    EXPECT_EQ(second.registered(), 2u);
    EXPECT_TRUE(first.write(0).ok());
    EXPECT_TRUE(second.write(0).is(nvme::kReservationConflict));
    EXPECT_TRUE(set_persistence(first, 0, 0xffff'ffff).ok());
    EXPECT_TRUE(store.values_.empty());
    EXPECT_TRUE(set_persistence(first, 1, 0xffff'ffff).ok());
    EXPECT_EQ(store.values_.size(), 1u);
    EXPECT_TRUE(set_persistence(first, 1, 5).is(nvme::kInvalidNamespace));
  }
  // What cannot be read keeps the namespace from being exported.
  store.values_.begin()->second[0] = 9;
  ServedTarget other({}, 1, {.reservations = &store}, &log_);
  const std::shared_ptr<Device> device = std::move(*open_device(*other.context, "ram:4M"));
  const auto added = other.target->add_namespace(kShared, device, {.ids = {.nguid = {7}}});
  ASSERT_FALSE(added);
  EXPECT_EQ(added.error().code(), StatusCode::unsupported);
  EXPECT_TRUE(other.target->add_namespace(kShared, device, {.ids = {.nguid = {8}}}));
}

// Two that hosts would take for one.
TEST_F(SharedNamespaceTest, IdentifiersAreOneNamespaces) {
  serve();
  const std::shared_ptr<Device> device = std::move(*open_device(*served_->context, "ram:4M"));
  const auto added = served_->target->add_namespace(kShared, device, {.ids = {.nguid = {7}}});
  ASSERT_FALSE(added);
  EXPECT_EQ(added.error().code(), StatusCode::already_exists);
}

}  // namespace
}  // namespace basalt
