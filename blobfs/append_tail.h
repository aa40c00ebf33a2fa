// AppendTail: the bytes at a file's end that are in memory, in pieces.
//
// A piece is a chunk of the shared-memory tail, or private memory when there is no such tail or all its
// chunks are taken. Pieces follow each other without a gap; each begins at a multiple of `capacity` past
// the first, so that no block of the file spans two. Bytes once added never change, and a piece stays
// where it is until released: whoever has the writing role may use gathered spans without the lock.
// Not synchronised: guarded by the inode's mutex, which also makes "private" bytes known (a file with
// private pieces must write them to the device in flush()).
#pragma once

#include "blobfs/shared_tail.h"

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace basalt::blobfs {

class AppendTail {
 public:
  // `capacity`: bytes per piece, at most kTailChunkBytes. `shared` may be null.
  AppendTail(SharedTail* shared, uint64_t file_id, uint64_t capacity);
  ~AppendTail();

  bool empty() const { return pieces_.empty(); }
  uint64_t begin() const { return pieces_.front().offset; }
  uint64_t end() const { return pieces_.back().end; }
  uint64_t capacity() const { return capacity_; }
  size_t piece_count() const { return pieces_.size(); }
  bool has_private() const { return private_pieces_ != 0; }
  // Whether the next byte fits into the last piece.
  bool has_room() const { return !pieces_.empty() && end() < begin_of_last() + capacity_; }

  enum class Memory : uint8_t { shared, any };
  // A new piece whose first byte is the file's at `offset`; false when `shared` is wanted and no chunk
  // is free. Bytes behind a private piece are private too: what is replayed must have no gap.
  bool add_piece(uint64_t offset, Memory memory);
  // Copies as much of `bytes` as fits into the last piece, publishes it, and returns the count.
  size_t append(std::span<const std::byte> bytes);

  // Copies [offset, offset + out.size()), which must be here.
  void copy_out(uint64_t offset, std::span<std::byte> out) const;
  // Spans of memory that hold [from, to), in order; neighbours in memory are joined.
  void gather(uint64_t from, uint64_t to, std::vector<std::span<const std::byte>>& spans) const;
  // Releases pieces whose last possible byte is below `position`.
  void release_below(uint64_t position);
  void release_all() { release_front(pieces_.size()); }

 private:
  struct Piece {
    uint64_t offset = 0, end = 0;
    std::byte* bytes = nullptr;
    std::optional<SharedTail::Slot> slot;  // none: private
  };
  uint64_t begin_of_last() const { return pieces_.back().offset; }
  void release_front(size_t count);

  SharedTail* const shared_;
  const uint64_t file_id_;
  const uint64_t capacity_;
  std::deque<Piece> pieces_;
  size_t private_pieces_ = 0;
};

}  // namespace basalt::blobfs
