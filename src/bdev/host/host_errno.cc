// The table follows what Linux's block layer and file systems mean by each number (block/blk-core.c
// lists the block layer's own: ENODATA is a media error, EBADE a reservation conflict, and so on).
#include "bdev/host/host_errno.h"

#include <cerrno>
#include <system_error>

namespace basalt {

StatusCode status_code_from_errno(int error_number) {
  switch (error_number) {
    case 0: return StatusCode::ok;
    case EINVAL:
    case EBADF:
    case EFAULT: return StatusCode::invalid_argument;
    case ENOENT: return StatusCode::not_found;
    case EEXIST: return StatusCode::already_exists;
    case ERANGE:
    case EOVERFLOW: return StatusCode::out_of_range;
    case EOPNOTSUPP:
    case ENOSYS:
    case ENOTTY: return StatusCode::unsupported;
    case EAGAIN:
    case EBUSY:
    case ETXTBSY: return StatusCode::busy;
    case ENOSPC:
    case EDQUOT: return StatusCode::no_space;
    case EILSEQ:                                  // a failed protection information check
    case EBADMSG:                                 // a checksum the file system found wrong
    case EUCLEAN: return StatusCode::corruption;  // a structure the file system found wrong
    case ETIME:
    case ETIMEDOUT: return StatusCode::timed_out;
    case ECANCELED: return StatusCode::canceled;
    case ENODEV:
    case ENXIO:
    case ENOMEDIUM: return StatusCode::device_removed;
    case EBADE: return StatusCode::fenced;  // a reservation conflict
    case EROFS: return StatusCode::read_only;
    case EACCES:
    case EPERM: return StatusCode::permission_denied;
    case ENOTDIR: return StatusCode::not_a_directory;
    case EISDIR: return StatusCode::is_a_directory;
    case ENOTEMPTY: return StatusCode::not_empty;
    case EFBIG:
    case ENAMETOOLONG: return StatusCode::too_large;
    default: return StatusCode::io_error;  // EIO, ENODATA, ENOLINK, EREMOTEIO, ENOMEM, …
  }
}

Status errno_status(int error_number, const std::string& what) {
  return Status(status_code_from_errno(error_number),
                what + ": " + std::system_category().message(error_number));
}

}  // namespace basalt
