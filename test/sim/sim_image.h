// SimImage: the bytes of a simulated disk, in RAM, cheap to copy.
//
// The image is a vector of 64 KiB chunks that copies share until one of them is written; a missing chunk
// reads as zeros. Copying an image therefore costs a pointer per chunk, so that a crash test can take
// thousands of them. Not synchronised: the owner locks, and images that share chunks are not written by
// two threads at once.
#pragma once

#include <basalt/status.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace basalt::sim {

class SimImage {
 public:
  static constexpr uint64_t kChunkBytes = 64 * 1024;

  explicit SimImage(uint64_t size_bytes);
  uint64_t size_bytes() const { return size_bytes_; }

  // False: the chunk with this byte was never written and reads as zeros.
  bool has_bytes_at(uint64_t offset) const { return chunks_[offset / kChunkBytes] != nullptr; }
  void read(uint64_t offset, std::span<std::byte> out) const;
  void write(uint64_t offset, std::span<const std::byte> bytes);

  // The whole image as a plain file; load() takes the file's size.
  Status save(const std::string& path) const;
  static Result<SimImage> load(const std::string& path);

  friend bool operator==(const SimImage& a, const SimImage& b);

 private:
  using Chunk = std::array<std::byte, kChunkBytes>;
  Chunk& writable_chunk(uint64_t index);

  uint64_t size_bytes_;
  std::vector<std::shared_ptr<Chunk>> chunks_;
};

}  // namespace basalt::sim
