#include "tool/session.h"

#include <basalt/devices.h>

#include <cstdio>

#include "base/try.h"

namespace basalt::tool {

Result<Session> Session::open_device(const std::string& uri, OpenMode mode) {
  Session session;
  BASALT_TRY_ASSIGN(session.context_, Context::create());
  register_standard_schemes(*session.context_);
  DeviceOpenOptions options;
  options.mode = mode;
  BASALT_TRY_ASSIGN(session.device_, basalt::open_device(*session.context_, uri, options));
  return session;
}

Result<Session> Session::mount(const std::string& uri, OpenMode mode) {
  BASALT_TRY_ASSIGN(Session session, open_device(uri, mode));
  MountOptions options;
  options.mode = mode;
  BASALT_TRY_ASSIGN(session.files_,
                    FileSystem::mount(*session.context_, std::move(session.device_), options));
  for (const std::string& note : session.files_->recovery_notes()) {
    std::fprintf(stderr, "basalt: note: %s\n", note.c_str());
  }
  return session;
}

Status Session::finish() {
  Status status = files_ ? files_->unmount() : Status{};
  files_.reset();
  return status;
}

}  // namespace basalt::tool
