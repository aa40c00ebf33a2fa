// Goal: the write journal of a pmem: file may hold anything: check(), pending() and recover() stay inside
// the file, recovery completes as many writes as were pending, and none is pending afterwards. Method: the
// input as the headers of the lanes; with switches in the first byte their checksums are put right, so that
// the ranges are judged, and the input is the journal's header too.
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "base/crc32c.h"
#include "bdev/pmem/write_journal.h"

namespace {

using namespace basalt::pmem_format;

constexpr size_t kDeviceBytes = 32 * 1024;  // smaller than a lane

void require(bool condition) {
  if (!condition) std::abort();
}

// Memory of which every store is looked at.
class File final : public basalt::PmemStores {
 public:
  File() : bytes_(kDeviceBytes + kJournalBytes) { basalt::WriteJournal(bytes_, *this).format(); }
  std::span<std::byte> bytes() { return bytes_; }
  std::byte* journal() { return bytes_.data() + kDeviceBytes; }

  void copy(std::byte* to, const std::byte* from, size_t count) noexcept override {
    const auto at = static_cast<size_t>(to - bytes_.data());
    require(at <= bytes_.size() && count <= bytes_.size() - at);
    std::memcpy(to, from, count);
  }
  void drain() noexcept override {}

 private:
  std::vector<std::byte> bytes_;
};

void seal(LaneHeader& header, const std::byte* payload) {
  const size_t length = std::min<size_t>(header.length_bytes, kLanePayloadBytes);
  header.payload_checksum = basalt::crc32c({payload, length});
  header.checksum =
      basalt::crc32c(std::as_bytes(std::span(&header, 1)).first(offsetof(LaneHeader, checksum)));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static File file;
  static const std::vector<std::byte> kHeader(file.journal(),
                                              file.journal() + sizeof(JournalHeader));
  if (size == 0) return 0;
  const uint8_t switches = data[0];
  ++data;
  --size;
  std::memcpy(file.journal(), kHeader.data(), kHeader.size());
  if (switches & 1) std::memcpy(file.journal(), data, std::min(size, kHeader.size()));
  for (unsigned lane = 0; lane < kLaneCount && size >= sizeof(LaneHeader); ++lane) {
    std::byte* const place = file.journal() + kPageBytes + lane * kLaneBytes;
    LaneHeader header;
    std::memcpy(&header, data, sizeof header);
    if (switches & 2) seal(header, place + kPageBytes);
    std::memcpy(place, &header, sizeof header);
    data += sizeof header;
    size -= sizeof header;
  }
  basalt::WriteJournal journal(file.bytes(), file);
  const basalt::Status known = journal.check("fuzz");
  require(known.ok() || !known.message().empty());
  const unsigned pending = journal.pending();
  require(journal.recover() == pending);
  require(journal.pending() == 0);
  return 0;
}
