// See io_command.h.
#include "targets/nvmf/io_command.h"

#include <algorithm>
#include <cstring>

#include "wire/nvme/block_ranges.h"

namespace basalt::nvmf {

namespace {

using nvme::Command;
using nvme::CompletionStatus;
using nvme::IoOpcode;

struct BlockRange {
  uint64_t first = 0;
  uint64_t count = 0;
};

// Words 10 to 12 of most commands.
BlockRange range_of(const Command& command) {
  return {command.cdw10 | uint64_t{command.cdw11} << 32, (command.cdw12 & 0xffffu) + 1};
}

bool is_inside(const Namespace& space, const BlockRange& range) {
  const uint64_t size = space.device->info().block_count.value;
  return range.first <= size && range.count <= size - range.first;
}

void set(Request& request, Op op, const BlockRange& range) {
  request.io.op = op;
  request.io.flags = {};
  request.io.lba = Lba{range.first};
  request.io.block_count = BlockCount{range.count};
  request.io.data = {};
}

void set_data(Request& request, std::span<std::byte> data) {
  request.pieces[0] = {data.data(), data.size()};
  request.io.data = std::span(request.pieces).first(1);
}

CompletionStatus prepare_transfer(const Namespace& space, Request& request, Op op) {
  const BlockRange range = range_of(request.command);
  if (request.data.size() != range.count * space.device->info().block_size) {
    return nvme::kDataLengthInvalid;
  }
  if (!is_inside(space, range)) return nvme::kLbaOutOfRange;
  set(request, op, range);
  request.io.flags.fua = op == Op::write && (request.command.cdw12 & nvme::kForceUnitAccess) != 0;
  set_data(request, request.data);
  return nvme::kGood;
}

template <class Struct>
Struct element(const Request& request, uint32_t index) {
  Struct value;
  std::memcpy(static_cast<void*>(&value), request.data.data() + index * sizeof(Struct),
              sizeof(Struct));
  return value;
}

uint32_t range_count(uint32_t word) { return (word & 0xff) + 1; }

// ---- Dataset Management: a discard for each range

bool next_discard(Request& request) {
  const uint32_t count = range_count(request.command.cdw10);
  while (request.step < count) {
    const auto range = element<nvme::DatasetRange>(request, request.step++);
    if (range.block_count == 0) continue;
    set(request, Op::discard, {range.first_block, range.block_count});
    return true;
  }
  return false;
}

CompletionStatus prepare_dataset(const Namespace& space, Request& request) {
  const uint32_t count = range_count(request.command.cdw10);
  if (request.data.size() < count * sizeof(nvme::DatasetRange)) return nvme::kDataLengthInvalid;
  for (uint32_t i = 0; i < count; ++i) {
    const auto range = element<nvme::DatasetRange>(request, i);
    if (!is_inside(space, {range.first_block, range.block_count})) return nvme::kLbaOutOfRange;
  }
  // Without that attribute these are hints of use, of which nothing is made.
  const bool discards = (request.command.cdw11 & nvme::kDatasetDeallocate) != 0;
  request.step = discards ? 0 : count;
  // No range has a block: something that does no harm.
  if (!next_discard(request)) set(request, Op::flush, {});
  return nvme::kGood;
}

// ---- Copy: one for each range

CompletionStatus prepare_copy(const Namespace& space, Request& request) {
  const uint32_t word = request.command.cdw12;
  if ((word >> 8 & 0xf) != 0) return nvme::kInvalidField;  // the format of the ranges
  const uint32_t count = range_count(word);
  if (count > kMaxCopyRanges) return nvme::kCopyTooLong;
  if (request.data.size() < count * sizeof(nvme::CopyRange)) return nvme::kDataLengthInvalid;
  uint64_t blocks = 0;
  for (uint32_t i = 0; i < count; ++i) {
    const auto range = element<nvme::CopyRange>(request, i);
    const uint64_t length = uint64_t{range.block_count} + 1;
    if (length > kMaxCopyBlocks) return nvme::kCopyTooLong;
    if (!is_inside(space, {range.first_block, length})) return nvme::kLbaOutOfRange;
    blocks += length;
  }
  if (blocks > kMaxCopyBlocks) return nvme::kCopyTooLong;
  const uint64_t to = request.command.cdw10 | uint64_t{request.command.cdw11} << 32;
  if (!is_inside(space, {to, blocks})) return nvme::kLbaOutOfRange;
  request.step = 0;
  request.blocks_done = 0;
  next_io(space, request);
  return nvme::kGood;
}

bool next_copy(Request& request) {
  if (request.step == range_count(request.command.cdw12)) return false;
  const auto range = element<nvme::CopyRange>(request, request.step++);
  const uint64_t to = request.command.cdw10 | uint64_t{request.command.cdw11} << 32;
  const uint64_t length = uint64_t{range.block_count} + 1;
  set(request, Op::copy, {to + request.blocks_done, length});
  request.io.copy_source = Lba{range.first_block};
  request.blocks_done += length;
  return true;
}

// ---- Verify: read, into memory that nobody looks at

bool next_verify(const Namespace& space, Request& request) {
  const BlockRange range = range_of(request.command);
  if (request.blocks_done == range.count) return false;
  const uint32_t block = space.device->info().block_size;
  const uint64_t portion =
      std::min<uint64_t>(range.count - request.blocks_done, request.data.size() / block);
  set(request, Op::read, {range.first + request.blocks_done, portion});
  set_data(request, request.data.first(portion * block));
  request.blocks_done += portion;
  return true;
}

CompletionStatus prepare_verify(const Namespace& space, Request& request) {
  if (!is_inside(space, range_of(request.command))) return nvme::kLbaOutOfRange;
  request.blocks_done = 0;
  next_verify(space, request);
  return nvme::kGood;
}

}  // namespace

CompletionStatus prepare_io(const Namespace& space, Request& request) noexcept {
  const OpSet supported = space.device->info().supported;
  switch (static_cast<IoOpcode>(request.command.opcode)) {
    case IoOpcode::read: return prepare_transfer(space, request, Op::read);
    case IoOpcode::write: return prepare_transfer(space, request, Op::write);
    case IoOpcode::compare:
      if (!supported.has(Op::compare)) return nvme::kInvalidOpcode;
      return prepare_transfer(space, request, Op::compare);
    case IoOpcode::flush: set(request, Op::flush, {}); return nvme::kGood;
    case IoOpcode::write_zeroes: {
      if (!supported.has(Op::write_zeroes)) return nvme::kInvalidOpcode;
      const BlockRange range = range_of(request.command);
      if (!is_inside(space, range)) return nvme::kLbaOutOfRange;
      set(request, Op::write_zeroes, range);
      request.io.flags.fua = (request.command.cdw12 & nvme::kForceUnitAccess) != 0;
      request.io.flags.no_deallocate = (request.command.cdw12 & nvme::kDeallocate) == 0;
      return nvme::kGood;
    }
    case IoOpcode::dataset_management:
      if (!supported.has(Op::discard)) return nvme::kInvalidOpcode;
      return prepare_dataset(space, request);
    case IoOpcode::copy:
      if (!supported.has(Op::copy)) return nvme::kInvalidOpcode;
      return prepare_copy(space, request);
    case IoOpcode::verify: return prepare_verify(space, request);
    default: return nvme::kInvalidOpcode;
  }
}

bool has_steps(const Request& request) noexcept {
  switch (static_cast<IoOpcode>(request.command.opcode)) {
    case IoOpcode::dataset_management:
    case IoOpcode::copy:
    case IoOpcode::verify: return true;
    default: return false;
  }
}

bool next_io(const Namespace& space, Request& request) noexcept {
  switch (static_cast<IoOpcode>(request.command.opcode)) {
    case IoOpcode::dataset_management: return next_discard(request);
    case IoOpcode::copy: return next_copy(request);
    case IoOpcode::verify: return next_verify(space, request);
    default: return false;
  }
}

CompletionStatus prepare_compare_and_write(const Namespace& space, Request& first,
                                           Request& second) noexcept {
  if (!space.device->info().supported.has(Op::compare_and_write)) return nvme::kInvalidField;
  const BlockRange range = range_of(first.command), other = range_of(second.command);
  if (range.first != other.first || range.count != other.count) return nvme::kInvalidField;
  if (const auto bad = prepare_transfer(space, second, Op::write); !bad.ok()) return bad;
  if (const auto bad = prepare_transfer(space, first, Op::compare); !bad.ok()) return bad;
  first.io.op = Op::compare_and_write;
  first.io.flags.fua = second.io.flags.fua;
  first.pieces[1] = {second.data.data(), second.data.size()};
  first.io.data = first.pieces;
  return nvme::kGood;
}

CompletionStatus to_completion_status(StatusCode code, Op op) noexcept {
  const bool reads = op == Op::read || op == Op::compare;
  switch (code) {
    case StatusCode::ok: return nvme::kGood;
    case StatusCode::miscompare: return nvme::kCompareFailure;
    case StatusCode::out_of_range: return nvme::kLbaOutOfRange;
    case StatusCode::unsupported: return nvme::kInvalidOpcode;
    case StatusCode::invalid_argument:
    case StatusCode::too_large: return nvme::kInvalidField;
    case StatusCode::no_space: return nvme::kCapacityExceeded;
    case StatusCode::read_only: return nvme::kWriteProtected;
    case StatusCode::canceled: return nvme::kAbortRequested;
    // It may come back: the host is to try again.
    case StatusCode::device_removed:
    case StatusCode::busy: return nvme::kNamespaceNotReady;
    case StatusCode::io_error:
    case StatusCode::corruption: return reads ? nvme::kUnrecoveredReadError : nvme::kWriteFault;
    default: return nvme::kInternalError;
  }
}

}  // namespace basalt::nvmf
