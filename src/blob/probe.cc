// What a device holds, by the signatures other software leaves: so that nothing is overwritten by
// mistake. Offsets and magic numbers are those of the formats' own documentation (ext4 disk layout, XFS
// on-disk format, UEFI GPT, LUKS, LVM2, md, …).
#include "base/try.h"
#include "blob/aligned_buffer.h"
#include "blob/block_io.h"
#include "blob/blob_store.h"
#include "blob/format.h"

#include <algorithm>
#include <cstring>

namespace basalt::blob {
namespace {

struct Signature {
  uint64_t offset;
  std::string_view magic;
  const char* name;
};
using std::string_view_literals::operator""sv;

constexpr uint64_t kProbeBytes = 128 * 1024;
const Signature kSignatures[] = {
    {kSuperblockOffset[0], "BASALTSB"sv, "a Basalt store"},
    {0x438, "\x53\xef"sv, "an ext2, ext3 or ext4 file system"},
    {0, "XFSB"sv, "an XFS file system"},
    {0x10040, "_BHRfS_M"sv, "a Btrfs file system"},
    {1024, "\x10\x20\xf5\xf2"sv, "an F2FS file system"},
    {0, "SPDKBLOB"sv, "an SPDK blobstore"},
    {512, "EFI PART"sv, "a GPT partition table"},
    {4096, "EFI PART"sv, "a GPT partition table"},
    {0, "LUKS\xba\xbe"sv, "a LUKS volume"},
    {24, "LVM2 001"sv, "an LVM2 physical volume"},
    {512 + 24, "LVM2 001"sv, "an LVM2 physical volume"},
    {4096, "\xfc\x4e\x2b\xa9"sv, "a Linux RAID member"},
    {0, "\xfc\x4e\x2b\xa9"sv, "a Linux RAID member"},
    {4086, "SWAPSPACE2"sv, "swap space"},
    {3, "NTFS    "sv, "an NTFS file system"},
    {3, "EXFAT   "sv, "an exFAT file system"},
    {54, "FAT1"sv, "a FAT file system"},
    {82, "FAT32"sv, "a FAT file system"},
    {0, "hsqs"sv, "a SquashFS file system"},
    {32769, "CD001"sv, "an ISO 9660 file system"},
    {4096, "\xc6\x85\x73\xf6\x4e\x1a\x45\xca"sv, "a bcache device"},
    {0, "bluestore block device"sv, "a Ceph BlueStore device"},
    {510, "\x55\xaa"sv, "a boot sector or MBR partition table"},
};

bool holds(std::span<const std::byte> bytes, uint64_t offset, std::string_view magic) {
  return offset + magic.size() <= bytes.size() &&
         std::memcmp(bytes.data() + offset, magic.data(), magic.size()) == 0;
}

}  // namespace

Result<std::optional<std::string>> probe(Channel& channel, const DeviceInfo& info) {
  const uint64_t device_bytes =
      info.block_count.value * info.block_size / kBlockBytes * kBlockBytes;
  AlignedBuffer front(std::min(kProbeBytes, std::max<uint64_t>(device_bytes, kBlockBytes)));
  if (device_bytes < kBlockBytes) return std::optional<std::string>();
  BASALT_TRY(read_blocks(channel, info, 0, front.span(), "probe"));
  for (const Signature& signature : kSignatures) {
    if (holds(front.span(), signature.offset, signature.magic)) {
      return std::optional<std::string>(signature.name);
    }
  }
  if (kSuperblockOffset[1] + kBlockBytes <= device_bytes) {
    AlignedBuffer second(kBlockBytes);
    BASALT_TRY(
        read_blocks(channel, info, kSuperblockOffset[1] / kBlockBytes, second.span(), "probe"));
    if (holds(second.span(), 0, "BASALTSB")) {
      return std::optional<std::string>("a Basalt store (its first superblock is damaged)");
    }
  }
  return std::optional<std::string>();
}

}  // namespace basalt::blob
