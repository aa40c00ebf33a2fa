// basalt cat, put, get: bytes in and out of a store.
//
// put writes to "<path>.part", syncs it and renames it into place, so a path holds either its old
// bytes or all of the new ones; get does the same with the local file.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <vector>

#include "base/try.h"
#include "tool/command.h"
#include "tool/progress.h"
#include "tool/session.h"

namespace basalt::tool {
namespace {

constexpr size_t kChunkBytes = size_t{1} << 20;

struct TransferArguments {
  std::string uri;
  std::vector<std::string> paths;
  std::string path;
  std::string local;
  bool log = false;
};

Status local_error(const std::string& what, const std::string& path) {
  const int code = errno;
  const StatusCode status = code == ENOENT   ? StatusCode::not_found
                            : code == EACCES ? StatusCode::permission_denied
                            : code == ENOSPC ? StatusCode::no_space
                                             : StatusCode::io_error;
  return Status(status, what + " " + path + ": " + std::strerror(code));
}

// A local file; "-" is standard input or output.
class LocalFile {
 public:
  LocalFile(const LocalFile&) = delete;
  LocalFile& operator=(const LocalFile&) = delete;
  LocalFile(LocalFile&& other) noexcept
      : fd_(std::exchange(other.fd_, -1)), path_(std::move(other.path_)) {}
  ~LocalFile() {
    if (fd_ > STDERR_FILENO) ::close(fd_);
  }

  static Result<LocalFile> open(const std::string& path, int flags) {
    const bool writing = (flags & O_ACCMODE) != O_RDONLY;
    if (path == "-") return LocalFile(writing ? STDOUT_FILENO : STDIN_FILENO, "-");
    const int fd = ::open(path.c_str(), flags | O_CLOEXEC, 0666);
    if (fd < 0) return error(local_error("cannot open", path));
    return LocalFile(fd, path);
  }

  // 0 when it cannot be known (a pipe).
  uint64_t size() const {
    struct stat info {};
    return fstat(fd_, &info) == 0 && S_ISREG(info.st_mode) ? static_cast<uint64_t>(info.st_size)
                                                           : 0;
  }

  // Fills the buffer unless the input ends; returns the bytes read.
  Result<size_t> read(std::span<std::byte> buffer) {
    size_t length = 0;
    while (length < buffer.size()) {
      const ssize_t got = ::read(fd_, buffer.data() + length, buffer.size() - length);
      if (got == 0) break;
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return error(local_error("cannot read", path_));
      length += static_cast<size_t>(got);
    }
    return length;
  }

  Status write(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const ssize_t put = ::write(fd_, bytes.data(), bytes.size());
      if (put < 0 && errno == EINTR) continue;
      if (put < 0) return local_error("cannot write", path_);
      bytes = bytes.subspan(static_cast<size_t>(put));
    }
    return {};
  }

