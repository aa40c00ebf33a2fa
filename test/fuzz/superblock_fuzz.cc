// Goal: parse_superblock() accepts only what can be worked with: every region inside the device, every
// count within its bound. Method: the input's bytes laid over a superblock, with the checksum and the
// magic put right, so that the fields themselves are judged; also the bytes as they are.
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "base/crc32c.h"
#include "blob/superblock.h"

namespace {

using basalt::blob::kBlockBytes;
using basalt::blob::Superblock;

constexpr uint64_t kDeviceBytes = uint64_t{64} << 20;

void require(bool condition) {
  if (!condition) std::abort();
}

bool inside(uint64_t first, uint64_t count) {
  return first <= kDeviceBytes / kBlockBytes && count <= kDeviceBytes / kBlockBytes - first;
}

void judge(const Superblock& superblock, unsigned slot) {
  const auto bytes = std::as_bytes(std::span(&superblock, 1));
  const auto parsed = basalt::blob::parse_superblock(bytes, slot, kDeviceBytes);
  if (!parsed) return require(!parsed.error().message().empty());
  require(inside(parsed->journal_first_block, parsed->journal_blocks));
  require(parsed->metadata_run_count <= basalt::blob::kMaxMetadataRuns);
  for (unsigned i = 0; i < parsed->metadata_run_count; ++i) {
    for (const auto& first : parsed->metadata_runs[i].first_block) {
      require(inside(first, parsed->metadata_runs[i].page_count));
    }
  }
  require(uint64_t{parsed->cluster_count} * parsed->cluster_bytes <= kDeviceBytes);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Superblock superblock{};
  if (size > 0) std::memcpy(&superblock, data, std::min(size, sizeof superblock));
  judge(superblock, 0);
  superblock.magic = basalt::blob::kSuperblockMagic;
  superblock.format_version = basalt::blob::kFormatVersion;
  superblock.crc = 0;
  superblock.crc = basalt::crc32c(std::as_bytes(std::span(&superblock, 1)));
  judge(superblock, superblock.generation % 2);
  judge(superblock, 1 - superblock.generation % 2);
  return 0;
}
