#include "bdev/pmem/write_journal.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/crc32c.h"
#include "base/planted.h"

namespace basalt {

using namespace pmem_format;

namespace {

template <typename Header>
uint32_t header_checksum(const Header& header) {
  return crc32c(std::as_bytes(std::span(&header, 1)).first(offsetof(Header, checksum)));
}

template <typename Header>
Header read_header(const std::byte* at) {
  Header header;
  std::memcpy(&header, at, sizeof header);
  return header;
}

template <typename Header>
const std::byte* bytes_of(const Header& header) {
  return reinterpret_cast<const std::byte*>(&header);
}

}  // namespace

WriteJournal::WriteJournal(std::span<std::byte> file, PmemStores& stores)
    : device_(file.first(device_bytes(file.size()))),
      journal_(file.data() + file.size() - kJournalBytes),
      stores_(stores) {}

uint64_t WriteJournal::device_bytes(uint64_t file_bytes) {
  return file_bytes < kJournalBytes ? 0 : file_bytes - kJournalBytes;
}

std::byte* WriteJournal::lane_base(unsigned lane) const {
  return journal_ + kPageBytes + lane * kLaneBytes;
}

void WriteJournal::format() {
  for (unsigned lane = 0; lane < kLaneCount; ++lane) empty(lane);
  stores_.drain();
  JournalHeader header;
  header.magic = kMagic;
  header.version = kVersion;
  header.lane_count = kLaneCount;
  header.lane_payload_bytes = static_cast<uint32_t>(kLanePayloadBytes);
  header.checksum = header_checksum(header);
  stores_.copy(journal_, bytes_of(header), sizeof header);
  stores_.drain();
}

Status WriteJournal::check(const std::string& name) const {
  const auto header = read_header<JournalHeader>(journal_);
  if (header.magic != kMagic && !planted("pmem_magic")) {
    return Status(StatusCode::corruption,
                  name + ": no write journal in the last " + std::to_string(kJournalBytes) +
                      " B: not made by pmem:; open it with file:, or make a new one with size=");
  }
  if (header.checksum != header_checksum(header) && !planted("pmem_checksum")) {
    return Status(StatusCode::corruption, name + ": the write journal's header is damaged");
  }
  if ((header.version != kVersion && !planted("pmem_version")) ||
      (header.lane_count != kLaneCount && !planted("pmem_lane_count")) ||
      (header.lane_payload_bytes != kLanePayloadBytes && !planted("pmem_lane_size"))) {
    return Status(StatusCode::unsupported, name + ": write journal version " +
                                               std::to_string(header.version) +
                                               "; this program knows version 1");
  }
  return {};
}

// Whether the lane holds a write to repeat. Everything in it is checked before it is believed.
bool WriteJournal::read_lane(unsigned lane, LaneHeader& header) const {
  header = read_header<LaneHeader>(lane_base(lane));
  if (header.sequence == 0 && !planted("pmem_lane_empty")) return false;
  if (header.checksum != header_checksum(header) && !planted("pmem_lane_checksum")) return false;
  if (header.length_bytes == 0 || header.length_bytes > kLanePayloadBytes) return false;
  if (header.length_bytes > device_.size() ||
      header.offset_bytes > device_.size() - header.length_bytes) {
    return false;
  }
  return crc32c({lane_base(lane) + kPageBytes, header.length_bytes}) == header.payload_checksum ||
         planted("pmem_payload_checksum");
}

unsigned WriteJournal::pending() const {
  unsigned count = 0;
  LaneHeader header;
  for (unsigned lane = 0; lane < kLaneCount; ++lane) count += read_lane(lane, header) ? 1 : 0;
  return count;
}

unsigned WriteJournal::recover() {
  unsigned count = 0;
  for (unsigned lane = 0; lane < kLaneCount; ++lane) {
    LaneHeader header;
    if (!read_lane(lane, header)) continue;
    stores_.copy(device_.data() + header.offset_bytes, lane_base(lane) + kPageBytes,
                 header.length_bytes);
    ++count;
  }
  stores_.drain();
  for (unsigned lane = 0; lane < kLaneCount; ++lane) empty(lane);
  stores_.drain();
  return count;
}

void WriteJournal::empty(unsigned lane) {
  const le64 none = 0;
  stores_.copy(lane_base(lane), bytes_of(none), sizeof none);
}

void WriteJournal::write(unsigned lane, uint64_t offset_bytes, std::span<const iovec> vectors,
                         size_t bytes) {
  BASALT_CHECK(bytes <= device_.size() && offset_bytes <= device_.size() - bytes,
               "a write lies within the device");
  lane %= kLaneCount;
  const std::lock_guard lock(lanes_[lane].mutex);
  IoCursor from;
  while (bytes != 0) {
    const size_t piece = std::min(bytes, kAtomicBytes);
    write_piece(lane, offset_bytes, vectors, from, piece);
    from.skip(vectors, piece);
    offset_bytes += piece;
    bytes -= piece;
  }
}

void WriteJournal::write_piece(unsigned lane, uint64_t offset_bytes, std::span<const iovec> vectors,
                               IoCursor from, size_t bytes) {
  std::byte* const payload = lane_base(lane) + kPageBytes;
  LaneHeader header;
  uint32_t checksum = 0;
  std::byte* to = payload;
  from.walk(vectors, bytes, [&](const std::byte* piece, size_t length) {
    stores_.copy(to, piece, length);
    checksum = crc32c({piece, length}, checksum);
    to += length;
    return true;
  });
  header.sequence = ++lanes_[lane].sequence;
  header.offset_bytes = offset_bytes;
  header.length_bytes = static_cast<uint32_t>(bytes);
  header.payload_checksum = checksum;
  header.checksum = header_checksum(header);
  stores_.copy(lane_base(lane), bytes_of(header), sizeof header);
  // The checksums tell header and payload apart from half of them: one drain does.
  if (!planted("pmem_place_before_lane")) stores_.drain();

  // From the lane, not from the caller's memory: both must be the same bytes.
  stores_.copy(device_.data() + offset_bytes, payload, bytes);
  if (!planted("pmem_emptied_before_place")) stores_.drain();

  empty(lane);
  if (!planted("pmem_done_before_emptied")) stores_.drain();
}

}  // namespace basalt
