// What the target counts: by queue, host and namespace; while commands are outstanding; when queues end and hosts go.
#include <gtest/gtest.h>

#include "targets/nvmf/host_accounts.h"
#include "targets/nvmf/io_counters.h"
#include "test/targets/nvmf/raw_host.h"
#include "test/targets/nvmf/served_target.h"

namespace basalt {
namespace {

using nvmf::HostAccounts;
using nvmf::IoKind;
using nvmf::IoTotals;

constexpr const char* kCountedHost = "nqn.2014-08.org.example:host";

nvme::Command counted_command(nvme::IoOpcode opcode, uint64_t lba = 0) {
  nvme::Command command;
  command.opcode = static_cast<uint8_t>(opcode);
  command.nsid = 1;
  command.cdw10 = static_cast<uint32_t>(lba);
  return command;
}

std::vector<std::byte> block() { return std::vector<std::byte>(512, std::byte{7}); }

// Until it holds, for what the target does after it has answered.
template <class Condition>
void eventually(const Condition& condition) {
  for (int i = 0; i < 2000 && !condition(); ++i) sleep_for(std::chrono::milliseconds(5));
  EXPECT_TRUE(condition());
}

IoTotals all_of(const nvmf::Subsystem& subsystem) {
  IoTotals sum;
  for (const auto& host : subsystem.accounts().by_host()) sum.add(host.totals);
  return sum;
}

TEST(IoCounters, AddUp) {
  nvmf::IoCounters counters;
  counters.begin();
  counters.begin();
  counters.begin();
  counters.end(IoKind::read, true, 4096, Duration(100));
  counters.end(IoKind::read, false, 4096, Duration(3000));
  EXPECT_EQ(counters.outstanding(), 1u);
  counters.abandon();
  IoTotals once, twice;
  once.add(counters);
  twice.add(once);
  twice.add(counters);
  EXPECT_EQ(once.outstanding, 0u);
  EXPECT_EQ(once.of(IoKind::read).operations(), 2u);
  EXPECT_EQ(once.of(IoKind::read).bytes, 4096u);
  EXPECT_EQ(once.of(IoKind::read).errors, 1u);
  EXPECT_EQ(once.of(IoKind::read).nanoseconds, 3100u);
  EXPECT_EQ(once.of(IoKind::write).operations(), 0u);
  EXPECT_EQ(twice.of(IoKind::read).operations(), 4u);
  EXPECT_EQ(twice.of(IoKind::read).nanoseconds, 6200u);
}

TEST(IoCounters, AHistogramsSumIsEstimated) {
  for (uint64_t value : {16u, 100u, 1023u, 1024u, 77'777u, 1'000'000'000u}) {
    LatencyHistogram histogram;
    histogram.add(value, 10);
    const double ratio = static_cast<double>(nvmf::estimated_sum(histogram)) / (10.0 * value);
    EXPECT_GT(ratio, 1 - 0.126) << value;
    EXPECT_LT(ratio, 1 + 0.126) << value;
  }
}

TEST(HostAccounts, KeepListedHostsAndSumTheOthers) {
  HostAccounts accounts;
  const auto do_one = [&](const std::string& host, bool listed) {
    const auto record = accounts.begin(
        {.host = host, .queue_id = 1, .listener = "", .peer = "", .reactor = ""}, listed);
    record->counters->begin();
    record->counters->end(IoKind::write, true, 512, Duration(50));
    accounts.end(*record);
  };
  do_one("listed", true);
  do_one("listed", true);
  do_one("stranger", false);
  do_one("stranger", false);
  auto hosts = accounts.state().by_host();
  ASSERT_EQ(hosts.size(), 2u);
  EXPECT_EQ(hosts[0].host, "listed");
  EXPECT_EQ(hosts[0].totals.of(IoKind::write).operations(), 2u);
  EXPECT_EQ(hosts[1].host, "") << "the others come last";
  EXPECT_EQ(hosts[1].totals.of(IoKind::write).operations(), 2u);
  accounts.set_listed("listed", false);
  hosts = accounts.state().by_host();
  ASSERT_EQ(hosts.size(), 1u);
  EXPECT_EQ(hosts[0].totals.of(IoKind::write).operations(), 4u);
}

// Goal: a host that is taken off the list while it has a queue is known until that ends.
TEST(HostAccounts, AreThereAsLongAsAQueueIs) {
  HostAccounts accounts;
  const auto admin =
      accounts.begin({.host = "h", .queue_id = 0, .listener = "", .peer = "", .reactor = ""}, true);
  EXPECT_EQ(admin->counters, nullptr);
  accounts.set_listed("h", false);
  ASSERT_EQ(accounts.state().by_host().size(), 1u);
  EXPECT_EQ(accounts.state().by_host()[0].host, "h");
  accounts.set_listed("h", true);
  accounts.end(*admin);
  accounts.set_listed("h", false);
  EXPECT_TRUE(accounts.state().by_host().empty());
}

// Goal: hosts that call themselves anything do not make accounts without end.
TEST(HostAccounts, AreBounded) {
  HostAccounts accounts;
  std::vector<std::shared_ptr<nvmf::QueueRecord>> records;
  const auto begin = [&](size_t number, bool listed) {
    records.push_back(accounts.begin({.host = "h" + std::to_string(number),
                                      .queue_id = 1,
                                      .listener = "",
                                      .peer = "",
                                      .reactor = ""},
                                     listed));
    records.back()->counters->begin();
  };
  constexpr size_t kMore = HostAccounts::kMaxUnlisted + 10;
  for (size_t i = 0; i < kMore; ++i) begin(i, false);
  begin(kMore, true);
  begin(0, false);  // known already
  const auto hosts = accounts.state().by_host();
  ASSERT_EQ(hosts.size(), HostAccounts::kMaxUnlisted + 2);
  EXPECT_EQ(hosts.back().host, "");
  EXPECT_EQ(hosts.back().io_queues, 10u);
  EXPECT_EQ(hosts.back().totals.outstanding, 10u);
  EXPECT_EQ(records.back()->account, "h0");
  for (const auto& record : records) {
    record->counters->end(IoKind::read, true, 1, Duration(1));
    accounts.end(*record);
  }
  IoTotals sum;
  for (const auto& host : accounts.state().by_host()) sum.add(host.totals);
  EXPECT_EQ(sum.of(IoKind::read).operations(), kMore + 2);
  EXPECT_EQ(accounts.state().by_host().size(), 2u) << "the listed one and the others";
}

TEST(TargetCounts, WhatAHostDoes) {
  ServedTarget served({"ram:1M"}, 2);
  const auto subsystem = served.target->find_subsystem(ServedTarget::kNqn);
  {
    RawHost admin(served.address), io(served.address);
    io.become_io(ServedTarget::kNqn, admin.become_admin(ServedTarget::kNqn));
    for (int i = 0; i < 3; ++i) {
      EXPECT_TRUE(io.run(counted_command(nvme::IoOpcode::write), block()).status().ok());
    }
    EXPECT_TRUE(io.run(counted_command(nvme::IoOpcode::read), {}, 512).status().ok());
    EXPECT_FALSE(io.run(counted_command(nvme::IoOpcode::read, 1 << 20), {}, 512).status().ok());
    EXPECT_TRUE(io.run(counted_command(nvme::IoOpcode::flush)).status().ok());
    nvme::Command nowhere = counted_command(nvme::IoOpcode::flush);
    nowhere.nsid = 9;
    EXPECT_FALSE(io.run(nowhere).status().ok());

    const nvmf::AccountsState state = subsystem->accounts();
    ASSERT_EQ(state.queues.size(), 2u);
    const auto hosts = state.by_host();
    ASSERT_EQ(hosts.size(), 1u);
    EXPECT_EQ(hosts[0].host, kCountedHost);
    EXPECT_EQ(hosts[0].io_queues, 1u);
    const IoTotals& totals = hosts[0].totals;
    EXPECT_EQ(totals.outstanding, 0u);
    EXPECT_EQ(totals.of(IoKind::write).operations(), 3u);
    EXPECT_EQ(totals.of(IoKind::write).bytes, 3 * 512u);
    EXPECT_EQ(totals.of(IoKind::write).errors, 0u);
    EXPECT_EQ(totals.of(IoKind::read).operations(), 2u);
    EXPECT_EQ(totals.of(IoKind::read).bytes, 512u);
    EXPECT_EQ(totals.of(IoKind::read).errors, 1u);
    EXPECT_EQ(totals.of(IoKind::other).operations(), 2u);
    EXPECT_EQ(totals.of(IoKind::other).errors, 1u);
    const IoTotals space = (*subsystem->namespaces())[0]->counters->total();
    EXPECT_EQ(space.outstanding, 0u);
    EXPECT_EQ(space.of(IoKind::write).operations(), 3u);
    EXPECT_EQ(space.of(IoKind::read).errors, 1u);
    EXPECT_EQ(space.of(IoKind::other).operations(), 1u) << "not what was for no namespace";
    const auto totals_of_device = served.target->totals(*served.devices[0]);
    EXPECT_EQ(totals_of_device.write_latency.count(), 3u);
    EXPECT_EQ(totals_of_device.read_latency.count(), 1u);
    uint64_t commands = 0, queues = 0;
    for (const auto& group : served.target->groups()) {
      commands += group.io_commands;
      queues += group.all_io_queues + group.all_admin_queues;
    }
    EXPECT_EQ(commands, 7u);
    EXPECT_EQ(queues, 2u);
  }
  // Nobody has it on a list: it is one of the others, and nothing of it is lost.
  eventually([&] { return subsystem->accounts().queues.empty(); });
  const auto hosts = subsystem->accounts().by_host();
  ASSERT_EQ(hosts.size(), 1u);
  EXPECT_EQ(hosts[0].host, "");
  EXPECT_EQ(hosts[0].totals.of(IoKind::write).operations(), 3u);
  EXPECT_EQ(served.target->groups()[0].io_queues + served.target->groups()[1].io_queues, 0u);
}

// Goal: a command whose data has been asked for is outstanding; when its host goes it is not, and was not an operation.
TEST(TargetCounts, WhatIsOutstanding) {
  ServedTarget served({"ram:1M"});
  ServedTarget::expect_ok(served.target->add_host(ServedTarget::kNqn, kCountedHost));
  const auto subsystem = served.target->find_subsystem(ServedTarget::kNqn);
  {
    RawHost admin(served.address), io(served.address);
    io.become_io(ServedTarget::kNqn, admin.become_admin(ServedTarget::kNqn));
    nvme::Command large = counted_command(nvme::IoOpcode::write);
    large.cdw12 = 15;
    io.submit(large, {}, 16 * 512);
    const auto asked = io.receive();
    ASSERT_TRUE(asked && asked->type() == nvme::tcp::PduType::ready_to_transfer);
    EXPECT_EQ(all_of(*subsystem).outstanding, 1u);
  }
  eventually([&] { return subsystem->accounts().queues.empty(); });
  const auto hosts = subsystem->accounts().by_host();
  ASSERT_EQ(hosts.size(), 1u);
  EXPECT_EQ(hosts[0].host, kCountedHost) << "it is listed";
  EXPECT_EQ(hosts[0].totals.outstanding, 0u);
  EXPECT_EQ(hosts[0].totals.of(IoKind::write).operations(), 0u);
}

TEST(TargetCounts, BothHalvesOfFusedCommands) {
  ServedTarget served({"ram:1M"});
  const auto subsystem = served.target->find_subsystem(ServedTarget::kNqn);
  RawHost admin(served.address), io(served.address);
  io.become_io(ServedTarget::kNqn, admin.become_admin(ServedTarget::kNqn));
  nvme::Command compare = counted_command(nvme::IoOpcode::compare);
  nvme::Command write = counted_command(nvme::IoOpcode::write);
  compare.flags = nvme::kFusedFirst;
  write.flags = nvme::kFusedSecond;
  write.cid = 1;
  io.submit(compare, std::vector<std::byte>(512));
  io.submit(write, block());
  EXPECT_TRUE(io.answer().status().ok());
  EXPECT_TRUE(io.answer().status().ok());
  const IoTotals space = (*subsystem->namespaces())[0]->counters->total();
  EXPECT_EQ(space.outstanding, 0u);
  EXPECT_EQ(space.of(IoKind::other).operations(), 1u);
  EXPECT_EQ(space.of(IoKind::write).operations(), 1u);
  EXPECT_EQ(space.of(IoKind::write).bytes, 512u);
  EXPECT_EQ(all_of(*subsystem).of(IoKind::write).operations(), 1u);
}

}  // namespace
}  // namespace basalt
