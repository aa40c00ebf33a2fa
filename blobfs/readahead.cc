#include "blobfs/readahead.h"

#include <algorithm>

namespace basalt::blobfs {

Readahead::Advice Readahead::note(uint64_t offset, uint64_t end) {
  const File::Access access = access_.load(std::memory_order_relaxed);
  if (access == File::Access::random) return {};
  const MutexLock lock(mutex_, std::try_to_lock);
  if (!lock.owns_lock()) return {};
  ++clock_;
  // Block trailers and the like leave small gaps; a reread of the last bytes is no break either.
  constexpr uint64_t kSlack = 16 * 1024;
  Stream* oldest = &streams_[0];
  for (Stream& stream : streams_) {
    if (stream.used < oldest->used) oldest = &stream;
    if (stream.used == 0 || offset + kSlack < stream.next || offset > stream.next + kSlack)
      continue;
    stream.used = clock_;
    stream.next = std::max(stream.next, end);
    ++stream.count;
    const uint32_t believed_after = access == File::Access::sequential ? 1 : 3;
    if (stream.count < believed_after) return {};
    if (end + stream.window / 2 <= stream.ahead) return {true, 0, 0};
    stream.window = std::clamp(stream.window * 2, kMinWindow, kMaxWindow);
    const uint64_t begin = std::max(stream.ahead, end);
    stream.ahead = begin + stream.window;
    return {true, begin, stream.ahead};
  }
  *oldest = {end, end, 0, 1, clock_};
  if (access == File::Access::sequential && offset == 0) {
    oldest->window = kMinWindow;
    oldest->ahead = end + kMinWindow;
    return {true, end, oldest->ahead};
  }
  return {};
}

}  // namespace basalt::blobfs
