// A namespace's reservations as they are kept through power loss: docs/format/reservations.md.
#include <algorithm>
#include <cstring>
#include <type_traits>

#include "base/endian.h"
#include "targets/nvmf/reservation_state.h"
#include "wire/nvme/fabrics.h"

namespace basalt::nvmf {

using nvme::ReservationType;

namespace {

constexpr uint32_t kRecordVersion = 1;
constexpr uint16_t kNoHolder = 0xffff;

struct RecordHeader {
  le32 version;
  le32 generation;
  le16 registrants;
  le16 holder;   // its place among them; kNoHolder: none, or all of them
  uint8_t type;  // ReservationType
  uint8_t reserved13[3];
};
// Followed by as many bytes of the host's name.
struct RecordRegistrant {
  le64 key;
  uint8_t host_id[16];
  uint8_t name_bytes;
};
static_assert(sizeof(RecordHeader) == 16 && sizeof(RecordRegistrant) == 25 &&
              std::has_unique_object_representations_v<RecordHeader> &&
              std::has_unique_object_representations_v<RecordRegistrant>);

template <class Struct>
void append_struct(std::string& bytes, const Struct& value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
}

// False: there are not so many bytes.
template <class Struct>
bool take_struct(std::string_view& bytes, Struct& value) {
  if (bytes.size() < sizeof value) return false;
  std::memcpy(static_cast<void*>(&value), bytes.data(), sizeof value);
  bytes.remove_prefix(sizeof value);
  return true;
}

}  // namespace

std::string ReservationState::encode() const {
  RecordHeader header{};
  header.version = kRecordVersion;
  header.generation = generation_;
  header.registrants = static_cast<uint16_t>(registrants_.size());
  header.holder = kNoHolder;
  header.type = static_cast<uint8_t>(type_);
  if (const Registrant* const holder = find(holder_); is_held() && holder != nullptr) {
    header.holder = static_cast<uint16_t>(holder - registrants_.data());
  }
  std::string bytes;
  append_struct(bytes, header);
  for (const Registrant& known : registrants_) {
    RecordRegistrant one{};
    one.key = known.key;
    std::copy(known.host.id.begin(), known.host.id.end(), std::begin(one.host_id));
    one.name_bytes = static_cast<uint8_t>(known.host.nqn.size());
    append_struct(bytes, one);
    bytes += known.host.nqn;
  }
  return bytes;
}

Result<ReservationState> ReservationState::decode(std::string_view bytes) {
  const size_t whole = bytes.size();
  const auto damaged = [&](const std::string& what) {
    return error(StatusCode::corruption, "kept reservations, " + std::to_string(whole) +
                                             " bytes, at byte " +
                                             std::to_string(whole - bytes.size()) + ": " + what);
  };
  RecordHeader header;
  if (!take_struct(bytes, header)) return damaged("they end in their header");
  if (header.version != kRecordVersion) {
    return error(StatusCode::unsupported,
                 "kept reservations are of version " + std::to_string(uint32_t{header.version}) +
                     ", and this is known: " + std::to_string(kRecordVersion));
  }
  ReservationState state;
  state.persists_ = true;
  state.generation_ = header.generation;
  state.type_ = static_cast<ReservationType>(header.type);
  if (header.type > static_cast<uint8_t>(ReservationType::exclusive_access_all_registrants)) {
    return damaged("there is no reservation type " + std::to_string(header.type));
  }
  if (header.registrants > kMaxRegistrants) {
    return damaged(std::to_string(header.registrants) + " registrants; at most " +
                   std::to_string(kMaxRegistrants) + " are kept");
  }
  for (unsigned i = 0; i < header.registrants; ++i) {
    RecordRegistrant one;
    if (!take_struct(bytes, one)) return damaged("they end in a registrant");
    if (one.name_bytes > bytes.size()) return damaged("they end in a host's name");
    if (one.name_bytes == 0 || one.name_bytes > nvme::kMaxNqnBytes || one.key == 0) {
      return damaged("a registrant without a key, or without a name of 1 to 223 bytes");
    }
    Registrant known;
    known.key = one.key;
    known.host.nqn = bytes.substr(0, one.name_bytes);
    std::copy(std::begin(one.host_id), std::end(one.host_id), known.host.id.begin());
    bytes.remove_prefix(one.name_bytes);
    if (state.find(known.host) != nullptr) return damaged("a host that is registered twice");
    state.registrants_.push_back(std::move(known));
  }
  if (!bytes.empty()) return damaged("more follows than there are registrants");
  const bool by_one = state.is_held() && !state.held_by_all();
  if (by_one ? header.holder >= header.registrants : header.holder != kNoHolder) {
    return damaged("holder " + std::to_string(header.holder) + " of a reservation of type " +
                   std::to_string(header.type));
  }
  if (state.is_held() && state.registrants_.empty()) return damaged("a reservation of nobody");
  if (by_one) state.holder_ = state.registrants_[header.holder].host;
  return state;
}

}  // namespace basalt::nvmf
