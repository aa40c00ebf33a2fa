// What the vfio-user client makes of messages that are not as they should be.
//
// Goal: each field of each reply that could lead astray is refused with an error that names it, without a crash,
// and the connection is over. Method: the server's own replies are spoilt, first by a table of one mistake each,
// then byte by byte.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "nvme/register_file.h"
#include "nvme/vfio_user/vfio_user_function.h"
#include "nvme/vfio_user_server.h"

namespace basalt::nvme {
namespace {

using namespace std::chrono_literals;
using namespace vfio_user;
using testing::HasSubstr;
using vfio_user::Command;
using Bytes = std::vector<std::byte>;
using Edit = std::function<void(Bytes&)>;
using Fate = VfioUserServerOptions::Fate;

std::string socket_path() { return testing::TempDir() + "vfm" + std::to_string(getpid()); }

// ---- Edits of a whole message; offsets count from its header.

template <typename T>
Edit put(size_t offset, T value) {
  return [=](Bytes& message) {
    const le<T> wire(value);
    if (offset + sizeof wire <= message.size()) {
      std::memcpy(message.data() + offset, &wire, sizeof wire);
    }
  };
}
Edit put16(size_t offset, uint16_t value) { return put(offset, value); }
Edit put32(size_t offset, uint32_t value) { return put(offset, value); }
Edit put64(size_t offset, uint64_t value) { return put(offset, value); }

// Shorter or longer, as the header then says.
Edit resize(size_t bytes) {
  return [=](Bytes& message) {
    message.resize(bytes);
    put32(4, static_cast<uint32_t>(bytes))(message);
  };
}
Edit json(std::string_view text) {
  return [text](Bytes& message) {
    resize(20 + text.size())(message);
    std::memcpy(message.data() + 20, text.data(), text.size());
  };
}
Edit all(std::vector<Edit> edits) {
  return [edits = std::move(edits)](Bytes& message) {
    for (const Edit& edit : edits) edit(message);
  };
}

struct Mistake {
  const char* name;
  Command command;
  Edit edit;
  const char* says;
  StatusCode code = StatusCode::corruption;
};

using namespace std::string_view_literals;
const Mistake kMistakes[] = {
    // The header, in any reply.
    {"header_shorter_than_itself", Command::version, put32(4, 15), "message size is 15"},
    {"message_of_4_GiB", Command::version, put32(4, 0xffffffff), "message size is 4294967295"},
    {"unknown_type", Command::version, put32(8, 2), "type is 2"},
    {"error_in_a_request", Command::version, put32(8, 32), "flags is 32"},
    {"wrong_id", Command::device_get_info, put16(0, 999), "message id is 999; expected 2"},
    {"wrong_command", Command::device_get_info, put16(2, 5), "command is 5; expected 4"},
    {"error_without_number", Command::device_get_info, all({resize(16), put32(8, 33)}),
     "error number 0", StatusCode::io_error},
    {"error_number_too_large", Command::device_get_info,
     all({resize(16), put32(8, 33), put32(12, 0x80000000)}), "error number 2147483648",
     StatusCode::io_error},
    {"refused", Command::device_get_info, all({resize(16), put32(8, 33), put32(12, EBUSY)}),
     "DEVICE_GET_INFO: the server refuses", StatusCode::busy},
    // VERSION
    {"version_cut", Command::version, resize(19), "payload size is 3; expected at least 4 B"},
    {"other_major", Command::version, put16(16, 1), "major version is 1", StatusCode::unsupported},
    {"later_minor", Command::version, put16(18, 9), "minor version is 9"},
    {"json_without_nul", Command::version, json("{}"sv), "no final NUL"},
    {"json_cut", Command::version, json("{\"capabilities\":{\0"sv), "no JSON object"},
    {"json_is_a_number", Command::version, json("7\0"sv), "no JSON object"},
    {"json_is_not_utf8", Command::version, json("{\"\xff\":1}\0"sv), "no JSON object"},
    {"json_is_deep", Command::version,
     [](Bytes& message) {
       static const std::string text = std::string(15000, '[') + '\0';
       json(text)(message);
     },
     "no JSON object"},
    {"json_too_long", Command::version,
     [](Bytes& message) { resize(20 + kMaxVersionBytes + 1)(message); }, "size of the JSON"},
    {"capabilities_are_a_list", Command::version, json("{\"capabilities\":[]}\0"sv),
     "capabilities are a array"},
    {"fds_negative", Command::version, json("{\"capabilities\":{\"max_msg_fds\":-1}}\0"sv),
     "capability max_msg_fds is no whole number"},
    {"fds_are_text", Command::version, json("{\"capabilities\":{\"max_msg_fds\":\"8\"}}\0"sv),
     "capability max_msg_fds is no whole number"},
    {"fraction", Command::version, json("{\"capabilities\":{\"max_dma_maps\":1.5}}\0"sv),
     "capability max_dma_maps is no whole number"},
    {"no_page_size", Command::version, json("{\"capabilities\":{\"pgsizes\":0}}\0"sv),
     "pgsizes is 0"},
    {"transfers_too_small", Command::version,
     json("{\"capabilities\":{\"max_data_xfer_size\":7}}\0"sv), "takes 7 B at once",
     StatusCode::unsupported},
    // DEVICE_GET_INFO
    {"device_info_cut", Command::device_get_info, resize(31), "payload size is 15"},
    {"no_payload", Command::device_get_info, resize(16), "payload size is 0"},
    {"no_pci_device", Command::device_get_info, put32(20, 1), "not a PCI device",
     StatusCode::unsupported},
    {"too_few_regions", Command::device_get_info, put32(24, 7), "number of regions is 7"},
    // DEVICE_GET_REGION_INFO: of BAR 0, whose sparse areas begin at 48; see is_bar0().
    {"region_info_cut", Command::device_get_region_info, resize(47), "payload size is 31"},
    {"other_region", Command::device_get_region_info, put32(24, 1), "region is 1; expected 0"},
    {"argsz_too_small", Command::device_get_region_info, put32(16, 31), "argsz is 31"},
    {"argsz_huge", Command::device_get_region_info, put32(16, 0xffffffff), "argsz is 4294967295"},
    {"less_than_argsz", Command::device_get_region_info, put32(16, 65), "payload size is 64"},
    {"still_less_than_argsz", Command::device_get_region_info, put32(16, 5000),
     "payload size is 64; expected the 5000 B"},
    {"list_grows", Command::device_get_region_info,
     [argsz = 5000u](Bytes& message) mutable { put32(16, argsz++)(message); },
     "its description grows"},
    {"bar_too_small", Command::device_get_region_info, all({put32(20, 3), put64(32, 0x1007)}),
     "has 4103 B and flags 0x3", StatusCode::unsupported},
    {"bar_write_only", Command::device_get_region_info, put32(20, 2), "flags 0x2",
     StatusCode::unsupported},
    {"capability_in_the_fixed_part", Command::device_get_region_info, put32(28, 24),
     "capability offset is 24"},
    {"capability_outside", Command::device_get_region_info, put32(28, 57),
     "capability offset is 57"},
    {"capability_at_the_end_of_everything", Command::device_get_region_info, put32(28, 0xffffffff),
     "capability offset is 4294967295"},
    {"capabilities_in_a_circle", Command::device_get_region_info, put32(52, 32),
     "capability offset is 32; expected from 40"},
    {"more_areas_than_bytes", Command::device_get_region_info, put32(56, 2),
     "number of sparse areas is 2; expected at most the 1"},
    {"4_billion_areas", Command::device_get_region_info, put32(56, 0xffffffff),
     "number of sparse areas is 4294967295"},
    {"area_past_the_region", Command::device_get_region_info, put64(72, 0x1001),
     "sparse area 0: size is 4097"},
    {"area_wraps", Command::device_get_region_info, put64(72, ~uint64_t{0}), "sparse area 0: size"},
    {"area_starts_outside", Command::device_get_region_info, put64(64, ~uint64_t{0}),
     "sparse area 0: size"},
    {"area_splits_a_page", Command::device_get_region_info,
     all({put64(64, 0x1800), put64(72, 0x800)}), "sparse area 0: offset is 6144"},
    {"file_offset_splits_a_page", Command::device_get_region_info, put64(40, 512), "offset is 512"},
    {"file_offset_wraps", Command::device_get_region_info, put64(40, ~uint64_t{4095}), "offset is"},
    {"file_too_short", Command::device_get_region_info, put64(40, 4096),
     "a file of 8192 B, and would need a regular file of at least 12288 B"},
    {"area_without_a_file", Command::device_get_region_info, {}, "no file came with that"},
    // DEVICE_GET_IRQ_INFO
    {"irq_info_cut", Command::device_get_irq_info, resize(31), "payload size is 15"},
    {"other_irq", Command::device_get_irq_info, put32(24, 1), "index is 1; expected 2"},
    {"too_many_irqs", Command::device_get_irq_info, put32(28, 2049), "count is 2049"},
    // REGION_READ and REGION_WRITE
    {"read_cut", Command::region_read, resize(31), "payload size is 15"},
    {"read_other_offset", Command::region_read, put64(16, 9), "offset is 9"},
    {"read_other_region", Command::region_read, put32(24, 1), "region is 1; expected 7"},
    {"read_other_count", Command::region_read, put32(28, 3), "count is 3"},
    {"read_less_data", Command::region_read, resize(35), "size of the data is 3; expected 4 B"},
    {"write_other_count", Command::region_write, put32(28, 1), "count is 1; expected 2"},
    {"write_cut", Command::region_write, resize(20), "payload size is 4"},
};

class MalformedReply : public testing::TestWithParam<Mistake> {};

TEST_P(MalformedReply, IsNamed) {
  const Mistake& mistake = GetParam();
  RegisterFile device(20, /*share_doorbells=*/true);
  // In replies about regions the table means BAR 0's.
  const auto meant = [&](Command command, const Bytes& reply) {
    return command == mistake.command &&
           (command != Command::device_get_region_info || reply[24] == std::byte{0});
  };
  const auto spoil = [&](Command command, Bytes& reply) {
    if (meant(command, reply) && mistake.edit) mistake.edit(reply);
    return Fate::send;
  };
  auto server = VfioUserServer::create(socket_path(), device,
                                       {.without_files = !mistake.edit, .spoil = spoil});
  ASSERT_TRUE(server);
  const auto function = VfioUserFunction::open(socket_path(), {.timeout = 2s});
  ASSERT_FALSE(function);
  EXPECT_EQ(function.error().code(), mistake.code) << function.error().to_string();
  EXPECT_THAT(function.error().to_string(), HasSubstr(mistake.says));
  EXPECT_THAT(function.error().to_string(), HasSubstr(socket_path()));
}

INSTANTIATE_TEST_SUITE_P(Each, MalformedReply, testing::ValuesIn(kMistakes),
                         [](const auto& each) { return each.param.name; });

// Goal: a list of areas that does not fit the first reply is asked for once more, with the room it needs.
TEST(RegionInfo, IsAskedForAgain) {
  RegisterFile device;
  std::atomic<unsigned> replies{0};
  auto server = VfioUserServer::create(
      socket_path(), device, {.spoil = [&](Command command, Bytes& reply) {
        if (command == Command::device_get_region_info && reply[24] == std::byte{0} &&
            ++replies == 1) {
          all({resize(48), put32(16, 5000), put32(28, 0)})(reply);
        } else if (command == Command::device_get_region_info && reply[24] == std::byte{0}) {
          all({resize(16 + 5000), put32(16, 5000)})(reply);
        }
        return Fate::send;
      }});
  ASSERT_TRUE(server);
  const auto function = VfioUserFunction::open(socket_path());
  ASSERT_TRUE(function) << function.error().to_string();
  EXPECT_EQ(replies, 2u);
  EXPECT_EQ((*function)->doorbells().size(), RegisterFile::kDoorbellBytes);
}

// Goal: after a malformed reply nothing more is believed of that server.
TEST(MalformedReplies, EndTheConnection) {
  RegisterFile device;
  std::atomic<bool> spoilt{false};
  auto server = VfioUserServer::create(socket_path(), device, {.spoil = [&](Command, Bytes& reply) {
                                         if (spoilt) put32(28, 5)(reply);
                                         return Fate::send;
                                       }});
  ASSERT_TRUE(server);
  auto function = VfioUserFunction::open(socket_path());
  ASSERT_TRUE(function) << function.error().to_string();
  spoilt = true;
  EXPECT_EQ((*function)->read64(0).error().code(), StatusCode::corruption);
  spoilt = false;
  const auto later = (*function)->read64(0);
  EXPECT_EQ(later.error().code(), StatusCode::device_removed);
  EXPECT_THAT(later.error().to_string(), HasSubstr("count is 5; expected 8"));
}

// Goal: what a server asks in between is answered with EOPNOTSUPP, its payload is skipped, and the reply that was
// waited for still arrives.
TEST(ServerRequests, AreRefused) {
  RegisterFile device;
  std::atomic<bool> asks{false};
  auto server = VfioUserServer::create(socket_path(), device, {.spoil = [&](Command, Bytes& reply) {
                                         if (!asks) return Fate::send;
                                         Bytes both(2 * 16 + 16 + 5000);
                                         put16(0, 77)(both);
                                         put16(2, static_cast<uint16_t>(Command::dma_read))(both);
                                         put32(4, 32)(both);
                                         put16(32, 78)(both);
                                         put16(34, static_cast<uint16_t>(Command::dma_write))(both);
                                         put32(36, static_cast<uint32_t>(both.size() - 32))(both);
                                         put32(40, kNoReply)(both);
                                         reply.insert(reply.begin(), both.begin(), both.end());
                                         return Fate::send;
                                       }});
  ASSERT_TRUE(server);
  auto function = VfioUserFunction::open(socket_path());
  ASSERT_TRUE(function) << function.error().to_string();
  asks = true;
  ASSERT_TRUE((*function)->write32(0x14, 3).ok());
  asks = false;
  EXPECT_EQ((*function)->read32(0x14).value(), 3u);
  const std::vector<Header> answers = (*server)->answers();
  ASSERT_EQ(answers.size(), 1u) << "one of the two wanted no reply";
  EXPECT_EQ(answers[0].message_id, 77);
  EXPECT_EQ(answers[0].flags, kTypeReply | kError);
  EXPECT_EQ(answers[0].error, static_cast<uint32_t>(EOPNOTSUPP));
}

ptrdiff_t open_files() {
  return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {});
}

// Goal: no byte of any reply can be changed so that opening does worse than fail with a sentence, and no
// descriptor stays open on the way.
TEST(MalformedReplies, ByteByByte) {
  const ptrdiff_t files_before = open_files();
  RegisterFile device;
  std::atomic<size_t> target{0};  // the byte, counted over all replies of one open()
  std::atomic<size_t> position{0};
  std::atomic<unsigned> flip{0};
  std::atomic<bool> reached{true};
  auto server = VfioUserServer::create(socket_path(), device, {.spoil = [&](Command, Bytes& reply) {
                                         const size_t begin = position.fetch_add(reply.size());
                                         if (target >= begin && target - begin < reply.size()) {
                                           reply[target - begin] ^= std::byte(flip.load());
                                           reached = true;
                                         }
                                         return Fate::send;
                                       }});
  ASSERT_TRUE(server);
  unsigned opened = 0, refused = 0;
  for (; reached; ++target) {
    for (const unsigned mask : {0x01u, 0x80u, 0xffu}) {
      flip = mask;
      position = 0;
      reached = false;
      const auto function = VfioUserFunction::open(socket_path(), {.timeout = 30ms});
      if (function) {
        ++opened;
        if (!(*function)->doorbells().empty()) (*function)->doorbells().back() = std::byte{1};
      } else {
        ++refused;
        EXPECT_FALSE(function.error().message().empty());
      }
    }
  }
  EXPECT_GT(target, 300u);
  EXPECT_GT(refused, 300u);
  EXPECT_GT(opened, 100u) << "some bytes mean nothing";
  server->reset();
  EXPECT_EQ(open_files(), files_before + 1) << "the device's doorbells, and nothing else";
}

}  // namespace
}  // namespace basalt::nvme
