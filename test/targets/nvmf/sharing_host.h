// SharingHost: one of several hosts of a namespace, who reserves it. Blocking; one thread.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "nvme/commands.h"
#include "test/targets/nvmf/raw_host.h"
#include "wire/nvme/log_page.h"

namespace basalt {

// A host with an admin queue and one for I/O.
class SharingHost {
 public:
  static constexpr uint32_t kBlock = 512;

  // Of namespace 1 of subsystem ServedTarget::kNqn, with the reservation key `key`.
  SharingHost(const nvmf::ListenAddress& address, uint8_t number, uint64_t key)
      : admin(address), io(address), key_(key) {
    const auto data = [&](uint16_t controller) {
      const std::string name = "nqn.2014-08.org.example:host" + std::to_string(number);
      nvme::ConnectData connect =
          RawHost::connect_data("nqn.2014-08.org.example:disk", controller, name);
      connect.host_id[0] = number;
      return connect;
    };
    admin.open();
    const RawAnswer connected = admin.connect(data(nvme::kAnyController), 0);
    EXPECT_TRUE(connected.status().ok()) << nvme::describe(connected.status());
    EXPECT_TRUE(admin
                    .run(nvme::property_set_command(nvme::Register::configuration,
                                                    nvme::kEnable | nvme::kEntrySizes))
                    .status()
                    .ok());
    io.open();
    const uint16_t id = nvme::ConnectResult{connected.completion.result}.controller_id();
    EXPECT_TRUE(io.connect(data(id), 1).status().ok());
  }

  static std::vector<std::byte> keys(uint64_t current, uint64_t other) {
    const nvme::ReservationKeys both{current, other};
    std::vector<std::byte> bytes(sizeof both);
    std::memcpy(bytes.data(), &both, sizeof both);
    return bytes;
  }
  nvme::CompletionStatus add(
      nvme::ReservationPersistence persistence = nvme::ReservationPersistence::as_it_is) {
    auto command = nvme::reservation_register_command(1, nvme::ReservationRegister::add);
    command.cdw10 = command.cdw10 | static_cast<uint32_t>(persistence)
                                        << nvme::kChangePersistenceShift;
    return io.run(command, keys(0, key_)).status();
  }
  nvme::CompletionStatus acquire(nvme::ReservationType type) {
    return io
        .run(nvme::reservation_acquire_command(1, nvme::ReservationAcquire::acquire, type),
             keys(key_, 0))
        .status();
  }
  nvme::CompletionStatus release(nvme::ReservationType type) {
    return io
        .run(nvme::reservation_release_command(1, nvme::ReservationRelease::release, type),
             keys(key_, 0))
        .status();
  }
  // Does not wait.
  void preempt_and_abort(uint64_t other, nvme::ReservationType type) {
    io.submit(
        nvme::reservation_acquire_command(1, nvme::ReservationAcquire::preempt_and_abort, type),
        keys(key_, other));
  }
  nvme::CompletionStatus write(uint64_t lba) {
    return io.run(nvme::write_command(1, lba, 1), std::vector<std::byte>(kBlock)).status();
  }
  nvme::ReservationNotificationLog read_log(bool retain = false) {
    auto command = nvme::log_page_command(nvme::LogPage::reservation_notification, 64);
    if (retain) command.cdw10 = command.cdw10 | nvme::kRetainAsyncEvent;
    const RawAnswer answer = admin.run(command, {}, 64);
    EXPECT_TRUE(answer.status().ok());
    nvme::ReservationNotificationLog log{};
    EXPECT_EQ(answer.data.size(), sizeof log);
    std::memcpy(static_cast<void*>(&log), answer.data.data(),
                std::min(sizeof log, answer.data.size()));
    return log;
  }
  uint16_t registered() {
    const RawAnswer answer = io.run(nvme::reservation_report_command(1, 4096), {}, 4096);
    nvme::ReservationReportHeader header;
    std::memcpy(static_cast<void*>(&header), answer.data.data(), sizeof header);
    return header.registered;
  }

  RawHost admin, io;

 private:
  const uint64_t key_;
};

}  // namespace basalt
