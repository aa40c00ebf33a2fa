// Goal: the validation of sealed blocks and the search for a log's end stay inside the bytes they are
// given, and what they find is consistent: the end is no shorter than the blocks that prove it, the last
// payload belongs to it. Method: the input is a run of 512-byte blocks; with a switch in the first byte,
// headers get right identities and checksums, so that positions, lengths and epochs are judged.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "base/crc32c.h"
#include "blobfs/log_reader.h"

namespace {

using basalt::blobfs::LogEndSearch;
using basalt::blobfs::LogIdentity;
using basalt::blobfs::SealedHeader;

constexpr uint32_t kBlock = 512;

void require(bool condition) {
  if (!condition) std::abort();
}

// Makes the block valid for `log` wherever its length and epoch allow.
void repair(std::byte* block, const LogIdentity& log, uint64_t position) {
  SealedHeader header;
  std::memcpy(&header, block, sizeof header);
  header.version = basalt::blobfs::kSealedVersion;
  header.file_id = log.file_id;
  header.position = position;
  header.length = static_cast<uint16_t>(header.length % (log.shape.payload() + 2));
  header.epoch = header.epoch % 4;
  std::memcpy(block, &header, sizeof header);
  const size_t covered = std::min<size_t>(sizeof header - 4 + header.length, kBlock - 4);
  header.crc = basalt::crc32c({block + 4, covered});
  std::memcpy(block, &header, sizeof header);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 4) return 0;
  LogIdentity log{.file_id = 17,
                  .epoch = 1u + data[1] % 4,
                  .journaled_length = data[2] * 7u,
                  .shape = {kBlock}};
  const bool repairs = data[0] & 1;
  std::vector<std::byte> bytes(size - 4);
  if (!bytes.empty()) std::memcpy(bytes.data(), data + 4, bytes.size());
  const size_t blocks = bytes.size() / kBlock;
  LogEndSearch search(log);
  const uint64_t first = search.first_block();
  for (size_t i = 0; i < blocks && repairs; ++i) {
    // The other bits let a block carry the position of the one before it.
    const bool displaced = i > 0 && (data[3] >> (i % 8) & 1);
    repair(bytes.data() + i * kBlock, log, log.shape.position_of(first + i - (displaced ? 1 : 0)));
  }
  for (size_t i = 0; i < blocks; ++i) {
    // Copies of their own, so that a read beyond a block is seen.
    const auto begin = bytes.begin() + static_cast<ptrdiff_t>(i * kBlock);
    const std::vector<std::byte> block(begin, begin + kBlock);
    std::vector<std::byte> next;
    if (i + 1 < blocks) next.assign(begin + kBlock, begin + 2 * kBlock);
    search.take(block, next);
  }
  require(search.end() <= search.highest_end() || search.valid_blocks() == 0 ||
          search.end() == log.shape.position_of(first));
  require(search.end() - log.shape.position_of(first) <= blocks * log.shape.payload());
  require(search.last_payload().size() <= log.shape.payload());
  if (!search.last_payload().empty()) {
    require((search.end() - search.last_payload().size()) % log.shape.payload() == 0);
  }
  if (!search.bytes_missing()) {
    require(search.end() >= log.journaled_length && search.end() >= search.proven_durable());
  }
  return 0;
}
