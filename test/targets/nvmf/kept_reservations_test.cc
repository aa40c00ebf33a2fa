// Reservations that survive power loss: what is kept, what comes back, and what hosts see while it is being saved, or cannot be.
#include <gtest/gtest.h>

#include <cstring>
#include <future>
#include <map>
#include <thread>

#include "nvme/commands.h"
#include "targets/nvmf/namespace.h"
#include "targets/nvmf/reservations.h"
#include "test/nvme/kept_log.h"

namespace basalt::nvmf {
namespace {

using nvme::CompletionStatus;
using nvme::ReservationAcquire;
using nvme::ReservationRegister;
using nvme::ReservationRelease;
using nvme::ReservationType;

constexpr const char* kDisk = "nqn.2014-08.org.example:disk";
const HostIdentity kOne{"nqn.2014-08.org.example:one", {1}},
    kTwo{"nqn.2014-08.org.example:two", {2}};
const NamespaceIds kIds{.nguid = {7}, .eui64 = {8}, .uuid = {9}};

// In memory; may fail, and may be told to wait.
class TestStore final : public ReservationStore {
 public:
  Result<std::string> load(std::string_view key) override {
    const auto found = values.find(key);
    if (found == values.end()) return error(StatusCode::not_found, "no such key");
    return found->second;
  }
  Status save(std::string_view key, std::string_view value) override {
    const MutexLock wait(gate);
    if (fails) return {StatusCode::io_error, "the store is broken"};
    values[std::string(key)] = value;
    ++saves;
    return {};
  }
  Status erase(std::string_view key) override {
    const MutexLock wait(gate);
    values.erase(std::string(key));
    return {};
  }
  std::map<std::string, std::string, std::less<>> values;
  Mutex gate;  // held by a test: nothing is saved
  std::atomic<bool> fails{false};
  std::atomic<unsigned> saves{0};
};

class KeptReservationsTest : public testing::Test {
 protected:
  KeptReservationsTest() {
    ContextOptions options;
    options.log = &log_;
    context_ = std::move(*Context::create(options));
    restart();
  }
  void restart() {
    saver_.reset();
    saver_ = std::make_unique<ReservationSaver>(*context_, store_);
    auto restored = saver_->restore(kDisk, kIds);
    ASSERT_TRUE(restored) << restored.error().to_string();
    r_ = std::move(*restored);
  }
  // The answer may come later; the data stays until then.
  std::future<ReservationOutcome> begin(const HostIdentity& host, const nvme::Command& command,
                                        uint64_t key, uint64_t other) {
    const auto data = std::make_shared<std::array<std::byte, 16>>();
    const nvme::ReservationKeys both{key, other};
    std::memcpy(data->data(), &both, sizeof both);
    const auto promise = std::make_shared<std::promise<ReservationOutcome>>();
    auto future = promise->get_future();
    const auto outcome = r_->execute(
        host, command, *data,
        [promise, data](ReservationOutcome later) { promise->set_value(std::move(later)); });
    if (outcome) promise->set_value(*outcome);
    return future;
  }
  CompletionStatus run(const HostIdentity& host, const nvme::Command& command, uint64_t key,
                       uint64_t other) {
    return begin(host, command, key, other).get().status;
  }
  static nvme::Command add_command(nvme::ReservationPersistence persistence) {
    nvme::Command command = nvme::reservation_register_command(1, ReservationRegister::add);
    command.cdw10 = command.cdw10 | static_cast<uint32_t>(persistence)
                                        << nvme::kChangePersistenceShift;
    return command;
  }
  bool add(const HostIdentity& host, uint64_t key,
           nvme::ReservationPersistence persistence = nvme::ReservationPersistence::as_it_is) {
    return run(host, add_command(persistence), 0, key).ok();
  }
  bool acquire(const HostIdentity& host, uint64_t key) {
    return run(host,
               nvme::reservation_acquire_command(1, ReservationAcquire::acquire,
                                                 ReservationType::exclusive_access),
               key, 0)
        .ok();
  }
  bool may_write(const HostIdentity& host) {
    return r_->check(host, nvme::write_command(1, 0, 1)).ok();
  }
  nvme::ReservationReportHeader report() {
    std::vector<std::byte> data(4096);
    EXPECT_TRUE(
        r_->execute(kOne, nvme::reservation_report_command(1, 4096), data, nullptr)->status.ok());
    nvme::ReservationReportHeader header;
    std::memcpy(static_cast<void*>(&header), data.data(), sizeof header);
    return header;
  }

