#include "blobfs/tail_replay.h"

#include "base/crc32c.h"
#include "base/planted.h"
#include "base/try.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>

namespace basalt::blobfs {

namespace {

struct Descriptor {
  int fd = -1;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

template <typename T>
T load_at(std::span<const std::byte> content, uint64_t offset) {
  T value;
  std::memcpy(&value, content.data() + offset, sizeof value);
  return value;
}

tl::unexpected<Status> refuse(StatusCode code, const std::string& why) {
  return error(code, "shared-memory tail: " + why);
}

Status check_header(const TailHeader& header, std::span<const std::byte> content,
                    const TailBinding& wanted) {
  const auto bad = [](StatusCode code, const char* why) {
    return Status(code, std::string("shared-memory tail: ") + why);
  };
  if (header.magic != kTailMagic && !planted("tail_magic"))
    return bad(StatusCode::corruption, "no magic");
  const auto covered = content.subspan(offsetof(TailHeader, version),
                                       sizeof(TailHeader) - offsetof(TailHeader, version));
  if (crc32c(covered) != header.crc && !planted("tail_header_checksum"))
    return bad(StatusCode::corruption, "header checksum mismatch");
  if ((header.version == 0 || header.version > kTailVersion) && !planted("tail_version"))
    return bad(StatusCode::unsupported, "written by another version");
  if (header.store_uuid != wanted.store_uuid && !planted("tail_uuid"))
    return bad(StatusCode::miscompare, "of another store");
  if (header.open_id != wanted.open_id && !planted("tail_open_id"))
    return bad(StatusCode::miscompare, "of another opening");
  const std::string_view boot_id(header.boot_id.data(), header.boot_id.size());
  const std::string_view wanted_boot =
      std::string_view(wanted.boot_id).substr(0, header.boot_id.size());
  if (boot_id.substr(0, boot_id.find('\0')) != wanted_boot && !planted("tail_of_another_boot")) {
    return bad(StatusCode::miscompare, "of another boot");
  }
  return {};
}

}  // namespace

Result<TailImage> TailImage::parse(std::span<const std::byte> content, const TailBinding& wanted) {
  const auto copy = std::make_shared<std::byte[]>(content.size());
  std::copy(content.begin(), content.end(), copy.get());
  return parse(copy, content.size(), wanted);
}

Result<TailImage> TailImage::parse(std::shared_ptr<const std::byte[]> memory, size_t bytes,
                                   const TailBinding& wanted) {
  const std::span content(memory.get(), bytes);
  if (content.size() < kMinTailBytes || content.size() > kMaxTailBytes) {
    return refuse(StatusCode::corruption, "a file of " + std::to_string(content.size()) + " B");
  }
  const auto header = load_at<TailHeader>(content, 0);
  BASALT_TRY(check_header(header, content, wanted));
  // The layout follows from the size, so nothing the header says is used as an offset.
  const TailLayout layout = tail_layout(content.size(), header.version);
  if ((header.file_bytes != layout.file_bytes || content.size() != layout.file_bytes ||
       header.ring_offset != layout.ring_offset || header.ring_bytes != layout.ring_bytes ||
       header.table_offset != layout.table_offset || header.chunk_count != layout.chunk_count ||
       header.chunks_offset != layout.chunks_offset || header.chunk_bytes != kTailChunkBytes) &&
      !planted("tail_layout")) {
    return refuse(StatusCode::corruption, "its parts do not lie where they should");
  }
  TailImage image;
  image.memory_ = std::move(memory);
  image.content_ = content;
  if (load_at<uint64_t>(image.content_, kPredecessorOffset) == 1) {
    image.predecessor_ = header.predecessor;
  }
  image.read_ring(layout);
  image.read_chunks(layout, header.version);
  return image;
}

void TailImage::read_ring(const TailLayout& layout) {
  const uint64_t head = load_at<uint64_t>(content_, kRingHeadOffset);
  const uint64_t tail = load_at<uint64_t>(content_, kRingTailOffset);
  if (head > tail || tail - head > layout.ring_bytes || head % 8 != 0 || tail % 8 != 0) {
    notes_.push_back("shared-memory tail: ring counters " + std::to_string(head) + " and " +
                     std::to_string(tail) + " make no sense; its transactions were left out");
    return;
  }
  const auto copy = [&](uint64_t at, void* out, uint64_t count) {
    if (count == 0) return;  // `out` may be null then, which memcpy() forbids
    const uint64_t start = at % layout.ring_bytes;
    const uint64_t first = std::min(count, layout.ring_bytes - start);
    const std::byte* ring = content_.data() + layout.ring_offset;
    std::memcpy(out, ring + start, first);
    std::memcpy(static_cast<std::byte*>(out) + first, ring, count - first);
  };
  uint64_t at = head;
  while (at < tail) {
    TailEntryHeader entry;
    if (tail - at < sizeof entry) break;
    copy(at, &entry, sizeof entry);
    if (entry.length > layout.ring_bytes || tail_entry_bytes(entry.length) > tail - at) break;
    KeptTransaction kept;
    kept.ticket = entry.ticket;
    kept.bytes.resize(entry.length);
    copy(at + sizeof entry, kept.bytes.data(), kept.bytes.size());
    const auto covered = std::as_bytes(std::span(&entry, 1)).first(offsetof(TailEntryHeader, crc));
    if (crc32c(kept.bytes, crc32c(covered)) != entry.crc && !planted("tail_entry_checksum")) break;
    at += tail_entry_bytes(entry.length);
    transactions_.push_back(std::move(kept));
  }
  if (at != tail) {
    notes_.push_back("shared-memory tail: the transaction at ring byte " + std::to_string(at) +
                     " is damaged; it and what followed were left out");
  }
}

void TailImage::read_chunks(const TailLayout& layout, uint32_t version) {
  for (uint64_t i = 0; i < layout.chunk_count; ++i) {
    const auto entry =
        load_at<TailChunkEntry>(content_, layout.table_offset + i * sizeof(TailChunkEntry));
    if (entry.file_id == 0 || entry.end == entry.offset) continue;
    const bool unchecked = version == 1 && entry.check == 0;
    const bool misplaced = !unchecked && entry.check != chunk_check(entry.file_id, entry.offset);
    if (entry.end < entry.offset || entry.end - entry.offset > kTailChunkBytes ||
        entry.end > uint64_t{1} << 60 || (misplaced && !planted("tail_chunk_misplaced"))) {
      notes_.push_back("shared-memory tail: chunk " + std::to_string(i) + " claims bytes " +
                       std::to_string(entry.offset) + " … " + std::to_string(entry.end) +
                       "; it was left out");
      continue;
    }
    const auto bytes =
        content_.subspan(layout.chunks_offset + i * kTailChunkBytes, entry.end - entry.offset);
    chunks_.push_back({entry.file_id, entry.offset, bytes});
  }
  std::sort(chunks_.begin(), chunks_.end(), [](const KeptChunk& a, const KeptChunk& b) {
    return a.file_id != b.file_id ? a.file_id < b.file_id : a.offset < b.offset;
  });
}

namespace {

// Opens a tail, checks that it is a file of ours, and takes its owner's lock.
Result<struct stat> open_dead_tail(const std::string& path, Descriptor& file) {
  file.fd = ::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
  if (file.fd < 0) {
    const int code = errno;
    return error(code == ENOENT ? StatusCode::not_found : StatusCode::permission_denied,
                 path + ": open: " + std::strerror(code));
  }
  struct stat info {};
  if (::fstat(file.fd, &info) != 0) {
    return error(StatusCode::io_error, path + ": fstat: " + std::strerror(errno));
  }
  if ((!S_ISREG(info.st_mode) || info.st_uid != ::geteuid() || (info.st_mode & 07777) != 0600 ||
       info.st_nlink != 1) &&
      !planted("tail_of_anyone")) {
    return error(StatusCode::permission_denied,
                 path + ": must be a regular file of this user, mode 0600, with one link");
  }
  if (::flock(file.fd, LOCK_EX | LOCK_NB) != 0 && !planted("tail_of_the_living")) {
    return error(StatusCode::busy, path + ": its process still has it open");
  }
  // Another mount may have removed it before we had the lock; the name may be another file's by now.
  struct stat locked {};
  if (::fstat(file.fd, &locked) != 0 || locked.st_nlink == 0) {
    return error(StatusCode::not_found, path + ": was removed meanwhile");
  }
  return info;
}

// `bytes` zeros that cost no memory before they are written, in large pages where the kernel has some; null: no memory.
std::shared_ptr<std::byte[]> map_zeros(size_t bytes) {
  void* map = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (map == MAP_FAILED) return nullptr;
  ::madvise(map, bytes, MADV_HUGEPAGE);
  return {static_cast<std::byte*>(map), [bytes](std::byte* memory) { ::munmap(memory, bytes); }};
}

// Made by a mount that was killed before it wrote the header.
bool has_no_header(const Descriptor& file) {
  std::array<std::byte, sizeof(TailHeader)> header{};
  const ssize_t count = ::pread(file.fd, header.data(), header.size(), 0);
  return count >= 0 && std::all_of(header.begin(), header.end(),
                                   [](std::byte byte) { return byte == std::byte{}; });
}

// Reads the file into `out`, which is zero, but for its holes.
Status read_data(int fd, std::span<std::byte> out, const std::string& path) {
  const auto failed = [&](const char* call) {
    return Status(StatusCode::io_error, path + ": " + call + ": " + std::strerror(errno));
  };
  const auto size = static_cast<off_t>(out.size());
  for (off_t at = 0; at < size;) {
    at = ::lseek(fd, at, SEEK_DATA);
    if (at < 0 && errno == ENXIO) return {};  // nothing but a hole
    if (at < 0) return failed("lseek");
    const off_t end = std::min(::lseek(fd, at, SEEK_HOLE), size);
    if (end < 0) return failed("lseek");
    while (at < end) {
      const ssize_t count = ::pread(fd, out.data() + at, static_cast<size_t>(end - at), at);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) return failed("read");
      if (count == 0)
        return {StatusCode::io_error, path + ": read: it ends at " + std::to_string(at)};
      at += count;
    }
  }
  return {};
}

bool remove_if_unwritten(const std::string& path) {
  Descriptor file;
  if (!open_dead_tail(path, file) || !has_no_header(file)) return false;
  return ::unlink(path.c_str()) == 0;
}

}  // namespace

void TailImage::remove_dead(const std::string& directory, const TailBinding& binding) {
  const std::string path = tail_path(directory, binding);
  Descriptor file;
  if (open_dead_tail(path, file)) ::unlink(path.c_str());
}

void TailImage::remove_abandoned(const std::string& directory, const TailId& store_uuid,
                                 const std::string& boot_id) {
  std::error_code failed;  // then there is nothing to remove
  for (std::filesystem::directory_iterator entry(directory, failed), end; !failed && entry != end;
       entry.increment(failed)) {
    const auto binding = parse_tail_name(entry->path().filename().string());
    if (!binding || binding->store_uuid != store_uuid) continue;
    if (remove_if_unwritten(entry->path().string())) continue;
    TailBinding wanted = *binding;
    wanted.boot_id = boot_id;
    const Result<TailImage> image = load(directory, wanted);
    if (!image || !image->transactions().empty() || !image->chunks().empty() ||
        !image->notes().empty()) {
      continue;
    }
    if (image->predecessor()) {
      TailBinding before = wanted;
      before.open_id = *image->predecessor();
      if (::access(tail_path(directory, before).c_str(), F_OK) == 0) continue;
    }
    ::unlink(entry->path().c_str());
  }
}

Result<TailImage> TailImage::load(const std::string& directory, const TailBinding& wanted) {
  const std::string path = tail_path(directory, wanted);
  Descriptor file;
  BASALT_TRY_ASSIGN(const struct stat info, open_dead_tail(path, file));
  if (info.st_size < 0 || static_cast<uint64_t>(info.st_size) > kMaxTailBytes) {
    return refuse(StatusCode::corruption, "a file of " + std::to_string(info.st_size) + " B");
  }
  const auto bytes = static_cast<size_t>(info.st_size);
  // Of a tail that was never full, most stays untouched.
  const std::shared_ptr<std::byte[]> content = map_zeros(std::max<size_t>(bytes, 1));
  if (content == nullptr) {
    return refuse(StatusCode::no_space, path + ": no memory for " + std::to_string(bytes) + " B");
  }
  BASALT_TRY(read_data(file.fd, std::span(content.get(), bytes), path));
  auto image = parse(content, bytes, wanted);
  if (!image) return error(image.error().with_context(path));
  return image;
}

}  // namespace basalt::blobfs
