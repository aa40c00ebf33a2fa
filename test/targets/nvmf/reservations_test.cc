// Reservations: every type against holders, registrants and strangers, and how they pass from one host to another.
#include "targets/nvmf/reservations.h"

#include <gtest/gtest.h>

#include <cstring>

#include "nvme/commands.h"

namespace basalt::nvmf {
namespace {

using nvme::Command;
using nvme::CompletionStatus;
using nvme::IoOpcode;
using nvme::ReservationAcquire;
using nvme::ReservationRegister;
using nvme::ReservationRelease;
using nvme::ReservationType;

const HostIdentity kFirst{"first", {1}}, kSecond{"second", {2}}, kThird{"third", {3}};

class ReservationsTest : public testing::Test {
 protected:
  static std::array<std::byte, 16> keys(uint64_t current, uint64_t other) {
    const nvme::ReservationKeys both{current, other};
    std::array<std::byte, 16> bytes;
    std::memcpy(bytes.data(), &both, sizeof both);
    return bytes;
  }
  // None of these is saved, so each is answered at once.
  CompletionStatus run(const HostIdentity& host, const Command& command,
                       std::span<std::byte> data) {
    const auto outcome = r_.execute(host, command, data, nullptr);
    EXPECT_TRUE(outcome);
    told_.clear();
    for (const auto& notice : outcome->notices) {
      told_ += std::to_string(static_cast<int>(notice.type)) + ":";
      for (const HostIdentity& to : notice.hosts) told_ += " " + to.nqn;
      told_ += "; ";
    }
    aborted_ = outcome->aborted;
    return outcome->status;
  }
  bool add(const HostIdentity& host, uint64_t key) {
    auto data = keys(0, key);
    return run(host, nvme::reservation_register_command(1, ReservationRegister::add), data).ok();
  }
  CompletionStatus change(const HostIdentity& host, ReservationRegister action, uint64_t current,
                          uint64_t wanted, bool any_key = false) {
    auto data = keys(current, wanted);
    return run(host, nvme::reservation_register_command(1, action, any_key), data);
  }
  CompletionStatus acquire(const HostIdentity& host, ReservationAcquire action,
                           ReservationType type, uint64_t key, uint64_t other = 0) {
    auto data = keys(key, other);
    return run(host, nvme::reservation_acquire_command(1, action, type), data);
  }
  CompletionStatus release(const HostIdentity& host, ReservationRelease action,
                           ReservationType type, uint64_t key) {
    auto data = keys(key, 0);
    return run(host, nvme::reservation_release_command(1, action, type), data);
  }
  // "rw", "r" or "": what the host may do.
  std::string may(const HostIdentity& host) {
    std::string text;
    if (r_.check(host, nvme::read_command(1, 0, 1)).ok()) text += "r";
    if (r_.check(host, nvme::write_command(1, 0, 1)).ok()) text += "w";
    Command flush;
    EXPECT_EQ(r_.check(host, flush).ok(), text == "rw") << "a flush is as a write";
    return text;
  }
  nvme::ReservationReportHeader report(std::vector<nvme::RegisteredHost>* hosts = nullptr) {
    std::vector<std::byte> data(4096);
    Command command;
    command.opcode = static_cast<uint8_t>(IoOpcode::reservation_report);
    command.cdw10 = 1023;
    command.cdw11 = 1;
    EXPECT_TRUE(run(kFirst, command, data).ok());
    nvme::ReservationReportHeader header;
    std::memcpy(static_cast<void*>(&header), data.data(), sizeof header);
    for (unsigned i = 0; hosts != nullptr && i < header.registered; ++i) {
      nvme::RegisteredHost host;
      std::memcpy(static_cast<void*>(&host), data.data() + 64 * (i + 1), sizeof host);
      hosts->push_back(host);
    }
    return header;
  }
  Reservations r_;
  // Of the last command: "TYPE: HOST HOST; ", and whose commands are to end.
  std::string told_;
  std::vector<HostIdentity> aborted_;
};

TEST_F(ReservationsTest, EachTypeLetsInWhomItSays) {
  struct Row {
    ReservationType type;
    const char *holder, *registrant, *stranger;
  };
  constexpr Row kRows[] = {
      {ReservationType::write_exclusive, "rw", "r", "r"},
      {ReservationType::exclusive_access, "rw", "", ""},
      {ReservationType::write_exclusive_registrants_only, "rw", "rw", "r"},
      {ReservationType::exclusive_access_registrants_only, "rw", "rw", ""},
      {ReservationType::write_exclusive_all_registrants, "rw", "rw", "r"},
      {ReservationType::exclusive_access_all_registrants, "rw", "rw", ""},
  };
  EXPECT_TRUE(add(kFirst, 11));
  EXPECT_TRUE(add(kSecond, 22));
  EXPECT_EQ(may(kThird), "rw") << "registered is not reserved";
  for (const Row& row : kRows) {
    SCOPED_TRACE(static_cast<int>(row.type));
    EXPECT_TRUE(acquire(kFirst, ReservationAcquire::acquire, row.type, 11).ok());
    EXPECT_EQ(may(kFirst), row.holder);
    EXPECT_EQ(may(kSecond), row.registrant);
    EXPECT_EQ(may(kThird), row.stranger);
    EXPECT_TRUE(release(kFirst, ReservationRelease::release, row.type, 11).ok());
    EXPECT_EQ(may(kThird), "rw");
  }
}

TEST_F(ReservationsTest, KeysAreAskedFor) {
  EXPECT_TRUE(add(kFirst, 11));
  EXPECT_TRUE(add(kFirst, 11)) << "again the same";
  EXPECT_FALSE(add(kSecond, 0));
  EXPECT_FALSE(add(kFirst, 12));
  const auto type = ReservationType::write_exclusive;
  EXPECT_FALSE(acquire(kFirst, ReservationAcquire::acquire, type, 12).ok());
  EXPECT_FALSE(acquire(kSecond, ReservationAcquire::acquire, type, 11).ok());
  EXPECT_TRUE(acquire(kFirst, ReservationAcquire::acquire, type, 11).ok());
  EXPECT_FALSE(release(kFirst, ReservationRelease::release, type, 12).ok());
  EXPECT_TRUE(release(kFirst, ReservationRelease::release, ReservationType::exclusive_access, 11)
                  .is(nvme::kInvalidField));
  EXPECT_FALSE(change(kFirst, ReservationRegister::replace, 12, 13).ok());
  EXPECT_TRUE(change(kFirst, ReservationRegister::replace, 11, 13).ok());
  EXPECT_TRUE(change(kSecond, ReservationRegister::replace, 0, 22, true).ok());
  EXPECT_FALSE(change(kThird, ReservationRegister::remove, 0, 0).ok());
  EXPECT_TRUE(change(kFirst, ReservationRegister::remove, 13, 0).ok());
  EXPECT_EQ(report().type, 0) << "it went with its holder";
  EXPECT_EQ(report().registered, 1u);
}

TEST_F(ReservationsTest, AllRegistrantsHoldItUntilTheLastHasGone) {
  const auto type = ReservationType::exclusive_access_all_registrants;
  EXPECT_TRUE(add(kFirst, 11) && add(kSecond, 22));
  EXPECT_TRUE(acquire(kFirst, ReservationAcquire::acquire, type, 11).ok());
  EXPECT_TRUE(acquire(kSecond, ReservationAcquire::acquire, type, 22).ok()) << "it does already";
  EXPECT_TRUE(change(kFirst, ReservationRegister::remove, 11, 0).ok());
  EXPECT_EQ(may(kSecond), "rw");
  EXPECT_EQ(may(kFirst), "");
  EXPECT_TRUE(change(kSecond, ReservationRegister::remove, 22, 0).ok());
  EXPECT_EQ(may(kFirst), "rw");
}

TEST_F(ReservationsTest, IsTakenFromAnother) {
  const auto type = ReservationType::exclusive_access;
  EXPECT_TRUE(add(kFirst, 11) && add(kSecond, 22) && add(kThird, 33));
  EXPECT_TRUE(acquire(kFirst, ReservationAcquire::acquire, type, 11).ok());
  EXPECT_FALSE(acquire(kSecond, ReservationAcquire::acquire, type, 22).ok());
  EXPECT_FALSE(acquire(kSecond, ReservationAcquire::preempt, type, 22, 99).ok()) << "nobody's key";
  EXPECT_TRUE(acquire(kSecond, ReservationAcquire::preempt, type, 22, 0).is(nvme::kInvalidField));
  EXPECT_EQ(may({"first's twin", kFirst.id}), "") << "an identifier is not enough";
  const uint32_t before = report().generation;
  EXPECT_TRUE(acquire(kSecond, ReservationAcquire::preempt, type, 22, 33).ok()) << "another's";
  EXPECT_EQ(may(kFirst), "rw") << "who holds it still";
  EXPECT_TRUE(acquire(kSecond, ReservationAcquire::preempt, type, 22, 11).ok());
  EXPECT_EQ(may(kFirst), "");
  EXPECT_EQ(may(kSecond), "rw");
  EXPECT_EQ(report().generation, before + 2);
  std::vector<nvme::RegisteredHost> hosts;
  EXPECT_EQ(report(&hosts).registered, 1u);
  EXPECT_EQ(hosts[0].key, 22u);
  EXPECT_EQ(hosts[0].holder, 1);
  EXPECT_EQ(hosts[0].host_id[0], 2);
  EXPECT_TRUE(release(kSecond, ReservationRelease::clear, type, 22).ok());
  EXPECT_EQ(report().registered, 0u);
  EXPECT_EQ(may(kThird), "rw");
}

// Goal: who is told of what, and whose commands end (base specification 2.0, §8.19.1-8.19.5).
TEST_F(ReservationsTest, TellsTheOthers) {
  const auto one = ReservationType::write_exclusive;
  const auto registrants = ReservationType::write_exclusive_registrants_only;
  EXPECT_TRUE(add(kFirst, 11) && add(kSecond, 22) && add(kThird, 33));
  EXPECT_EQ(told_, "");
  EXPECT_TRUE(acquire(kFirst, ReservationAcquire::acquire, one, 11).ok());
  EXPECT_TRUE(release(kFirst, ReservationRelease::release, one, 11).ok());
  EXPECT_EQ(told_, "") << "it was of no use to them";
  EXPECT_TRUE(acquire(kFirst, ReservationAcquire::acquire, registrants, 11).ok());
  EXPECT_TRUE(release(kFirst, ReservationRelease::release, registrants, 11).ok());
  EXPECT_EQ(told_, "2: second third; ");
  EXPECT_TRUE(acquire(kFirst, ReservationAcquire::acquire, registrants, 11).ok());
  EXPECT_TRUE(change(kFirst, ReservationRegister::remove, 11, 0).ok());
  EXPECT_EQ(told_, "2: second third; ") << "it went with its holder";
  EXPECT_TRUE(add(kFirst, 11));
  EXPECT_TRUE(acquire(kFirst, ReservationAcquire::acquire, one, 11).ok());
  EXPECT_TRUE(acquire(kSecond, ReservationAcquire::preempt, one, 22, 11).ok());
  EXPECT_EQ(told_, "1: first; ") << "the type is what it was";
  EXPECT_TRUE(aborted_.empty());
  EXPECT_TRUE(add(kFirst, 11));
  EXPECT_TRUE(acquire(kThird, ReservationAcquire::preempt_and_abort, registrants, 33, 22).ok());
  EXPECT_EQ(told_, "1: second; 2: first; ");
  ASSERT_EQ(aborted_.size(), 1u);
  EXPECT_EQ(aborted_[0], kSecond);
  EXPECT_TRUE(release(kFirst, ReservationRelease::clear, registrants, 11).ok());
  EXPECT_EQ(told_, "3: third; ");
}

TEST_F(ReservationsTest, RefusesWhatMakesNoSense) {
  std::array<std::byte, 8> little{};
  EXPECT_TRUE(
      run(kFirst, nvme::reservation_register_command(1, ReservationRegister::add, false), little)
          .is(nvme::kDataLengthInvalid));
  EXPECT_TRUE(add(kFirst, 11));
  EXPECT_TRUE(acquire(kFirst, ReservationAcquire::acquire, ReservationType::none, 11)
                  .is(nvme::kInvalidField));
  EXPECT_TRUE(
      acquire(kFirst, static_cast<ReservationAcquire>(7), ReservationType::write_exclusive, 11)
          .is(nvme::kInvalidField));
  Command persist = nvme::reservation_register_command(1, ReservationRegister::add, false);
  persist.cdw10 = persist.cdw10 | 3u << 30;
  auto data = keys(0, 11);
  EXPECT_TRUE(run(kFirst, persist, data).is(nvme::kInvalidField)) << "nothing to keep it in";
  persist.cdw10 = 1u << 30;
  EXPECT_TRUE(run(kFirst, persist, data).is(nvme::kInvalidField)) << "reserved";
  Command report;
  report.opcode = static_cast<uint8_t>(IoOpcode::reservation_report);
  report.cdw10 = 3;
  EXPECT_TRUE(run(kFirst, report, data).is(nvme::kHostIdInconsistent));
  report.cdw11 = 1;
  EXPECT_TRUE(run(kFirst, report, data).ok()) << "as much as there is room for";
}

}  // namespace
}  // namespace basalt::nvmf
