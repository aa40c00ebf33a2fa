// See physical_memory.h.
#include "nvme/vfio/physical_memory.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

#include "base/try.h"
#include "base/unique_fd.h"
#include "nvme/page.h"
#include "nvme/system_error.h"

namespace basalt::nvme {
namespace {

constexpr uint64_t kPresent = uint64_t{1} << 63;
constexpr uint64_t kFrameMask = (uint64_t{1} << 55) - 1;
constexpr uint64_t kHugetlb = uint64_t{1} << 17;  // KPF_HUGE

Result<UniqueFd> open_file(const std::string& path) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return error(system_error("open " + path, errno));
  return fd;
}

// Words [first, first + words.size()) of a file of 64-bit words.
Status read_words(const UniqueFd& fd, const std::string& path, uint64_t first,
                  std::span<uint64_t> words) {
  const ssize_t got = ::pread(fd.get(), words.data(), words.size_bytes(),
                              static_cast<off_t>(first * sizeof(uint64_t)));
  if (got == static_cast<ssize_t>(words.size_bytes())) return {};
  return system_error("read " + path, got < 0 ? errno : EIO);
}

}  // namespace

Result<uint64_t> PhysicalMemory::address_of(std::span<const std::byte> memory) const {
  const auto begin = reinterpret_cast<uintptr_t>(memory.data());
  if (memory.empty() || begin % kPageBytes != 0 || memory.size() % kPageBytes != 0) {
    return error(StatusCode::invalid_argument,
                 "memory for a device without an IOMMU must be whole pages of 4096 B, not " +
                     std::to_string(memory.size()) + " B at " + std::to_string(begin));
  }
  BASALT_TRY_ASSIGN(const UniqueFd pagemap, open_file(paths_.pagemap));
  BASALT_TRY_ASSIGN(const UniqueFd kernel, open_file(paths_.flags));
  std::vector<uint64_t> frames(memory.size() / kPageBytes);
  BASALT_TRY(read_words(pagemap, paths_.pagemap, begin / kPageBytes, frames));
  for (uint64_t& frame : frames) {
    if ((frame & kPresent) == 0) {
      return error(StatusCode::unsupported, "part of the memory is not there yet or any more");
    }
    frame &= kFrameMask;
    if (frame == 0) {  // what the kernel shows to others
      return error(StatusCode::permission_denied,
                   paths_.pagemap + " hides physical addresses; it takes CAP_SYS_ADMIN");
    }
    uint64_t flags = 0;
    BASALT_TRY(read_words(kernel, paths_.flags, frame, {&flags, 1}));
    if ((flags & kHugetlb) == 0) {
      return error(
          StatusCode::unsupported,
          "the memory is not in hugepages of the machine's, and the kernel may move it; give "
          "it some (/proc/sys/vm/nr_hugepages)");
    }
    if (frame != frames[0] + static_cast<uint64_t>(&frame - frames.data())) {
      return error(StatusCode::unsupported, std::to_string(memory.size()) +
                                                " B of memory are not in one piece in the machine");
    }
  }
  return frames[0] * kPageBytes;
}

}  // namespace basalt::nvme
