// Commands word by word, against the tables of the specifications.
#include "nvme/commands.h"

#include <gtest/gtest.h>

#include "nvme/describe_io.h"
#include "wire/nvme/fabrics.h"

namespace basalt::nvme {
namespace {

struct Words {
  uint8_t opcode;
  uint32_t nsid, cdw10, cdw11, cdw12, cdw13;
  friend bool operator==(const Words&, const Words&) = default;
  friend void PrintTo(const Words& w, std::ostream* out) {
    *out << std::hex << int{w.opcode} << " nsid " << w.nsid << " words " << w.cdw10 << " "
         << w.cdw11 << " " << w.cdw12 << " " << w.cdw13;
  }
};
Words of(const Command& c) { return {c.opcode, c.nsid, c.cdw10, c.cdw11, c.cdw12, c.cdw13}; }

constexpr uint64_t kLba = 0x1122334455667788;
constexpr uint32_t kLow = 0x55667788, kHigh = 0x11223344;

TEST(Commands, OfBlocks) {
  EXPECT_EQ(of(read_command(7, kLba, 8)), (Words{0x02, 7, kLow, kHigh, 7, 0}));
  EXPECT_EQ(of(write_command(7, kLba, 65536, kForceUnitAccess)),
            (Words{0x01, 7, kLow, kHigh, 0x4000'ffff, 0}));
  EXPECT_EQ(of(write_zeroes_command(7, kLba, 1, kDeallocate)),
            (Words{0x08, 7, kLow, kHigh, 0x0200'0000, 0}));
  EXPECT_EQ(of(compare_command(7, kLba, 2)), (Words{0x05, 7, kLow, kHigh, 1, 0}));
  EXPECT_EQ(of(verify_command(7, kLba, 2)), (Words{0x0c, 7, kLow, kHigh, 1, 0}));
  EXPECT_EQ(of(write_uncorrectable_command(7, kLba, 2)), (Words{0x04, 7, kLow, kHigh, 1, 0}));
  EXPECT_EQ(of(copy_command(7, kLba, 3)), (Words{0x19, 7, kLow, kHigh, 2, 0}));
  EXPECT_EQ(of(deallocate_command(7, 256)), (Words{0x09, 7, 255, 4, 0, 0}));
  EXPECT_EQ(of(flush_command(7)), (Words{0x00, 7, 0, 0, 0, 0}));
  Command compare = compare_command(7, 0, 1), write = write_command(7, 0, 1);
  fuse(compare, write);
  EXPECT_EQ(compare.flags, 1);
  EXPECT_EQ(write.flags, 2);
}

TEST(Commands, WithProtectionByTheController) {
  Command write = write_command(7, kLba, 8, kForceUnitAccess);
  protect_by_controller(write, 1);
  EXPECT_EQ(of(write), (Words{0x01, 7, kLow, kHigh, 0x7400'0007, 0}));
  EXPECT_EQ(write.cdw14, kLow);
  Command read = read_command(7, kLba, 8);
  protect_by_controller(read, 3);
  EXPECT_EQ(of(read), (Words{0x02, 7, kLow, kHigh, 0x3000'0007, 0}));
  EXPECT_EQ(read.cdw14, 0u);
}

TEST(Commands, OfZones) {
  EXPECT_EQ(of(zone_append_command(7, kLba, 16)), (Words{0x7d, 7, kLow, kHigh, 15, 0}));
  EXPECT_EQ(of(zone_action_command(7, kLba, ZoneAction::reset)),
            (Words{0x79, 7, kLow, kHigh, 0, 4}));
  EXPECT_EQ(of(zone_action_command(7, 0, ZoneAction::finish, kAllZones)),
            (Words{0x79, 7, 0, 0, 0, 0x102}));
  EXPECT_EQ(of(zone_report_command(7, kLba, 4096)), (Words{0x7a, 7, kLow, kHigh, 1023, 0x10000}));
}

TEST(Commands, OfReservations) {
  EXPECT_EQ(of(reservation_register_command(7, ReservationRegister::replace, true)),
            (Words{0x0d, 7, 0xa, 0, 0, 0}));
  EXPECT_EQ(of(reservation_acquire_command(7, ReservationAcquire::preempt,
                                           ReservationType::exclusive_access)),
            (Words{0x11, 7, 0x201, 0, 0, 0}));
  EXPECT_EQ(of(reservation_release_command(7, ReservationRelease::clear,
                                           ReservationType::write_exclusive)),
            (Words{0x15, 7, 0x101, 0, 0, 0}));
  EXPECT_EQ(of(reservation_report_command(7, 4096)), (Words{0x0e, 7, 1023, 1, 0, 0}));
}

TEST(Commands, OfAdministration) {
  EXPECT_EQ(of(identify_command(IdentifyKind::command_set_namespace, 7, CommandSet::zoned)),
            (Words{0x06, 7, 0x05, 0x0200'0000, 0, 0}));
  EXPECT_EQ(of(log_page_command(LogPage::health, 512)),
            (Words{0x02, kAllNamespaces, 0x007f'0002, 0, 0, 0}));
  EXPECT_EQ(of(format_command(7, 0x25, SecureErase::cryptographic)),
            (Words{0x80, 7, 0x5 | 2 << 9 | 2 << 12, 0, 0, 0}));
  EXPECT_EQ(of(sanitize_command(SanitizeAction::crypto_erase)), (Words{0x84, 0, 4, 0, 0, 0}));
  EXPECT_EQ(of(firmware_download_command(8192, 4096)), (Words{0x11, 0, 1023, 2048, 0, 0}));
  EXPECT_EQ(of(firmware_commit_command(3, FirmwareAction::store_and_activate_now)),
            (Words{0x10, 0, 0x1b, 0, 0, 0}));
  EXPECT_EQ(of(create_namespace_command()), (Words{0x0d, 0, 0, 0, 0, 0}));
  EXPECT_EQ(of(delete_namespace_command(7)), (Words{0x0d, 7, 1, 0, 0, 0}));
  EXPECT_EQ(of(attach_namespace_command(7, true)), (Words{0x15, 7, 0, 0, 0, 0}));
  EXPECT_EQ(of(attach_namespace_command(7, false)), (Words{0x15, 7, 1, 0, 0, 0}));
  EXPECT_EQ(of(abort_command(3, 0x1234)), (Words{0x08, 0, 0x1234'0003, 0, 0, 0}));
}

TEST(Commands, OfFabrics) {
  const Command connect = connect_command(5, 128, 10'000);
  EXPECT_EQ(of(connect), (Words{0x7f, 1, 5u << 16, 127, 10'000, 0}));
  EXPECT_EQ(connect.flags, 0x40);
  EXPECT_EQ(of(property_get_command(Register::capabilities, true)), (Words{0x7f, 4, 1, 0, 0, 0}));
  EXPECT_EQ(of(property_set_command(Register::configuration, 0x460001)),
            (Words{0x7f, 0, 0, 0x14, 0x460001, 0}));
}

TEST(Commands, SayWhichWayTheirDataGoes) {
  EXPECT_EQ(data_direction(read_command(1, 0, 1)), DataDirection::to_host);
  EXPECT_EQ(data_direction(write_command(1, 0, 1)), DataDirection::to_controller);
  EXPECT_EQ(data_direction(flush_command(1)), DataDirection::none);
  EXPECT_EQ(data_direction(zone_append_command(1, 0, 1)), DataDirection::to_controller);
  EXPECT_EQ(data_direction(zone_report_command(1, 0, 4096)), DataDirection::to_host);
  EXPECT_EQ(data_direction(connect_command(0, 2, 0)), DataDirection::to_controller);
  EXPECT_EQ(data_direction(property_get_command(Register::status, false)), DataDirection::none);
  EXPECT_EQ(data_direction(identify_command(IdentifyKind::controller)), DataDirection::to_host);
}

TEST(Commands, AreDescribedWithWhatBecameOfThem) {
  Request request;
  request.command = read_command(1, 123, 8);
  request.completion.status_and_phase = 0x281 << 1;
  EXPECT_EQ(describe_io(request),
            "read of namespace 1, LBA 123+8: unrecovered read error (media, 0x81)");
  request.command = flush_command(2);
  request.completion = {};
  request.status = StatusCode::device_removed;
  EXPECT_NE(describe_io(request).find("flush of namespace 2: "), std::string::npos);
  EXPECT_NE(describe_io(request).find("without an answer"), std::string::npos);
  request.command.opcode = 0xc3;
  EXPECT_NE(describe_io(request).find("command 0xc3 of namespace 2"), std::string::npos);
}

}  // namespace
}  // namespace basalt::nvme
