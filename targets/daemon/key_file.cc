// See key_file.h.
#include "targets/daemon/key_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "base/unique_fd.h"

namespace basalt {

Result<std::string> read_key_file(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd) {
    const StatusCode code = errno == ENOENT ? StatusCode::not_found : StatusCode::permission_denied;
    return error(code, "key file " + path + ": " + std::strerror(errno));
  }
  struct stat info {};
  if (::fstat(fd.get(), &info) != 0 || !S_ISREG(info.st_mode)) {
    return error(StatusCode::invalid_argument, "key file " + path + ": is not a file");
  }
  if ((info.st_mode & 077) != 0) {
    return error(StatusCode::permission_denied,
                 "key file " + path + ": others than its owner may use it; chmod 600 it");
  }
  std::array<char, 512> buffer;
  const ssize_t got = ::read(fd.get(), buffer.data(), buffer.size());
  std::string_view text(buffer.data(), got > 0 ? static_cast<size_t>(got) : 0);
  if (text.size() == buffer.size()) {
    return error(StatusCode::invalid_argument, "key file " + path + ": longer than any key");
  }
  text = text.substr(0, text.find_first_of("\r\n"));
  if (text.empty()) return error(StatusCode::invalid_argument, "key file " + path + ": is empty");
  return std::string(text);
}

}  // namespace basalt
