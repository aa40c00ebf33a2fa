#include "blobfs/shared_tail.h"

#include "base/check.h"
#include "base/crc32c.h"
#include "base/sync.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstring>

namespace basalt::blobfs {

namespace {

constexpr unsigned kMaxLockTries = 1000;  // a millisecond each
// Chunks whose pages are reserved at once: ahead, when fewer than kFewReady are ready; by who needs one.
constexpr uint64_t kGrowthAhead = 16 * kTailLargePage / kTailChunkBytes,
                   kFewReady = kGrowthAhead / 2;
constexpr uint64_t kGrowth = kTailLargePage / kTailChunkBytes;
constexpr SharedTail::Slot kRun = 64;  // a table's write to the device (table_file.h)

// Chunks whose pages are reserved at creation.
SharedTail::Slot first_chunks(const TailLayout& layout) {
  const uint64_t before = std::min(layout.chunks_offset, SharedTail::kFirstBytes);
  const uint64_t count = std::max((SharedTail::kFirstBytes - before) / kTailChunkBytes, kGrowth);
  return static_cast<SharedTail::Slot>(std::min(count, layout.chunk_count));
}

#ifndef MADV_COLLAPSE
constexpr int MADV_COLLAPSE = 25;  // linux/mman.h; the C library's headers may be older
#endif

// Reserves the pages of [offset, +bytes); 0 or an errno. A signal ends the call early.
int reserve_pages(int fd, uint64_t offset, uint64_t bytes) {
  int code = 0;
  do {
    code = ::posix_fallocate(fd, static_cast<off_t>(offset), static_cast<off_t>(bytes));
  } while (code == EINTR);
  return code;
}

// The same for a file that is mapped at `map`. Mapped at once, not by a page fault for each; where the kernel does not
// know this, by those.
int reserve_mapped_pages(int fd, std::byte* map, uint64_t offset, uint64_t bytes) {
  if (const int code = reserve_pages(fd, offset, bytes); code != 0) return code;
  ::madvise(map + offset, bytes, MADV_POPULATE_WRITE);
  return 0;
}

// The same with large pages where they fit and the kernel makes them. Each call first waits for all cores to empty their
// lists of pages: better one for many.
int reserve_large_pages(int fd, std::byte* map, uint64_t offset, uint64_t bytes) {
  const uint64_t end = offset + bytes;
  const uint64_t first = (offset + kTailLargePage - 1) / kTailLargePage * kTailLargePage;
  const uint64_t last = end / kTailLargePage * kTailLargePage;
  // It takes a page to make one of.
  for (uint64_t page = first; page < last; page += kTailLargePage) {
    if (const int code = reserve_pages(fd, page, 4096); code != 0) return code;
  }
  if (last > first) ::madvise(map + first, last - first, MADV_COLLAPSE);
  return reserve_mapped_pages(fd, map, offset, bytes);  // what did not become large
}

// Maps the file at a multiple of a large page, which is what a large page of it takes; null: errno says why not.
std::byte* map_file(int fd, uint64_t bytes) {
  const uint64_t room = bytes + kTailLargePage;
  void* reserved =
      ::mmap(nullptr, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reserved == MAP_FAILED) return nullptr;
  auto* const begin = static_cast<std::byte*>(reserved);
  const uint64_t before = -reinterpret_cast<uintptr_t>(begin) % kTailLargePage;
  std::byte* const map = begin + before;
  if (::mmap(map, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED) {
    const int code = errno;
    ::munmap(begin, room);
    errno = code;
    return nullptr;
  }
  if (before > 0) ::munmap(begin, before);
  ::munmap(map + bytes, room - before - bytes);  // before < a large page: there is something
  return map;
}

std::string to_hex(const TailId& id) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const std::byte b : id) {
    text += kDigits[static_cast<unsigned>(b) >> 4];
    text += kDigits[static_cast<unsigned>(b) & 15];
  }
  return text;
}

std::optional<TailId> from_hex(std::string_view text) {
  TailId id;
  if (text.size() != 2 * id.size()) return {};
  for (size_t i = 0; i < id.size(); ++i) {
    unsigned value = 0;
    const char* begin = text.data() + 2 * i;
    const auto [end, failed] = std::from_chars(begin, begin + 2, value, 16);
    if (failed != std::errc() || end != begin + 2) return {};
    id[i] = static_cast<std::byte>(value);
  }
  return id;
}

Status tail_error(const std::string& path, uint64_t bytes, const char* call, int code) {
  StatusCode status = StatusCode::io_error;
  if (code == ENOSPC || code == ENOMEM) status = StatusCode::no_space;
  if (code == EACCES || code == EPERM) status = StatusCode::permission_denied;
  if (code == ENOENT) status = StatusCode::not_found;
  if (code == EEXIST) status = StatusCode::already_exists;
  return {status, "shared-memory tail " + path + " (" + std::to_string(bytes) + " B): " + call +
                      ": " + std::strerror(code) +
                      "; give it more room, make it smaller (tail_bytes), put it elsewhere "
                      "(shared_memory_dir), or let flush() write to the device (flush_to)"};
}

}  // namespace

