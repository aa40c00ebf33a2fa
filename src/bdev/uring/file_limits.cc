// See file_limits.h; statx(2) STATX_DIOALIGN, Documentation/ABI/stable/sysfs-block of the kernel.
#include "bdev/uring/file_limits.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdlib>
#include <memory>

#include "bdev/host/host_errno.h"

namespace basalt {
namespace {

constexpr uint32_t kSmallestBlock = 512;
constexpr uint32_t kPageBytes = 4096;
constexpr uint32_t kMostPagesPerRequest = 256;  // BIO_MAX_VECS

uint32_t queue_number(dev_t device, const char* fact) {
  const auto text = read_queue_fact(device, fact);
  return text ? static_cast<uint32_t>(std::strtoul(text->c_str(), nullptr, 10)) : 0;
}

// For kernels and file systems that do not tell: the smallest aligned read the file does not
// refuse.
Result<uint32_t> try_direct_alignment(int fd, const std::string& name) {
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };
  const std::unique_ptr<void, Free> memory(
      std::aligned_alloc(kLargestFileBlock, kLargestFileBlock));
  for (uint32_t bytes = kSmallestBlock; bytes <= kLargestFileBlock; bytes *= 2) {
    if (pread(fd, memory.get(), bytes, bytes) >= 0) return bytes;
    if (errno != EINVAL) return error(errno_status(errno, name + ": read with O_DIRECT"));
  }
  return error(
      StatusCode::unsupported,
      name + ": the file refuses direct I/O; direct=0 goes through the kernel's page cache");
}

Status probe_alignment(const HostFile& file, bool direct, const std::string& name,
                       FileLimits& limits) {
  struct statx status {};
  const bool told = statx(file.fd(), "", AT_EMPTY_PATH, STATX_DIOALIGN, &status) == 0 &&
                    (status.stx_mask & STATX_DIOALIGN) != 0;
  if (told && status.stx_dio_offset_align != 0) {
    limits.block_bytes = std::max(status.stx_dio_offset_align, kSmallestBlock);
    limits.memory_alignment = status.stx_dio_mem_align;
  } else if (told && direct) {
    return Status(StatusCode::unsupported,
                  name +
                      ": the file takes no direct I/O (encrypted, verified or journaled data); "
                      "direct=0 goes through the kernel's page cache");
  } else if (direct) {
    Result<uint32_t> found = try_direct_alignment(file.fd(), name);
    if (!found) return std::move(found).error();
    limits.block_bytes = *found;
    limits.memory_alignment = *found;
  }
  if (!direct) limits.memory_alignment = 1;
  if (!direct && limits.block_bytes > kLargestFileBlock) limits.block_bytes = kSmallestBlock;
  for (const uint32_t bytes : {limits.block_bytes, limits.memory_alignment}) {
    if (std::has_single_bit(bytes) && bytes <= kLargestFileBlock) continue;
    return Status(StatusCode::unsupported,
                  name + ": direct I/O wants multiples of " + std::to_string(bytes) +
                      " B; supported are powers of two up to 65536; direct=0 goes through the "
                      "kernel's page cache");
  }
  return {};
}

uint32_t unsplit_bytes(dev_t device) {
  uint64_t bytes = uint64_t{kMostPagesPerRequest} * kPageBytes;
  if (const uint64_t segments = queue_number(device, "max_segments"); segments != 0) {
    bytes = std::min(bytes, segments * kPageBytes);
  }
  if (const uint64_t kilobytes = queue_number(device, "max_sectors_kb"); kilobytes != 0) {
    bytes = std::min(bytes, kilobytes * 1024);
  }
  return static_cast<uint32_t>(std::max(bytes / kLargestFileBlock, uint64_t{1}) *
                               kLargestFileBlock);
}

void probe_block_device(const HostFile& file, FileLimits& limits) {
  int logical = 0;
  if (ioctl(file.fd(), BLKSSZGET, &logical) == 0 && logical > 0) {
    limits.block_bytes = std::max(limits.block_bytes, static_cast<uint32_t>(logical));
  }
  // What cannot be read is taken for a volatile cache: flushing too much loses nothing.
  const auto cache = read_queue_fact(file.underlying_device(), "write_cache");
  limits.volatile_write_cache = !cache || *cache != "write through";
  const auto discard = read_queue_fact(file.underlying_device(), "discard_max_bytes");
  limits.can_discard = discard && *discard != "0";
}

}  // namespace

Result<FileLimits> probe_file_limits(const HostFile& file, bool direct, const std::string& name) {
  FileLimits limits;
  if (Status status = probe_alignment(file, direct, name, limits); !status.ok()) {
    return error(std::move(status));
  }
  if (file.is_block_device()) {
    probe_block_device(file, limits);
    // Through the page cache even a device without a cache forgets what was not flushed.
    if (!direct) limits.volatile_write_cache = true;
  }
  limits.physical_block_bytes = queue_number(file.underlying_device(), "physical_block_size");
  limits.unsplit_bytes = unsplit_bytes(file.underlying_device());
  struct stat status {};
  if (fstat(file.fd(), &status) == 0 && !file.is_block_device()) {
    limits.optimal_bytes = static_cast<uint32_t>(status.st_blksize);
  }
  limits.optimal_bytes = std::max({limits.optimal_bytes, limits.physical_block_bytes,
                                   queue_number(file.underlying_device(), "optimal_io_size")});
  return limits;
}

}  // namespace basalt
