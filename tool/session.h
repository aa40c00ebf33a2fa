// Opening what a command works on: a Context with the standard schemes, a device, a mounted store.
//
// A Session owns all three in the order their lifetimes ask for. Commands that change nothing open
// the device and the store for reading only, so they work on media that cannot be written.
#pragma once

#include <basalt/context.h>
#include <basalt/device.h>
#include <basalt/file_system.h>

#include <memory>
#include <string>

namespace basalt::tool {

class Session {
 public:
  // Opens the device alone.
  static Result<Session> open_device(const std::string& uri, OpenMode mode);
  // Opens the device and mounts the store on it; says on stderr what recovery met.
  static Result<Session> mount(const std::string& uri, OpenMode mode);

  Context& context() { return *context_; }
  Device& device() { return *device_; }
  FileSystem& files() { return *files_; }
  // Unmounts; the first error of the store so far. Every command that wrote ends with it.
  Status finish();

 private:
  Session() = default;
  std::unique_ptr<Context> context_;
  std::unique_ptr<Device> device_;
  std::unique_ptr<FileSystem> files_;
};

}  // namespace basalt::tool