TailHeader make_tail_header(const TailBinding& binding, const TailLayout& layout) {
  TailHeader header{};
  header.magic = kTailMagic;
  header.version = kTailVersion;
  header.store_uuid = binding.store_uuid;
  header.open_id = binding.open_id;
  header.predecessor = binding.predecessor;
  header.file_bytes = layout.file_bytes;
  header.ring_offset = layout.ring_offset;
  header.ring_bytes = layout.ring_bytes;
  header.table_offset = layout.table_offset;
  header.chunk_count = layout.chunk_count;
  header.chunks_offset = layout.chunks_offset;
  header.chunk_bytes = kTailChunkBytes;
  std::copy_n(binding.boot_id.begin(), std::min(binding.boot_id.size(), header.boot_id.size()),
              header.boot_id.begin());
  const auto covered = std::as_bytes(std::span(&header, 1)).subspan(offsetof(TailHeader, version));
  header.crc = crc32c(covered);
  return header;
}

std::string tail_path(const std::string& directory, const TailBinding& binding) {
  return directory + "/basalt-" + to_hex(binding.store_uuid) + "-" + to_hex(binding.open_id);
}

std::optional<TailBinding> parse_tail_name(std::string_view name) {
  constexpr std::string_view kPrefix = "basalt-";
  constexpr size_t kIdDigits = 2 * std::tuple_size_v<TailId>;
  if (!name.starts_with(kPrefix)) return {};
  name.remove_prefix(kPrefix.size());
  if (name.size() != 2 * kIdDigits + 1 || name[kIdDigits] != '-') return {};
  const auto uuid = from_hex(name.substr(0, kIdDigits)),
             open_id = from_hex(name.substr(kIdDigits + 1));
  if (!uuid || !open_id) return {};
  TailBinding binding;
  binding.store_uuid = *uuid;
  binding.open_id = *open_id;
  return binding;
}

Result<std::unique_ptr<SharedTail>> SharedTail::create(const std::string& directory,
                                                       const TailBinding& binding, uint64_t bytes,
                                                       LogSink* log, Executor* executor) {
  if (bytes < kMinTailBytes || bytes > kMaxTailBytes) {
    return error(StatusCode::invalid_argument,
                 "tail_bytes " + std::to_string(bytes) + ": must be 1 MiB … 4 GiB");
  }
  const TailLayout layout = tail_layout(bytes);
  const std::string path = tail_path(directory, binding);
  int fd = -1;
  const auto fail = [&](const char* call, int code) {
    if (fd >= 0) {
      ::close(fd);
      ::unlink(path.c_str());
    }
    return error(tail_error(path, bytes, call, code));
  };
  // The owner's lock: a mount of a copy of the image on this machine must not take a live tail over. Until it is
  // held, the file looks abandoned; such a mount may have removed it.
  for (struct stat made{}; made.st_nlink == 0;) {
    if (fd >= 0) ::close(fd);
    fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) return fail("open", errno);
    for (unsigned tries = 0; ::flock(fd, LOCK_EX | LOCK_NB) != 0; ++tries) {
      if (errno != EWOULDBLOCK || tries == kMaxLockTries) return fail("flock", errno);
      sleep_for(std::chrono::milliseconds(1));
    }
    if (::fstat(fd, &made) != 0) return fail("fstat", errno);
  }
  if (::ftruncate(fd, static_cast<off_t>(layout.file_bytes)) != 0) return fail("ftruncate", errno);
  std::byte* const map = map_file(fd, layout.file_bytes);
  if (map == nullptr) return fail("mmap", errno);
  const uint64_t first = layout.chunks_offset + first_chunks(layout) * kTailChunkBytes;
  if (const int code = reserve_large_pages(fd, map, 0, first); code != 0) {
    ::munmap(map, layout.file_bytes);
    return fail("posix_fallocate", code);
  }
  // The header makes it a tail; the rest is zero: an empty ring, all chunks free.
  const TailHeader header = make_tail_header(binding, layout);
  std::memcpy(map, &header, sizeof header);
  const uint64_t has_predecessor = binding.predecessor != TailId{} ? 1 : 0;
  std::memcpy(map + kPredecessorOffset, &has_predecessor, sizeof has_predecessor);
  return std::unique_ptr<SharedTail>(new SharedTail(path, fd, map, layout, log, executor));
}

