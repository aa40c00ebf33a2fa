#include "blobfs/readahead.h"

#include <algorithm>

namespace basalt::blobfs {

using Touch = PageCache::Touch;

Readahead::Found Readahead::find(std::span<Stream> streams, uint64_t offset) {
  // Block trailers and the like leave small gaps; a reread of the last bytes is no break either.
  constexpr uint64_t kSlack = 16 * 1024;
  Stream* oldest = &streams[0];
  for (Stream& stream : streams) {
    if (stream.used < oldest->used) oldest = &stream;
    if (stream.used != 0 && offset + kSlack >= stream.next && offset <= stream.next + kSlack) {
      return {&stream, true};
    }
  }
  *oldest = {};
  return {oldest, false};
}

Readahead::Advice Readahead::note(uint64_t offset, uint64_t end) {
  const File::Access access = access_.load(std::memory_order_relaxed);
  if (access == File::Access::random) {
    const bool prefetched = offset < prefetched_to_.load(std::memory_order_relaxed) &&
                            offset >= prefetched_from_.load(std::memory_order_relaxed);
    return {prefetched ? Touch::scan : Touch::reuse, 0, 0};
  }
  const MutexLock lock(mutex_, std::try_to_lock);
  if (!lock.owns_lock()) return {};
  const bool announced = access != File::Access::normal;
  const Touch touch = access == File::Access::last_pass ? Touch::last : Touch::scan;
  const auto [stream, goes_on] = find(streams_, offset);
  stream->used = ++clock_;
  stream->next = std::max(stream->next, end);
  ++stream->count;
  if (!goes_on) {
    stream->ahead = end;
    if (!announced || offset != 0) return {};
    stream->window = kMinWindow;
    stream->ahead += kMinWindow;
    return {touch, end, stream->ahead};
  }
  const uint32_t believed_after = announced ? 2 : 4;
  if (stream->count < believed_after) return {};
  if (end + stream->window / 2 <= stream->ahead) return {touch, 0, 0};
  stream->window = std::clamp(stream->window * 2, kMinWindow, kMaxWindow);
  const uint64_t begin = std::max(stream->ahead, end);
  stream->ahead = begin + stream->window;
  return {touch, begin, stream->ahead};
}

void Readahead::reached(const Advice& advice, uint64_t end) {
  if (end >= advice.end) return;
  const MutexLock lock(mutex_);
  for (Stream& stream : streams_) {
    if (stream.ahead == advice.end) stream.ahead = end;
  }
}

uint64_t Readahead::note_prefetch(uint64_t offset, uint64_t end) {
  const MutexLock lock(mutex_, std::try_to_lock);
  if (!lock.owns_lock()) return end;
  const auto [stream, goes_on] = find(prefetches_, offset);
  stream->used = ++clock_;
  stream->next = end;
  if (!goes_on) return end;
  prefetched_from_.store(offset, std::memory_order_relaxed);
  prefetched_to_.store(end, std::memory_order_relaxed);
  return end + std::min(2 * (end - offset), kMaxWindow);
}

}  // namespace basalt::blobfs
