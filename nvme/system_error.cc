// See system_error.h.
#include "nvme/system_error.h"

#include <cerrno>
#include <cstring>
#include <utility>

namespace basalt::nvme {
namespace {

StatusCode code_of(int error_number) {
  switch (error_number) {
    case EINVAL:
    case EFAULT: return StatusCode::invalid_argument;
    case ENOENT: return StatusCode::not_found;
    case EEXIST: return StatusCode::already_exists;
    case ERANGE:
    case EOVERFLOW: return StatusCode::out_of_range;
    case ENOTTY:
    case ENOSYS:
    case EOPNOTSUPP: return StatusCode::unsupported;
    case EAGAIN:
    case EBUSY: return StatusCode::busy;
    case ENOMEM:
    case ENOSPC:
    case EMFILE:
    case ENFILE: return StatusCode::no_space;
    case EACCES:
    case EPERM:
    case EROFS: return StatusCode::permission_denied;
    case ETIMEDOUT: return StatusCode::timed_out;
    case EPIPE:
    case ECONNRESET:
    case ENOTCONN:
    case ESHUTDOWN:
    case ENODEV:
    case ENXIO: return StatusCode::device_removed;
    default: return StatusCode::io_error;
  }
}

}  // namespace

Status system_error(std::string context, int error_number) {
  return Status(code_of(error_number), std::move(context) + ": " + std::strerror(error_number));
}

}  // namespace basalt::nvme