 private:
  LocalFile(int fd, std::string path) : fd_(fd), path_(std::move(path)) {}
  int fd_;
  std::string path_;
};

Status copy_in(LocalFile& from, File& to, const std::string& label) {
  Progress progress(label);
  std::vector<std::byte> buffer(kChunkBytes);
  const uint64_t total = from.size();
  for (uint64_t done = 0;;) {
    BASALT_TRY_ASSIGN(const size_t length, from.read(buffer));
    if (length == 0) return {};
    BASALT_TRY(to.append(std::span(buffer).first(length)));
    done += length;
    if (total > 0) progress.show(done, total);
  }
}

Status copy_out(File& from, LocalFile& to, const std::string& label) {
  Progress progress(label);
  std::vector<std::byte> buffer(kChunkBytes);
  const uint64_t total = from.size();
  for (uint64_t offset = 0;;) {
    BASALT_TRY_ASSIGN(const size_t length, from.read(offset, buffer, Caching::uncached));
    if (length == 0) return {};
    BASALT_TRY(to.write(std::span(buffer).first(length)));
    offset += length;
    progress.show(offset, total);
  }
}

Status put_file(FileSystem& files, const TransferArguments& arguments) {
  BASALT_TRY_ASSIGN(LocalFile local, LocalFile::open(arguments.local, O_RDONLY));
  const std::string part = arguments.path + ".part";
  CreateOptions options;
  if (!arguments.log) options.preallocate_bytes = local.size();
  BASALT_TRY_ASSIGN(auto file,
                    files.create(part, arguments.log ? FileKind::log : FileKind::table, options));
  Status status = copy_in(local, *file, "writing " + arguments.path);
  if (status.ok()) status = file->sync();
  const Status closed = file->close();
  if (status.ok()) status = closed;
  file.reset();
  if (status.ok()) status = files.rename(part, arguments.path);
  if (status.ok()) return files.sync_all();
  if (const Status removed = files.remove(part); !removed.ok()) {
    std::fprintf(stderr, "basalt: %s stays behind: %s\n", part.c_str(),
                 removed.to_string().c_str());
  }
  return status;
}

Result<int> put(const TransferArguments& arguments) {
  BASALT_TRY_ASSIGN(Session session, Session::mount(arguments.uri, OpenMode::read_write));
  const Status status = put_file(session.files(), arguments);
  const Status finished = session.finish();
  BASALT_TRY(status);
  BASALT_TRY(finished);
  return kDone;
}

Result<int> get(const TransferArguments& arguments) {
  BASALT_TRY_ASSIGN(Session session, Session::mount(arguments.uri, OpenMode::read_only));
  BASALT_TRY_ASSIGN(auto file, session.files().open(arguments.path, OpenMode::read_only));
  // Something that is not a plain file (-, /dev/null, a pipe) is written directly.
  struct stat info {};
  const bool direct = arguments.local == "-" ||
                      (stat(arguments.local.c_str(), &info) == 0 && !S_ISREG(info.st_mode));
  const std::string part = direct ? arguments.local : arguments.local + ".part";
  BASALT_TRY_ASSIGN(LocalFile local, LocalFile::open(part, O_WRONLY | O_CREAT | O_TRUNC));
  Status status = copy_out(*file, local, "reading " + arguments.path);
  if (!direct && status.ok() && std::rename(part.c_str(), arguments.local.c_str()) != 0) {
    status = local_error("cannot rename " + part + " to", arguments.local);
  }
  if (!direct && !status.ok()) ::unlink(part.c_str());
  BASALT_TRY(status);
  return kDone;
}

Result<int> cat(const TransferArguments& arguments) {
  BASALT_TRY_ASSIGN(Session session, Session::mount(arguments.uri, OpenMode::read_only));
  BASALT_TRY_ASSIGN(LocalFile out, LocalFile::open("-", O_WRONLY));
  for (const std::string& path : arguments.paths) {
    BASALT_TRY_ASSIGN(auto file, session.files().open(path, OpenMode::read_only));
    BASALT_TRY(copy_out(*file, out, "reading " + path));
  }
  return kDone;
}

}  // namespace

void add_transfer_commands(CLI::App& app, Action& action) {
  auto shown = std::make_shared<TransferArguments>();
  CLI::App* command = app.add_subcommand("cat", "write files to standard output");
  command->add_option("device", shown->uri, "device URI")->required();
  command->add_option("path", shown->paths, "absolute paths in the store")->required();
  command->callback([shown, &action] { action = [shown] { return cat(*shown); }; });

  auto stored = std::make_shared<TransferArguments>();
  command = app.add_subcommand("put", "copy a local file into the store");
  command->add_option("device", stored->uri, "device URI")->required();
  command->add_option("local", stored->local, "local file; - is standard input")->required();
  command->add_option("path", stored->path, "absolute path in the store")->required();
  command->add_flag("--log", stored->log, "make a log file (small synced appends), not a table");
  command->callback([stored, &action] { action = [stored] { return put(*stored); }; });

  auto fetched = std::make_shared<TransferArguments>();
  command = app.add_subcommand("get", "copy a file out of the store");
  command->add_option("device", fetched->uri, "device URI")->required();
  command->add_option("path", fetched->path, "absolute path in the store")->required();
  command->add_option("local", fetched->local, "local file; - is standard output")->required();
  command->callback([fetched, &action] { action = [fetched] { return get(*fetched); }; });
}

}  // namespace basalt::tool