SharedTail::SharedTail(std::string path, int fd, std::byte* map, const TailLayout& layout,
                       LogSink* log, Executor* executor)
    : path_(std::move(path)),
      fd_(fd),
      map_(map),
      layout_(layout),
      log_(log),
      executor_(executor),
      taken_(layout.chunk_count),
      reserved_(first_chunks(layout)),
      free_(layout.chunk_count),
      chunk_limit_(layout.chunk_count) {
  growth_.run = [this] { grow_ahead(); };
}

SharedTail::~SharedTail() {
  if (executor_ != nullptr) executor_->cancel(growth_);
  ::munmap(map_, layout_.file_bytes);
  ::close(fd_);
}

void SharedTail::forget_predecessor() { store_word(kPredecessorOffset, 0); }

void SharedTail::remove() { ::unlink(path_.c_str()); }

TailChunkEntry& SharedTail::entry(Slot slot) const {
  return reinterpret_cast<TailChunkEntry*>(map_ + layout_.table_offset)[slot];
}

uint64_t SharedTail::ready_chunks() const {
  const uint64_t taken = chunk_limit_.load(std::memory_order_relaxed) - free_chunks();
  return reserved_ - taken;
}

bool SharedTail::wants_growth() {
  if (executor_ == nullptr || growing_ || ready_chunks() >= kFewReady) return false;
  growing_ = reserved_ < chunk_limit_.load(std::memory_order_relaxed);
  return growing_;
}

int SharedTail::reserve_chunks(uint64_t count, Pages pages) {
  const uint64_t offset = layout_.chunks_offset + reserved_ * kTailChunkBytes;
  const auto reserve = pages == Pages::large ? reserve_large_pages : reserve_mapped_pages;
  const int code = reserve(fd_, map_, offset, count * kTailChunkBytes);
  if (code != 0) return code;
  const MutexLock lock(mutex_);
  reserved_ += static_cast<Slot>(count);
  return 0;
}

void SharedTail::grow_ahead() {
  const MutexLock growth_lock(growth_mutex_);
  // Where there is no memory for so much, who needs a chunk takes the rest.
  const uint64_t more = std::min(kGrowthAhead, chunk_limit_.load() - reserved_);
  if (reserve_chunks(more, Pages::large) != 0) return;
  const MutexLock lock(mutex_);
  growing_ = false;
}

bool SharedTail::grow() {
  const MutexLock growth_lock(growth_mutex_);
  {
    const MutexLock lock(mutex_);
    if (ready_chunks() > 0 || free_chunks() == 0) return true;
  }
  const uint64_t limit = chunk_limit_.load(std::memory_order_relaxed);
  const uint64_t more = std::min(kGrowth, limit - reserved_);
  const int code = reserve_chunks(more, Pages::small);
  if (code == 0) return true;
  {
    const MutexLock lock(mutex_);
    free_.fetch_sub(limit - reserved_, std::memory_order_relaxed);
    chunk_limit_.store(reserved_, std::memory_order_relaxed);
  }
  if (log_ != nullptr) {
    log_->log(LogLevel::warning, "blobfs",
              tail_error(path_, layout_.chunks_offset + (reserved_ + more) * kTailChunkBytes,
                         "posix_fallocate", code)
                  .with_context("what is not synced goes to the device earlier")
                  .to_string());
  }
  return false;
}

