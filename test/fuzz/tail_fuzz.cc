// Goal: TailImage::parse() takes any bytes: what it yields lies inside the tail, and what it
// refuses it explains. Method: a tail of the smallest size with a right header; the input fills the
// ring's counters, the ring and the chunk table, with the entries' checksums put right on demand;
// also the input as a header.
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "base/crc32c.h"
#include "blobfs/tail_replay.h"

namespace {

using namespace basalt::blobfs;

void require(bool condition) {
  if (!condition) std::abort();
}

TailBinding binding() {
  TailBinding wanted;
  wanted.store_uuid.fill(std::byte{1});
  wanted.open_id.fill(std::byte{2});
  wanted.boot_id = "this boot";
  return wanted;
}

std::vector<std::byte> empty_tail() {
  std::vector<std::byte> content(kMinTailBytes);
  const TailLayout layout = tail_layout(content.size());
  const TailHeader header = make_tail_header(binding(), layout);
  std::memcpy(content.data(), &header, sizeof header);
  return content;
}

// Puts right the checksums of the ring's entries from its beginning on, as far as they make sense.
void repair_ring(std::vector<std::byte>& content, const TailLayout& layout, uint64_t length) {
  for (uint64_t at = 0; at + sizeof(TailEntryHeader) <= length;) {
    std::byte* place = content.data() + layout.ring_offset + at;
    TailEntryHeader entry;
    std::memcpy(&entry, place, sizeof entry);
    if (tail_entry_bytes(entry.length) > length - at) return;
    const uint32_t crc = basalt::crc32c(std::as_bytes(std::span(&entry, 1)).first(12));
    entry.crc = basalt::crc32c({place + sizeof entry, entry.length}, crc);
    std::memcpy(place, &entry, sizeof entry);
    at += tail_entry_bytes(entry.length);
  }
}

void judge(std::vector<std::byte> content) {
  const auto image = TailImage::parse(content, binding());
  if (!image) return require(!image.error().message().empty());
  size_t bytes = 0;
  for (const KeptTransaction& transaction : image->transactions())
    bytes += transaction.bytes.size();
  require(bytes <= kMinTailBytes);
  unsigned sum = 0;
  for (const KeptChunk& chunk : image->chunks()) {
    require(chunk.file_id != 0 && !chunk.bytes.empty() && chunk.bytes.size() <= kTailChunkBytes);
    sum += std::to_integer<unsigned>(chunk.bytes.front()) +
           std::to_integer<unsigned>(chunk.bytes.back());
  }
  require(sum < ~0u);  // the bytes were looked at
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::vector<std::byte> kEmpty = empty_tail();
  const TailLayout layout = tail_layout(kMinTailBytes);
  if (size < 32) return 0;
  std::vector<std::byte> content = kEmpty;
  // 0: switches; 1 to 3: bytes of ring; 8 to 23: the counters; 24 on: ring, then chunk table.
  uint64_t counters[2];
  std::memcpy(counters, data + 8, sizeof counters);
  const size_t rest = size - 24;
  const size_t ring = std::min<size_t>(rest, data[1] | data[2] << 8) / 8 * 8;
  if (data[0] & 1) {
    counters[0] = 0;
    counters[1] = ring;
  }
  std::memcpy(content.data() + kRingHeadOffset, &counters[0], 8);
  std::memcpy(content.data() + kRingTailOffset, &counters[1], 8);
  content[kPredecessorOffset] = static_cast<std::byte>(data[3] & 1);
  std::memcpy(content.data() + layout.ring_offset, data + 24, ring);
  const size_t table = std::min<size_t>(rest - ring, layout.chunk_count * sizeof(TailChunkEntry));
  std::memcpy(content.data() + layout.table_offset, data + 24 + ring, table);
  if (data[0] & 2) repair_ring(content, layout, ring);
  judge(content);
  // The input as the header: refused, unless it happens to be right.
  std::memcpy(content.data(), data, std::min<size_t>(size, sizeof(TailHeader)));
  judge(std::move(content));
  return 0;
}