  nvme::KeptLog log_;
  std::unique_ptr<Context> context_;
  TestStore store_;
  std::unique_ptr<ReservationSaver> saver_;
  std::shared_ptr<Reservations> r_;
};

constexpr auto kPersist = nvme::ReservationPersistence::persist;
constexpr auto kForget = nvme::ReservationPersistence::forget;

TEST_F(KeptReservationsTest, ComeBackOnlyIfTheyAreToBe) {
  EXPECT_TRUE(add(kOne, 11) && acquire(kOne, 11));
  EXPECT_EQ(store_.saves, 0u);
  restart();
  EXPECT_EQ(report().registered, 0u) << "as the specification has it";
  EXPECT_TRUE(add(kOne, 11, kPersist) && add(kTwo, 22) && acquire(kOne, 11));
  EXPECT_EQ(store_.saves, 3u);
  const uint32_t generation = report().generation;
  restart();
  EXPECT_EQ(report().registered, 2u);
  EXPECT_EQ(report().type, static_cast<uint8_t>(ReservationType::exclusive_access));
  EXPECT_EQ(report().persist_through_power_loss, 1);
  EXPECT_EQ(report().generation, generation);
  EXPECT_TRUE(may_write(kOne));
  EXPECT_FALSE(may_write(kTwo));
  EXPECT_FALSE(may_write({"nqn.2014-08.org.example:three", {3}}));
  // Another subsystem's, or one with other identifiers, is another.
  EXPECT_FALSE((*saver_->restore("nqn.2014-08.org.example:other", kIds))->persists());
  EXPECT_FALSE((*saver_->restore(kDisk, {}))->persists());
  EXPECT_TRUE(add(kOne, 11, kForget));
  EXPECT_TRUE(store_.values.empty());
  EXPECT_FALSE(may_write(kTwo)) << "for now it stays";
  restart();
  EXPECT_EQ(report().registered, 0u);
}

TEST_F(KeptReservationsTest, TheFeatureIsAsTheCommand) {
  EXPECT_TRUE(add(kOne, 11));
  std::promise<ReservationOutcome> done;
  EXPECT_FALSE(r_->set_persists(true, [&](auto outcome) { done.set_value(outcome); }));
  EXPECT_TRUE(done.get_future().get().status.ok());
  EXPECT_TRUE(r_->set_persists(true, nullptr)->status.ok()) << "is already: answered at once";
  restart();
  EXPECT_EQ(report().registered, 1u);
  Reservations unkept;
  EXPECT_TRUE(unkept.set_persists(true, nullptr)->status.is(nvme::kFeatureNotChangeable));
  EXPECT_TRUE(unkept.set_persists(false, nullptr)->status.ok());
}

// Goal: until a change is safe hosts meet the old state, and what comes meanwhile waits for its turn.
TEST_F(KeptReservationsTest, AreAsTheyWereUntilTheyAreSaved) {
  EXPECT_TRUE(add(kOne, 11, kPersist) && add(kTwo, 22));
  std::future<ReservationOutcome> first, second, third;
  {
    const MutexLock nothing_is_saved(store_.gate);
    const auto acquire_command = nvme::reservation_acquire_command(
        1, ReservationAcquire::acquire, ReservationType::exclusive_access);
    first = begin(kOne, acquire_command, 11, 0);
    second = begin(kTwo, acquire_command, 22, 0);
    third = begin(kTwo, nvme::reservation_register_command(1, ReservationRegister::remove), 22, 0);
    EXPECT_TRUE(may_write(kTwo));
    EXPECT_EQ(report().type, 0) << "a report waits for nobody";
    EXPECT_EQ(first.wait_for(std::chrono::milliseconds(20)), std::future_status::timeout);
    EXPECT_EQ(second.wait_for(std::chrono::milliseconds(0)), std::future_status::timeout);
  }
  EXPECT_TRUE(first.get().status.ok());
  EXPECT_TRUE(second.get().status.is(nvme::kReservationConflict)) << "the first one has it";
  EXPECT_TRUE(third.get().status.ok());
  EXPECT_FALSE(may_write(kTwo));
  EXPECT_EQ(report().registered, 1u);
}

TEST_F(KeptReservationsTest, StayWhenTheyCannotBeSaved) {
  EXPECT_TRUE(add(kOne, 11, kPersist));
  store_.fails = true;
  EXPECT_TRUE(run(kTwo, add_command(nvme::ReservationPersistence::as_it_is), 0, 22)
                  .is(nvme::kInternalError));
  EXPECT_EQ(report().registered, 1u);
  EXPECT_TRUE(acquire(kOne, 11) == false && may_write(kTwo));
  EXPECT_NE(log_.text().find("stay as they were: I/O error: the store is broken"),
            std::string::npos)
      << log_.text();
  store_.fails = false;
  EXPECT_TRUE(add(kTwo, 22));
  restart();
  EXPECT_EQ(report().registered, 2u);
}

// Goal: the largest there can be, and what is not to be read is refused in words, whatever byte is wrong.
TEST_F(KeptReservationsTest, AreReadBackOrRefused) {
  const std::string long_name = "nqn.2014-08.org.example:" + std::string(199, 'x');
  for (unsigned i = 0; i < ReservationState::kMaxRegistrants; ++i) {
    HostIdentity host{long_name, {1, static_cast<uint8_t>(i)}};
    ASSERT_TRUE(add(host, i + 1, kPersist)) << i;
  }
  EXPECT_FALSE(add(kOne, 11)) << "one too many";
  restart();
  EXPECT_EQ(report().registered, ReservationState::kMaxRegistrants);
  EXPECT_TRUE(may_write({long_name, {1, 255}}));

  store_.values.clear();
  restart();
  EXPECT_TRUE(add(kOne, 11, kPersist) && add(kTwo, 22) && acquire(kTwo, 22));
  const std::string good = store_.values.begin()->second;
  std::string& value = store_.values.begin()->second;
  const auto refused = [&](const std::string& bytes) {
    value = bytes;
    const auto restored = saver_->restore(kDisk, kIds);
    value = good;
    return restored ? "" : restored.error().to_string();
  };
  EXPECT_EQ(refused(good), "");
  for (size_t bytes = 0; bytes < good.size(); ++bytes) {
    EXPECT_NE(refused(good.substr(0, bytes)), "") << bytes;
  }
  EXPECT_NE(refused(good + "x"), "");
  const auto with = [&](size_t at, char byte) {
    std::string changed = good;
    changed[at] = byte;
    return changed;
  };
  EXPECT_NE(refused(with(0, 2)).find("version 2"), std::string::npos) << refused(with(0, 2));
  EXPECT_NE(refused(with(12, 7)).find("no reservation type 7"), std::string::npos);
  EXPECT_NE(refused(with(10, 2)).find("holder 2"), std::string::npos);
  EXPECT_NE(refused(with(12, 0)).find("holder 1"), std::string::npos) << "of nothing";
  EXPECT_NE(refused(with(12, 5)).find("holder 1"), std::string::npos) << "of what is all's";
  EXPECT_NE(refused(with(9, 2)).find("registrants"), std::string::npos);
  EXPECT_NE(log_.text().find("not exported"), std::string::npos) << log_.text();
}

}  // namespace
}  // namespace basalt::nvmf
