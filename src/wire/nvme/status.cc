// See status.h.
#include "wire/nvme/status.h"

#include <algorithm>
#include <array>
#include <cstdio>

namespace basalt::nvme {

namespace {

struct Entry {
  uint16_t key;  // type << 8 | code
  StatusCode code;
  std::string_view name;
};

// Ascending by key.
constexpr auto kTable = std::to_array<Entry>({
    {0x000, StatusCode::ok, "success"},
    {0x001, StatusCode::unsupported, "invalid command opcode"},
    {0x002, StatusCode::invalid_argument, "invalid field in command"},
    {0x003, StatusCode::internal, "command id conflict"},
    {0x004, StatusCode::io_error, "data transfer error"},
    {0x005, StatusCode::io_error, "aborted by loss of power"},
    {0x006, StatusCode::io_error, "internal error"},
    {0x007, StatusCode::canceled, "aborted on request"},
    {0x008, StatusCode::canceled, "aborted by deletion of its submission queue"},
    {0x009, StatusCode::canceled, "aborted by a failed fused command"},
    {0x00a, StatusCode::internal, "aborted for want of its fused command"},
    {0x00b, StatusCode::not_found, "invalid namespace or format"},
    {0x00c, StatusCode::internal, "commands out of sequence"},
    {0x00d, StatusCode::invalid_argument, "invalid SGL segment descriptor"},
    {0x00e, StatusCode::invalid_argument, "invalid number of SGL descriptors"},
    {0x00f, StatusCode::invalid_argument, "invalid data SGL length"},
    {0x010, StatusCode::invalid_argument, "invalid metadata SGL length"},
    {0x011, StatusCode::invalid_argument, "invalid SGL descriptor type"},
    {0x012, StatusCode::invalid_argument, "invalid use of the controller memory buffer"},
    {0x013, StatusCode::invalid_argument, "invalid PRP offset"},
    {0x014, StatusCode::too_large, "larger than the atomic write unit"},
    {0x015, StatusCode::permission_denied, "operation denied"},
    {0x016, StatusCode::invalid_argument, "invalid SGL offset"},
    {0x018, StatusCode::invalid_argument, "inconsistent host identifier"},
    {0x019, StatusCode::timed_out, "keep-alive timer expired"},
    {0x01a, StatusCode::invalid_argument, "invalid keep-alive timeout"},
    {0x01b, StatusCode::canceled, "aborted by preempt and abort"},
    {0x01c, StatusCode::io_error, "sanitize failed"},
    {0x01d, StatusCode::busy, "sanitize in progress"},
    {0x01e, StatusCode::invalid_argument, "invalid SGL data block granularity"},
    {0x01f, StatusCode::unsupported,
     "command not supported for a queue in the controller memory buffer"},
    {0x020, StatusCode::read_only, "namespace is write protected"},
    {0x021, StatusCode::busy, "command interrupted"},
    {0x022, StatusCode::io_error, "transient transport error"},
    {0x023, StatusCode::permission_denied, "prohibited by command and feature lockdown"},
    {0x024, StatusCode::busy, "admin command media not ready"},
    {0x080, StatusCode::out_of_range, "LBA out of range"},
    {0x081, StatusCode::no_space, "capacity exceeded"},
    {0x082, StatusCode::busy, "namespace not ready"},
    {0x083, StatusCode::busy, "reservation conflict"},
    {0x084, StatusCode::busy, "format in progress"},
    {0x085, StatusCode::invalid_argument, "invalid value size"},
    {0x086, StatusCode::invalid_argument, "invalid key size"},
    {0x087, StatusCode::not_found, "key does not exist"},
    {0x088, StatusCode::io_error, "unrecovered error"},
    {0x089, StatusCode::already_exists, "key exists"},
    {0x100, StatusCode::invalid_argument, "completion queue invalid"},
    {0x101, StatusCode::invalid_argument, "invalid queue identifier"},
    {0x102, StatusCode::invalid_argument, "invalid queue size"},
    {0x103, StatusCode::busy, "abort command limit exceeded"},
    {0x105, StatusCode::busy, "asynchronous event request limit exceeded"},
    {0x106, StatusCode::invalid_argument, "invalid firmware slot"},
    {0x107, StatusCode::invalid_argument, "invalid firmware image"},
    {0x108, StatusCode::invalid_argument, "invalid interrupt vector"},
    {0x109, StatusCode::unsupported, "invalid log page"},
    {0x10a, StatusCode::invalid_argument, "invalid format"},
    {0x10b, StatusCode::busy, "firmware activation requires a conventional reset"},
    {0x10c, StatusCode::invalid_argument, "invalid queue deletion"},
    {0x10d, StatusCode::unsupported, "feature identifier not saveable"},
    {0x10e, StatusCode::unsupported, "feature not changeable"},
    {0x10f, StatusCode::unsupported, "feature not namespace specific"},
    {0x110, StatusCode::busy, "firmware activation requires a subsystem reset"},
    {0x111, StatusCode::busy, "firmware activation requires a controller reset"},
    {0x112, StatusCode::busy, "firmware activation requires the maximum time violation"},
    {0x113, StatusCode::permission_denied, "firmware activation prohibited"},
    {0x114, StatusCode::invalid_argument, "overlapping range"},
    {0x115, StatusCode::no_space, "namespace insufficient capacity"},
    {0x116, StatusCode::no_space, "namespace identifier unavailable"},
    {0x118, StatusCode::already_exists, "namespace already attached"},
    {0x119, StatusCode::busy, "namespace is private"},
    {0x11a, StatusCode::not_found, "namespace not attached"},
    {0x11b, StatusCode::unsupported, "thin provisioning not supported"},
    {0x11c, StatusCode::invalid_argument, "controller list invalid"},
    {0x11d, StatusCode::busy, "device self-test in progress"},
    {0x11e, StatusCode::permission_denied, "boot partition write prohibited"},
    {0x11f, StatusCode::invalid_argument, "invalid controller identifier"},
    {0x120, StatusCode::invalid_argument, "invalid secondary controller state"},
    {0x121, StatusCode::invalid_argument, "invalid number of controller resources"},
    {0x122, StatusCode::invalid_argument, "invalid resource identifier"},
    {0x180, StatusCode::invalid_argument, "conflicting attributes"},
    {0x181, StatusCode::invalid_argument, "invalid protection information"},
    {0x182, StatusCode::read_only, "attempted write to read only range"},
    {0x183, StatusCode::too_large, "command size limit exceeded"},
    {0x1b8, StatusCode::out_of_range, "zoned boundary error"},
    {0x1b9, StatusCode::no_space, "zone is full"},
    {0x1ba, StatusCode::read_only, "zone is read only"},
    {0x1bb, StatusCode::io_error, "zone is offline"},
    {0x1bc, StatusCode::invalid_argument, "zone invalid write"},
    {0x1bd, StatusCode::busy, "too many active zones"},
    {0x1be, StatusCode::busy, "too many open zones"},
    {0x1bf, StatusCode::invalid_argument, "invalid zone state transition"},
    {0x280, StatusCode::io_error, "write fault"},
    {0x281, StatusCode::io_error, "unrecovered read error"},
    {0x282, StatusCode::corruption, "end-to-end guard check error"},
    {0x283, StatusCode::corruption, "end-to-end application tag check error"},
    {0x284, StatusCode::corruption, "end-to-end reference tag check error"},
    {0x285, StatusCode::miscompare, "compare failure"},
    {0x286, StatusCode::permission_denied, "access denied"},
    {0x287, StatusCode::io_error, "deallocated or unwritten logical block"},
    {0x288, StatusCode::corruption, "end-to-end storage tag check error"},
    {0x300, StatusCode::io_error, "internal path error"},
    {0x301, StatusCode::io_error, "asymmetric access persistent loss"},
    {0x302, StatusCode::io_error, "asymmetric access inaccessible"},
    {0x303, StatusCode::io_error, "asymmetric access transition"},
    {0x360, StatusCode::io_error, "controller pathing error"},
    {0x370, StatusCode::io_error, "host pathing error"},
    {0x371, StatusCode::canceled, "command aborted by the host"},
});
static_assert(std::is_sorted(kTable.begin(), kTable.end(),
                             [](const Entry& a, const Entry& b) { return a.key < b.key; }));

const Entry* find(CompletionStatus status) {
  const auto key = static_cast<uint16_t>(status.type() << 8 | status.code());
  const auto found = std::lower_bound(kTable.begin(), kTable.end(), key,
                                      [](const Entry& e, uint16_t k) { return e.key < k; });
  return found != kTable.end() && found->key == key ? &*found : nullptr;
}

std::string_view type_name(uint8_t type) {
  switch (static_cast<StatusType>(type)) {
    case StatusType::generic: return "";
    case StatusType::command_specific: return "command specific, ";
    case StatusType::media: return "media, ";
    case StatusType::path: return "path, ";
    case StatusType::vendor: return "vendor specific, ";
  }
  return "reserved type, ";
}

}  // namespace

std::string_view status_name(CompletionStatus status) {
  const Entry* entry = find(status);
  return entry != nullptr ? entry->name : "unknown status";
}

std::string describe(CompletionStatus status) {
  char code[8];
  std::snprintf(code, sizeof code, "0x%02x", status.code());
  std::string text(status_name(status));
  return text.append(" (").append(type_name(status.type())).append(code).append(")");
}

StatusCode to_status_code(CompletionStatus status) {
  const Entry* entry = find(status);
  return entry != nullptr ? entry->code : StatusCode::io_error;
}

}  // namespace basalt::nvme
