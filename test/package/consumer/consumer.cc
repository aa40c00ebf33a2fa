// A program outside the tree: makes a store in memory, writes a file, reads it back.
#include <basalt/devices.h>
#include <basalt/file_system.h>

#include <cstdio>
#include <cstring>

namespace {

basalt::Status write_and_read(basalt::FileSystem& files, const std::string& text) {
  auto file = files.create("/greeting", basalt::FileKind::table, {});
  if (!file) return file.error();
  if (auto status = (*file)->append(std::as_bytes(std::span(text))); !status.ok()) return status;
  if (auto status = (*file)->sync(); !status.ok()) return status;
  std::string read(text.size(), ' ');
  const auto length = (*file)->read(0, std::as_writable_bytes(std::span(read)));
  if (!length) return length.error();
  if (*length != text.size() || read != text) {
    return basalt::Status(basalt::StatusCode::corruption, "read \"" + read + "\"");
  }
  return (*file)->close();
}

basalt::Status run() {
  auto context = basalt::Context::create();
  if (!context) return context.error();
  basalt::register_standard_schemes(**context);
  auto device = basalt::open_device(**context, "ram:64M");
  if (!device) return device.error();
  if (auto status = basalt::FileSystem::format(**context, **device, {}); !status.ok())
    return status;
  auto files = basalt::FileSystem::mount(**context, std::move(*device), {});
  if (!files) return files.error();
  if (auto status = write_and_read(**files, "hello from outside\n"); !status.ok()) return status;
  return (*files)->unmount();
}

}  // namespace

int main() {
  const basalt::Status status = run();
  std::printf("consumer: %s\n", status.to_string().c_str());
  return status.ok() ? 0 : 1;
}
