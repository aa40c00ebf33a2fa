// golden_writer FOLDER: makes the golden images of the present format version that are not there yet. Run
// once for each version that is released; what is there is left alone.
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "base/check.h"
#include "crash/machine.h"
#include "crash/pattern.h"
#include "golden/golden_store.h"

namespace basalt::golden {
namespace {

void must(const Status& status) { BASALT_CHECK(status.ok(), status.to_string().c_str()); }

std::vector<std::byte> read_file(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  const auto* begin = reinterpret_cast<const std::byte*>(bytes.data());
  return {begin, begin + bytes.size()};
}

// Keeps each file of the shared memory, under its name.
void save_tails(const std::string& shared_memory_dir, const std::string& folder) {
  std::filesystem::create_directory(folder);
  for (const auto& entry : std::filesystem::directory_iterator(shared_memory_dir)) {
    const std::vector<std::byte> bytes = read_file(entry.path());
    sim::SimImage image(bytes.size());
    image.write(0, bytes);
    must(save_sparse(image, 512, folder + "/" + entry.path().filename().string()));
  }
}

// Files in several mounts, so that both superblocks and pages of several checkpoints are there; one is
// replaced, one has two names, one is open at the end.
sim::SimImage make(const GoldenImage& image, const std::string& path) {
  crash::MachineOptions options;
  options.disk.size_bytes = uint64_t{16} << 20;
  options.disk.block_bytes = image.block_bytes;
  options.format.journal_bytes = uint64_t{1} << 20;
  options.format.cluster_bytes = 16384;
  options.format.data_checksums = image.data_checksums;
  options.mount.tail_bytes = uint64_t{1} << 20;
  crash::Machine machine(options);
  must(machine.format());
  must(machine.mount());
  for (const char* directory : directories()) must(machine.fs().make_directory(directory));
  std::vector<std::unique_ptr<File>> open;
  for (const GoldenFile& file : files()) {
    if (file.path == std::string_view("/db/second-name")) {
      must(machine.fs().link("/db/000003.sst", file.path));
      continue;
    }
    auto handle = machine.fs().create(file.path, file.kind, {});
    must(handle ? Status() : handle.error());
    must((*handle)->append(crash::as_bytes(crash::pattern(file.number, 1, 0, file.length))));
    must(image.end == End::killed ? (*handle)->flush() : (*handle)->sync());
    if (file.path == std::string_view("/db/open.log")) {
      open.push_back(std::move(*handle));
      continue;
    }
    must((*handle)->close());
    must(machine.unmount());
    must(machine.mount());
  }
  if (image.end == End::killed) {
    machine.plan(crash::Crash::process_death);
  } else {
    must(machine.fs().sync_all());
  }
  if (image.end != End::closed) {
    machine.stop();
    open.clear();
    machine.restart(1);
    if (image.end == End::killed) save_tails(machine.shared_memory_dir(), path + ".tail");
  } else {
    for (auto& file : open) must(file->close());
    open.clear();
    must(machine.unmount());
  }
  return machine.disk().image();
}

int run(const std::string& folder) {
  for (const GoldenImage& image : images()) {
    const std::string path = folder + "/" + image.name;
    if (std::filesystem::exists(path)) continue;
    must(save_sparse(make(image, path), image.block_bytes, path));
    std::printf("%s: %ju B\n", path.c_str(),
                static_cast<uintmax_t>(std::filesystem::file_size(path)));
  }
  return 0;
}

}  // namespace
}  // namespace basalt::golden

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: golden_writer FOLDER\n");
    return 2;
  }
  return basalt::golden::run(argv[1]);
}
