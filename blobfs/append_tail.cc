#include "blobfs/append_tail.h"

#include "base/check.h"

#include <algorithm>
#include <cstring>
#include <new>

namespace basalt::blobfs {

namespace {
constexpr std::align_val_t kAlignment{4096};
}

AppendTail::AppendTail(SharedTail* shared, uint64_t file_id, uint64_t capacity)
    : shared_(shared), file_id_(file_id), capacity_(capacity) {
  BASALT_CHECK(capacity_ > 0 && capacity_ <= kTailChunkBytes, "a piece fits into a chunk");
}

AppendTail::~AppendTail() { release_all(); }

bool AppendTail::add_piece(uint64_t offset, Memory memory) {
  Piece piece;
  piece.offset = piece.end = offset;
  if (shared_ != nullptr && !has_private()) {
    const std::optional<SharedTail::Slot> after =
        pieces_.empty() ? std::nullopt : pieces_.back().slot;
    piece.slot = shared_->acquire(file_id_, offset, after);
  }
  if (piece.slot) {
    piece.bytes = shared_->bytes(*piece.slot);
  } else {
    if (memory == Memory::shared) return false;
    piece.bytes = static_cast<std::byte*>(::operator new(kTailChunkBytes, kAlignment));
    ++private_pieces_;
  }
  pieces_.push_back(piece);
  return true;
}

size_t AppendTail::append(std::span<const std::byte> bytes) {
  Piece& piece = pieces_.back();
  const uint64_t used = piece.end - piece.offset;
  const size_t count = std::min<uint64_t>(bytes.size(), capacity_ - used);
  std::memcpy(piece.bytes + used, bytes.data(), count);
  piece.end += count;
  if (piece.slot) shared_->publish(*piece.slot, piece.end);
  return count;
}

void AppendTail::copy_out(uint64_t offset, std::span<std::byte> out) const {
  if (out.empty()) return;
  BASALT_CHECK(!empty() && offset >= begin() && offset + out.size() <= end(),
               "bytes are in the tail");
  size_t index = (offset - begin()) / capacity_;
  while (!out.empty()) {
    const Piece& piece = pieces_[index++];
    const uint64_t skip = offset - piece.offset;
    const size_t count = std::min<uint64_t>(out.size(), piece.end - piece.offset - skip);
    std::memcpy(out.data(), piece.bytes + skip, count);
    offset += count;
    out = out.subspan(count);
  }
}

void AppendTail::gather(uint64_t from, uint64_t to,
                        std::vector<std::span<const std::byte>>& spans) const {
  spans.clear();
  if (from >= to) return;
  BASALT_CHECK(!empty() && from >= begin() && to <= end(), "bytes are in the tail");
  for (size_t index = (from - begin()) / capacity_; from < to; ++index) {
    const Piece& piece = pieces_[index];
    const size_t count = std::min(to, piece.end) - from;
    const std::byte* start = piece.bytes + (from - piece.offset);
    if (!spans.empty() && spans.back().data() + spans.back().size() == start) {
      spans.back() = {spans.back().data(), spans.back().size() + count};
    } else {
      spans.push_back({start, count});
    }
    from += count;
  }
}

void AppendTail::release_below(uint64_t position) {
  size_t count = 0;
  while (count < pieces_.size() && pieces_[count].offset + capacity_ <= position) ++count;
  release_front(count);
}

void AppendTail::release_front(size_t count) {
  for (; count > 0; --count) {
    const Piece& piece = pieces_.front();
    if (piece.slot) {
      shared_->release(*piece.slot);
    } else {
      ::operator delete(piece.bytes, kAlignment);
      --private_pieces_;
    }
    pieces_.pop_front();
  }
}

}  // namespace basalt::blobfs
