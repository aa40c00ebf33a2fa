// The stores of the golden images: what is in them, and how an image lies in its file.
//
// An image file holds a line of text with the disk's size and block size, then each sector of 512 B that is
// not all zeros: its number (little-endian, 8 B) and its bytes.
#pragma once

#include <basalt/file_system.h>

#include <cstdint>
#include <ostream>
#include <span>
#include <string>

#include "sim/sim_image.h"

namespace basalt::golden {

struct GoldenFile {
  const char* path;
  FileKind kind;
  uint64_t number;  // of its pattern
  uint64_t length;
};

// What every image holds below its directories.
std::span<const GoldenFile> files();
std::span<const char* const> directories();

// How the last mount of an image ended.
enum class End : uint8_t {
  closed,
  crashed,  // after the last sync: the journal and the open log are to be recovered
  killed,   // after the last flush: the shared-memory tail, images/<name>.tail, is to be replayed
};

// One image: made once by the format version it names, never again.
struct GoldenImage {
  const char* name;  // images/<name>
  uint32_t block_bytes;
  End end;
  bool data_checksums = false;
  friend std::ostream& operator<<(std::ostream& out, const GoldenImage& image) {
    return out << image.name;
  }
};
std::span<const GoldenImage> images();

Status save_sparse(const sim::SimImage& image, uint32_t block_bytes, const std::string& path);
Result<sim::SimImage> load_sparse(const std::string& path);

}  // namespace basalt::golden
