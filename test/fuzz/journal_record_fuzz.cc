// Goal: validate_record() never reads outside what it was given and never takes a record to be longer than
// that. Method: the input as it is, and with a right header around it.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "base/crc32c.h"
#include "blob/format.h"
#include "blob/journal.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using basalt::blob::JournalHeader;
  // A copy of the exact size, so that a read beyond it is seen.
  std::vector<std::byte> bytes(size);
  if (size > 0) std::memcpy(bytes.data(), data, size);
  const basalt::blob::Uuid uuid{};
  if (basalt::blob::validate_record(bytes, uuid, 1, 0) > size) std::abort();

  JournalHeader header;
  if (size < sizeof header) return 0;
  std::memcpy(&header, bytes.data(), sizeof header);
  header.magic = basalt::blob::kJournalMagic;
  header.uuid = uuid;
  header.epoch = 7;
  header.position = 42;
  header.crc = 0;
  std::memcpy(bytes.data(), &header, sizeof header);
  const size_t total = sizeof header + size_t{header.payload_bytes};
  const auto covered = std::span<const std::byte>(bytes).first(std::min(total, size));
  header.crc = basalt::crc32c(covered);
  std::memcpy(bytes.data(), &header, sizeof header);
  const size_t length = basalt::blob::validate_record(bytes, uuid, 7, 42);
  if (length != 0 && length != total) std::abort();
  if (length > size || length > basalt::blob::kMaxRecordBytes) std::abort();
  if (basalt::blob::validate_record(bytes, uuid, 7, 43) != 0) std::abort();
  return 0;
}
