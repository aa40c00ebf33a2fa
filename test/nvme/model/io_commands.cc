// The I/O commands of a ControllerModel.
//
// NVM command set 1.0 §3. Each command is checked, its data found, and its blocks read or changed in
// one go, so every command is atomic. What a data fault of the command under way (fault_) does is said
// where it strikes.
#include <algorithm>
#include <cstring>

#include "nvme/model/controller_model.h"
#include "nvme/model/io_opcodes.h"
#include "wire/nvme/block_ranges.h"

namespace basalt::nvme::model {
namespace {

constexpr CompletionStatus kCommandSizeLimit{1, 0x83}, kInvalidProtection{1, 0x81},
    kReferenceTagError{2, 0x84};

struct BlockRange {
  uint64_t first = 0;
  uint64_t count = 0;
};

uint64_t first_block(const Command& command) {
  return uint64_t{command.cdw11} << 32 | command.cdw10;
}

BlockRange range_of(const Command& command) {
  return {first_block(command), (command.cdw12 & 0xffffu) + 1u};
}

bool contains(const Media& media, BlockRange range) {
  return range.first <= media.block_count() && range.count <= media.block_count() - range.first;
}

Durability durability(bool caching, const Command& command) {
  const bool forced = (command.cdw12 & kForceUnitAccess) != 0;
  return caching && !forced ? Durability::cached : Durability::durable;
}

// Protection information is what the command says it is: all that a tag checks here.
CompletionStatus check_protection(const Media& media, const Command& command) {
  const uint8_t type = media.options().protection_type;
  if (type == 0) return {};
  const auto opcode = static_cast<IoOpcode>(command.opcode);
  const bool carries = opcode == IoOpcode::read || opcode == IoOpcode::write ||
                       opcode == IoOpcode::write_zeroes || opcode == IoOpcode::compare;
  if (!carries) return {};
  const bool action = (command.cdw12 & kProtectionAction) != 0;
  if (!action || opcode == IoOpcode::compare) return kInvalidProtection;
  // The model insists: what can be checked is.
  const bool tagged = (command.cdw12 & kCheckReferenceTag) != 0;
  if (tagged == (type == 3) || (command.cdw12 & kCheckGuard) == 0) return kInvalidProtection;
  if (tagged && command.cdw14 != command.cdw10) return kReferenceTagError;
  return {};
}

}  // namespace

Media* ControllerModel::find_namespace(uint32_t nsid) {
  if (nsid - 1 >= media_.size()) return nullptr;
  return media_[nsid - 1].get();
}

Outcome ControllerModel::io_command(const Command& command) {
  if (!is_io_command(command.opcode, options_)) return {.status = kInvalidOpcode};
  const auto opcode = static_cast<IoOpcode>(command.opcode);
  if (opcode == IoOpcode::flush) return flush(command);
  Media* media = find_namespace(command.nsid);
  if (media == nullptr) return {.status = kInvalidNamespace};
  if (!media->options().active) return {.status = kInvalidField};
  if (const CompletionStatus status = check_protection(*media, command); !status.ok()) {
    return {.status = status};
  }
  switch (opcode) {
    case IoOpcode::read: return read(*media, command);
    case IoOpcode::write: return write(*media, command);
    case IoOpcode::compare: return compare(*media, command);
    case IoOpcode::write_zeroes: return write_zeroes(*media, command);
    case IoOpcode::dataset_management: return dataset_management(*media, command);
    case IoOpcode::verify: return verify(*media, command);
    case IoOpcode::write_uncorrectable: return write_uncorrectable(*media, command);
    case IoOpcode::copy: return copy(*media, command);
    default: return {.status = kInvalidOpcode};
  }
}

// Finds the command's data; PRPs or an SGL, as its flags say.
CompletionStatus ControllerModel::parse_data(const Command& command, size_t bytes,
                                             Direction direction) {
  switch (command.flags & 0xc0) {
    case 0x00: return transfer_.parse_prps(dma_, page_bytes_, command.data, bytes);
    case kDataIsSgl:
    case 0x80:
      if (options_.sgl) return transfer_.parse_sgl(dma_, command.data, bytes, direction);
      return kInvalidField;
    default: return kInvalidField;
  }
}

CompletionStatus ControllerModel::parse_blocks(const Media& media, const Command& command,
                                               Direction direction) {
  const BlockRange range = range_of(command);
  if (!contains(media, range)) return kLbaOutOfRange;
  const uint64_t bytes = range.count * media.block_size();
  const unsigned limit_shift = options_.max_transfer_shift;
  const uint64_t page = uint64_t{4096} << options_.min_page_shift;
  if (limit_shift != 0 && bytes > page << limit_shift) return kInvalidField;
  return parse_data(command, bytes, direction);
}

Outcome ControllerModel::read(Media& media, const Command& command) {
  ++counters_.reads;
  const CompletionStatus status = parse_blocks(media, command, Direction::to_host);
  if (!status.ok()) return {.status = status};
  const BlockRange range = range_of(command);
  if (media.has_uncorrectable(range.first, range.count)) {
    ++media_errors_;
    return {.status = kUnrecoveredReadError};
  }
  std::span<const std::byte> data = media.bytes(range.first, range.count);
  if (fault_is(FaultKind::short_read)) data = data.first(std::min(data.size(), fault_->value));
  transfer_.to_host(data);
  if (fault_is(FaultKind::corrupt_read)) transfer_.flip(fault_->value);
  return {};
}

Outcome ControllerModel::write(Media& media, const Command& command) {
  ++counters_.writes;
  const CompletionStatus status = parse_blocks(media, command, Direction::from_host);
  if (!status.ok()) return {.status = status};
  if (fault_is(FaultKind::dropped_write)) return {};
  BlockRange range = range_of(command);
  const bool torn = fault_is(FaultKind::torn_write);
  if (torn) range.count = std::min(range.count, fault_->value);
  transfer_.from_host(media.change(range.first, range.count, durability(caching(), command)));
  return {.status = torn ? fault_->status : CompletionStatus{}};
}

Outcome ControllerModel::compare(Media& media, const Command& command) {
  const CompletionStatus status = parse_blocks(media, command, Direction::from_host);
  if (!status.ok()) return {.status = status};
  const BlockRange range = range_of(command);
  if (media.has_uncorrectable(range.first, range.count)) return {.status = kUnrecoveredReadError};
  const bool equal = transfer_.equals(media.bytes(range.first, range.count));
  return {.status = equal ? CompletionStatus{} : kCompareFailure};
}

Outcome ControllerModel::flush(const Command& command) {
  ++counters_.flushes;
  if (command.nsid == kAllNamespaces) {
    for (const auto& media : media_) media->flush();
    return {};
  }
  Media* media = find_namespace(command.nsid);
  if (media == nullptr) return {.status = kInvalidNamespace};
  if (!media->options().active) return {.status = kInvalidField};
  media->flush();
  return {};
}

Outcome ControllerModel::write_zeroes(Media& media, const Command& command) {
  const BlockRange range = range_of(command);
  if (!contains(media, range)) return {.status = kLbaOutOfRange};
  if (fault_is(FaultKind::dropped_write)) return {};
  media.zero(range.first, range.count, durability(caching(), command));
  return {};
}

// All ranges are checked before the first is deallocated; other hints than "deallocate" do nothing.
Outcome ControllerModel::dataset_management(Media& media, const Command& command) {
  std::array<DatasetRange, kMaxDatasetRanges> storage;
  const auto ranges = std::span(storage).first((command.cdw10 & 0xffu) + 1u);
  const CompletionStatus status = parse_data(command, ranges.size_bytes(), Direction::from_host);
  if (!status.ok()) return {.status = status};
  transfer_.from_host(std::as_writable_bytes(ranges));
  if ((command.cdw11 & kDatasetDeallocate) == 0) return {};
  for (const DatasetRange& range : ranges) {
    if (!contains(media, {range.first_block, range.block_count})) {
      return {.status = kLbaOutOfRange};
    }
  }
  if (fault_is(FaultKind::dropped_write)) return {};
  for (const DatasetRange& range : ranges) {
    media.zero(range.first_block, range.block_count,
               caching() ? Durability::cached : Durability::durable);
  }
  return {};
}

Outcome ControllerModel::verify(Media& media, const Command& command) {
  const BlockRange range = range_of(command);
  if (!contains(media, range)) return {.status = kLbaOutOfRange};
  const bool readable = !media.has_uncorrectable(range.first, range.count);
  return {.status = readable ? CompletionStatus{} : kUnrecoveredReadError};
}

Outcome ControllerModel::write_uncorrectable(Media& media, const Command& command) {
  const BlockRange range = range_of(command);
  if (!contains(media, range)) return {.status = kLbaOutOfRange};
  media.make_uncorrectable(range.first, range.count);
  return {};
}

// Word 0 of the completion is how many ranges were copied before one failed.
Outcome ControllerModel::copy(Media& media, const Command& command) {
  std::array<CopyRange, kMaxCopyRanges> storage;
  const auto ranges = std::span(storage).first((command.cdw12 & 0xffu) + 1u);
  if ((command.cdw12 >> 8 & 0xf) != 0) return {.status = kInvalidField};  // format
  if (ranges.size() > options_.copy_ranges) return {.status = kCommandSizeLimit};
  const CompletionStatus status = parse_data(command, ranges.size_bytes(), Direction::from_host);
  if (!status.ok()) return {.status = status};
  transfer_.from_host(std::as_writable_bytes(ranges));

  BlockRange target{first_block(command), 0};
  for (const CopyRange& range : ranges) {
    const uint64_t count = range.block_count + 1u;
    if (count > options_.copy_range_blocks) return {.status = kCommandSizeLimit};
    if (!contains(media, {range.first_block, count})) return {.status = kLbaOutOfRange};
    target.count += count;
  }
  if (target.count > options_.copy_blocks) return {.status = kCommandSizeLimit};
  if (!contains(media, target)) return {.status = kLbaOutOfRange};

  uint64_t copied = 0;
  for (const CopyRange& range : ranges) {
    const uint64_t count = range.block_count + 1u;
    if (media.has_uncorrectable(range.first_block, count)) {
      return {.status = kUnrecoveredReadError, .result = copied};
    }
    const auto to = media.change(target.first, count, durability(caching(), command));
    const auto from = media.bytes(range.first_block, count);
    if (!from.empty()) std::memmove(to.data(), from.data(), from.size());
    target.first += count;
    ++copied;
  }
  return {};
}

}  // namespace basalt::nvme::model
