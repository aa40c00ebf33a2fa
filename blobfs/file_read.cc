#include "blobfs/file_read.h"

#include "base/try.h"
#include "blobfs/async_reads.h"
#include "blobfs/file_space.h"
#include "blobfs/log_file.h"
#include "blobfs/log_reader.h"

#include <algorithm>
#include <cstring>
#include <string>

namespace basalt::blobfs {

namespace {

// Says of a failure which file it met; a success costs nothing.
Status in_file(Status status, const char* kind, uint64_t id) {
  return status.ok() ? status : status.with_context(kind + (' ' + std::to_string(id)));
}

// Copies the payload of log blocks, one by one validated. `offset` is in the file.
Status open_blocks(const LogIdentity& log, std::span<const std::byte> blocks, uint64_t first_block,
                   uint64_t offset, std::span<std::byte> out) {
  const uint64_t payload = log.shape.payload();
  for (uint64_t block = first_block; !out.empty(); ++block) {
    const uint64_t position = log.shape.position_of(block);
    const auto opened = open_block(
        log, position,
        blocks.subspan((block - first_block) * log.shape.block_bytes, log.shape.block_bytes));
    const uint64_t skip = offset - position;
    const size_t count = std::min<uint64_t>(out.size(), payload - skip);
    if (!opened || opened->payload.size() < skip + count) {
      return {StatusCode::corruption,
              "log " + std::to_string(log.file_id) + ": block " + std::to_string(block) + " (" +
                  std::to_string(log.shape.block_bytes) + " B, bytes from " +
                  std::to_string(position) + ") is damaged or missing"};
    }
    std::memcpy(out.data(), opened->payload.data() + skip, count);
    out = out.subspan(count);
    offset += count;
  }
  return {};
}

Status read_log_once(Core& core, OpenInode& inode, blob::Blob& blob, const LogIdentity& log,
                     uint64_t offset, std::span<std::byte> out) {
  const uint64_t bytes_per_read = kMaxReadBytes / log.shape.block_bytes * log.shape.payload();
  while (!out.empty()) {
    const uint64_t first = log.shape.block_of(offset);
    const size_t count =
        std::min<uint64_t>(out.size(), log.shape.position_of(first) + bytes_per_read - offset);
    const uint64_t blocks = log.shape.block_count(offset + count) - first;
    const IoBuffers::Lease buffer = core.buffers.take(blocks * log.shape.block_bytes);
    const auto raw = buffer.first(blocks * log.shape.block_bytes);
    BASALT_TRY(
        in_file(core.store.read(blob, log.shape.blob_offset(first), raw, blob::Unwritten::raw),
                "log", inode.id));
    BASALT_TRY(open_blocks(log, raw, first, offset, out.first(count)));
    offset += count;
    out = out.subspan(count);
  }
  return {};
}

Status read_log(Core& core, OpenInode& inode, blob::Blob& blob, uint64_t offset,
                std::span<std::byte> out) {
  while (true) {
    LogIdentity log;
    {
      const MutexLock lock(inode.mutex);
      log = log_identity(inode);
    }
    Status status = read_log_once(core, inode, blob, log, offset, out);
    if (status.code() != StatusCode::corruption) return status;
    // A truncation or a new opening meanwhile makes younger blocks that the old identity refuses.
    const MutexLock lock(inode.mutex);
    if (inode.record.log_epoch == log.epoch) return inode.damage.ok() ? status : inode.damage;
  }
}

Status read_table(Core& core, OpenInode& inode, blob::Blob& blob, uint64_t offset,
                  std::span<std::byte> out) {
  const uint64_t unit = core.table_unit;
  while (!out.empty()) {
    const uint64_t begin = round_down(offset, unit);
    if (begin == offset && out.size() >= unit) {
      const auto direct = out.first(round_down(out.size(), unit));
      BASALT_TRY(in_file(core.store.read(blob, offset, direct, blob::Unwritten::zeros), "table",
                         inode.id));
      offset += direct.size();
      out = out.subspan(direct.size());
      continue;
    }
    const size_t count = std::min<uint64_t>(out.size(), begin + kMaxReadBytes - offset);
    const IoBuffers::Lease buffer = core.buffers.take(round_up(offset + count, unit) - begin);
    const auto raw = buffer.first(round_up(offset + count, unit) - begin);
    BASALT_TRY(
        in_file(core.store.read(blob, begin, raw, blob::Unwritten::zeros), "table", inode.id));
    std::memcpy(out.data(), raw.data() + (offset - begin), count);
    offset += count;
    out = out.subspan(count);
  }
  return {};
}

// Reads pages [first, first + count) from the device, leaves them in the cache and copies
// [offset, offset + out.size()) of them. `generation` as page_cache.h asks.
Status read_pages(Core& core, OpenInode& inode, blob::Blob& blob, uint64_t generation,
                  uint64_t first, uint64_t count, uint64_t offset, std::span<std::byte> out) {
  const IoBuffers::Lease buffer = core.buffers.take(count * kBlock);
  const auto raw = buffer.first(count * kBlock);
  BASALT_TRY(in_file(core.store.read(blob, first * kBlock, raw, blob::Unwritten::zeros), "table",
                     inode.id));
  core.cache.insert(inode.id, first, raw, inode.cache_generation, generation);
  if (!out.empty()) std::memcpy(out.data(), raw.data() + (offset - first * kBlock), out.size());
  return {};
}

Status read_cached(Core& core, OpenInode& inode, blob::Blob& blob, uint64_t generation,
                   uint64_t offset, std::span<std::byte> out, PageCache::Touch touch) {
  while (true) {
    const size_t hit = core.cache.read(inode.id, offset, out, touch);
    offset += hit;
    out = out.subspan(hit);
    if (out.empty()) return {};
    // What is on its way is not read again. It may have been refused by the cache, or be gone again.
    const bool was_filling = inode.reads_in_flight.load(std::memory_order_relaxed) != 0 &&
                             core.reads->wait_for_fill(inode, offset);
    if (was_filling && core.cache.contains(inode.id, offset / kBlock)) continue;
    const uint64_t first = offset / kBlock;
    const size_t count = std::min<uint64_t>(out.size(), first * kBlock + kMaxReadBytes - offset);
    const uint64_t pages = round_up(offset + count, kBlock) / kBlock - first;
    BASALT_TRY(read_pages(core, inode, blob, generation, first, pages, offset, out.first(count)));
    offset += count;
    out = out.subspan(count);
    if (out.empty()) return {};
  }
}

}  // namespace

Result<blob::Blob*> blob_of(Core& core, OpenInode& inode) {
  if (blob::Blob* blob = inode.data.load(std::memory_order_acquire)) return blob;
  const MutexLock lock(inode.mutex);
  BASALT_TRY(inode.open_data(core));
  return &*inode.blob;
}

bool uses_cache(const Core& core, const OpenInode& inode, Caching caching) {
  return inode.kind == InodeKind::table && caching == Caching::normal && core.cache.enabled();
}

uint64_t read_tail(OpenInode& inode, uint64_t offset, std::span<std::byte> out) {
  const uint64_t end = offset + out.size();
  if (end <= inode.tail_begin.load(std::memory_order_acquire)) return end;
  const MutexLock lock(inode.mutex);
  if (inode.tail.empty() || end <= inode.tail.begin()) return end;
  const uint64_t from = std::max(offset, inode.tail.begin());
  const auto part = out.subspan(from - offset);
  // Only a truncation beside this read makes the tail shorter than the size that was seen.
  const size_t there =
      std::min<uint64_t>(part.size(), inode.tail.end() - std::min(from, inode.tail.end()));
  inode.tail.copy_out(from, part.first(there));
  std::memset(part.data() + there, 0, part.size() - there);
  return from;
}

Status read_device(Core& core, OpenInode& inode, uint64_t offset, std::span<std::byte> out) {
  BASALT_TRY_ASSIGN(blob::Blob * blob, blob_of(core, inode));
  return inode.kind == InodeKind::log ? read_log(core, inode, *blob, offset, out)
                                      : read_table(core, inode, *blob, offset, out);
}

Result<size_t> read_file(Core& core, OpenInode& inode, Readahead& readahead, uint64_t offset,
                         std::span<std::byte> out, Caching caching) {
  const uint64_t generation = inode.cache_generation.load(std::memory_order_acquire);
  const uint64_t size = inode.size.load(std::memory_order_acquire);
  if (offset >= size) return 0;
  out = out.first(std::min<uint64_t>(out.size(), size - offset));
  const uint64_t device_end = read_tail(inode, offset, out);
  if (device_end <= offset) return out.size();
  const auto rest = out.first(device_end - offset);
  if (!uses_cache(core, inode, caching)) {
    BASALT_TRY(read_device(core, inode, offset, rest));
    return out.size();
  }
  BASALT_TRY_ASSIGN(blob::Blob * blob, blob_of(core, inode));
  const Readahead::Advice advice = readahead.note(offset, offset + out.size());
  if (advice.begin < advice.end) {
    readahead.reached(advice, core.reads->start_fill(inode, &readahead, advice.begin, advice.end));
  }
  BASALT_TRY(read_cached(core, inode, *blob, generation, offset, rest, advice.touch));
  return out.size();
}

}  // namespace basalt::blobfs