SharedTail::Slot SharedTail::take_chunk(std::optional<Slot> after) {
  Slot slot = after ? *after + 1 : next_;
  if (slot >= reserved_ || taken_[slot]) slot = next_;
  for (; taken_[slot % reserved_]; ++slot) {
  }
  slot %= reserved_;
  taken_[slot] = true;
  free_.store(free_.load(std::memory_order_relaxed) - 1, std::memory_order_relaxed);
  // Others begin a good way further on, so that files grow in neighbouring chunks.
  if (!after || slot != *after + 1) next_ = (slot + kRun) % reserved_;
  return slot;
}

std::optional<SharedTail::Slot> SharedTail::acquire(uint64_t file_id, uint64_t offset,
                                                    std::optional<Slot> after) {
  Slot slot = 0;
  bool wants_growth = false;
  {
    MutexLock lock(mutex_);
    while (ready_chunks() == 0) {
      if (free_chunks() == 0) return {};
      lock.unlock();
      if (!grow()) return {};
      lock.lock();
    }
    slot = take_chunk(after);
    wants_growth = this->wants_growth();
  }
  if (wants_growth) executor_->post(growth_);
  TailChunkEntry& chunk = entry(slot);
  std::atomic_ref(chunk.offset).store(offset, std::memory_order_relaxed);
  std::atomic_ref(chunk.end).store(offset, std::memory_order_relaxed);
  std::atomic_ref(chunk.check).store(chunk_check(file_id, offset), std::memory_order_relaxed);
  std::atomic_ref(chunk.file_id).store(file_id, std::memory_order_release);
  return slot;
}

void SharedTail::publish(Slot slot, uint64_t end) {
  std::atomic_ref(entry(slot).end).store(end, std::memory_order_release);
}

void SharedTail::release(Slot slot) {
  if (left_.load()) return;
  std::atomic_ref(entry(slot).file_id).store(0, std::memory_order_release);
  const MutexLock lock(mutex_);
  BASALT_CHECK(taken_[slot], "a chunk is released once");
  taken_[slot] = false;
  free_.fetch_add(1, std::memory_order_relaxed);
}

void SharedTail::copy_to_ring(uint64_t at, std::span<const std::byte> bytes) {
  std::byte* ring = map_ + layout_.ring_offset;
  const uint64_t start = at % layout_.ring_bytes;
  const size_t first = std::min<uint64_t>(bytes.size(), layout_.ring_bytes - start);
  std::memcpy(ring + start, bytes.data(), first);
  std::memcpy(ring, bytes.data() + first, bytes.size() - first);
}

void SharedTail::store_word(uint64_t offset, uint64_t value) {
  std::atomic_ref(*reinterpret_cast<uint64_t*>(map_ + offset))
      .store(value, std::memory_order_release);
}

bool SharedTail::keep(blob::Ticket ticket, std::span<const std::byte> bytes) {
  const MutexLock lock(ring_mutex_);
  const uint64_t size = tail_entry_bytes(bytes.size());
  if (refused_.value != 0 || ring_tail_ - ring_head_ + size > layout_.ring_bytes) {
    refused_ = ticket;
    return false;
  }
  TailEntryHeader header{};
  header.ticket = ticket.value;
  header.length = static_cast<uint32_t>(bytes.size());
  header.crc = crc32c(
      bytes, crc32c(std::as_bytes(std::span(&header, 1)).first(offsetof(TailEntryHeader, crc))));
  copy_to_ring(ring_tail_, std::as_bytes(std::span(&header, 1)));
  copy_to_ring(ring_tail_ + sizeof header, bytes);
  ring_tail_ += size;
  store_word(kRingTailOffset, ring_tail_);
  kept_.push_back({ticket, ring_tail_});
  return true;
}

void SharedTail::durable(blob::Ticket ticket) {
  const MutexLock lock(ring_mutex_);
  if (refused_ <= ticket) refused_ = {};
  if (kept_.empty() || kept_.front().ticket > ticket) return;
  while (!kept_.empty() && kept_.front().ticket <= ticket) {
    ring_head_ = kept_.front().end;
    kept_.pop_front();
  }
  store_word(kRingHeadOffset, ring_head_);
}

}  // namespace basalt::blobfs
