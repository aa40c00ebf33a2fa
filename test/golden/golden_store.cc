// See golden_store.h.
#include "golden/golden_store.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <sstream>

#include "base/endian.h"

namespace basalt::golden {
namespace {

constexpr uint64_t kSector = 512;
constexpr uint64_t kMaxBytes = uint64_t{1} << 30;

constexpr GoldenFile kFiles[] = {
    {"/db/000001.sst", FileKind::table, 1, 30'000}, {"/db/000002.sst", FileKind::table, 2, 1},
    {"/db/000003.sst", FileKind::table, 3, 4096},   {"/db/MANIFEST-000004", FileKind::log, 4, 2500},
    {"/db/CURRENT", FileKind::table, 5, 16},        {"/db/000006.log", FileKind::log, 6, 9000},
    {"/db/empty", FileKind::table, 7, 0},           {"/db/second-name", FileKind::table, 3, 4096},
    {"/db/open.log", FileKind::log, 8, 5000},
};
constexpr const char* kDirectories[] = {"/db", "/db/lost", "/other", "/other/deeper"};
constexpr GoldenImage kImages[] = {
    {"v1-closed-512", 512, End::closed},
    {"v1-closed-4096", 4096, End::closed},
    {"v1-crashed-512", 512, End::crashed},
    {"v1-crashed-4096", 4096, End::crashed},
    {"v1-killed-512", 512, End::killed},
    {"v1-checksums-closed-4096", 4096, End::closed, true},
    {"v1-checksums-killed-512", 512, End::killed, true},
};

}  // namespace

std::span<const GoldenFile> files() { return kFiles; }
std::span<const char* const> directories() { return kDirectories; }
std::span<const GoldenImage> images() { return kImages; }

Status save_sparse(const sim::SimImage& image, uint32_t block_bytes, const std::string& path) {
  std::ofstream out(path, std::ios::binary);
  out << "sparse image " << image.size_bytes() << " " << block_bytes << "\n";
  std::array<std::byte, kSector> sector;
  for (uint64_t at = 0; at < image.size_bytes(); at += kSector) {
    image.read(at, sector);
    if (std::all_of(sector.begin(), sector.end(), [](std::byte b) { return b == std::byte{0}; })) {
      continue;
    }
    le64 number;
    number = at / kSector;
    out.write(reinterpret_cast<const char*>(&number), sizeof number);
    out.write(reinterpret_cast<const char*>(sector.data()), sector.size());
  }
  out.flush();
  return out ? Status() : Status(StatusCode::io_error, path + ": could not be written");
}

Result<sim::SimImage> load_sparse(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::string line, word, second;
  uint64_t size = 0;
  std::getline(in, line);
  std::istringstream(line) >> word >> second >> size;
  if (word != "sparse" || second != "image" || size == 0 || size > kMaxBytes ||
      size % kSector != 0) {
    return error(StatusCode::corruption, path + ": not a sparse image");
  }
  sim::SimImage image(size);
  le64 number;
  std::array<std::byte, kSector> sector;
  while (in.read(reinterpret_cast<char*>(&number), sizeof number)) {
    if (!in.read(reinterpret_cast<char*>(sector.data()), sector.size()) ||
        number >= size / kSector) {
      return error(StatusCode::corruption, path + ": cut short, or a sector outside the disk");
    }
    image.write(uint64_t{number} * kSector, sector);
  }
  return image;
}

}  // namespace basalt::golden
