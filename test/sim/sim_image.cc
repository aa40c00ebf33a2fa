// SimImage: chunk arithmetic and file copies; see sim_image.h.
#include "sim/sim_image.h"

#include "base/check.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

namespace basalt::sim {
namespace {

struct FileCloser {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using FileHandle = std::unique_ptr<std::FILE, FileCloser>;

Status file_error(const std::string& path, const char* what) {
  return Status(StatusCode::io_error, path + ": " + what + ": " + std::strerror(errno));
}

}  // namespace

SimImage::SimImage(uint64_t size_bytes)
    : size_bytes_(size_bytes), chunks_((size_bytes + kChunkBytes - 1) / kChunkBytes) {}

void SimImage::read(uint64_t offset, std::span<std::byte> out) const {
  BASALT_CHECK(offset + out.size() <= size_bytes_, "read inside the image");
  while (!out.empty()) {
    const uint64_t within = offset % kChunkBytes;
    const size_t length = std::min<uint64_t>(kChunkBytes - within, out.size());
    if (const auto& chunk = chunks_[offset / kChunkBytes]) {
      std::memcpy(out.data(), chunk->data() + within, length);
    } else {
      std::memset(out.data(), 0, length);
    }
    offset += length;
    out = out.subspan(length);
  }
}

SimImage::Chunk& SimImage::writable_chunk(uint64_t index) {
  std::shared_ptr<Chunk>& chunk = chunks_[index];
  if (!chunk) {
    chunk = std::make_shared<Chunk>();
    chunk->fill(std::byte{0});
  } else if (chunk.use_count() > 1) {
    chunk = std::make_shared<Chunk>(*chunk);
  }
  return *chunk;
}

void SimImage::write(uint64_t offset, std::span<const std::byte> bytes) {
  BASALT_CHECK(offset + bytes.size() <= size_bytes_, "write inside the image");
  while (!bytes.empty()) {
    const uint64_t within = offset % kChunkBytes;
    const size_t length = std::min<uint64_t>(kChunkBytes - within, bytes.size());
    std::memcpy(writable_chunk(offset / kChunkBytes).data() + within, bytes.data(), length);
    offset += length;
    bytes = bytes.subspan(length);
  }
}

Status SimImage::save(const std::string& path) const {
  const FileHandle file(std::fopen(path.c_str(), "wb"));
  if (!file) return file_error(path, "create");
  std::vector<std::byte> buffer(kChunkBytes);
  for (uint64_t offset = 0; offset < size_bytes_; offset += kChunkBytes) {
    const std::span<std::byte> part(buffer.data(), std::min(kChunkBytes, size_bytes_ - offset));
    read(offset, part);
    if (std::fwrite(part.data(), 1, part.size(), file.get()) != part.size()) {
      return file_error(path, "write");
    }
  }
  if (std::fflush(file.get()) != 0) return file_error(path, "write");
  return {};
}

Result<SimImage> SimImage::load(const std::string& path) {
  const FileHandle file(std::fopen(path.c_str(), "rb"));
  if (!file) return error(file_error(path, "open"));
  if (std::fseek(file.get(), 0, SEEK_END) != 0) return error(file_error(path, "seek"));
  const long size = std::ftell(file.get());
  if (size < 0) return error(file_error(path, "tell"));
  std::rewind(file.get());
  SimImage image(static_cast<uint64_t>(size));
  std::vector<std::byte> buffer(kChunkBytes);
  for (uint64_t offset = 0; offset < image.size_bytes(); offset += kChunkBytes) {
    const std::span<std::byte> part(buffer.data(),
                                    std::min(kChunkBytes, image.size_bytes() - offset));
    if (std::fread(part.data(), 1, part.size(), file.get()) != part.size()) {
      return error(file_error(path, "read"));
    }
    image.write(offset, part);
  }
  return image;
}

bool operator==(const SimImage& a, const SimImage& b) {
  if (a.size_bytes_ != b.size_bytes_) return false;
  std::vector<std::byte> x(SimImage::kChunkBytes), y(SimImage::kChunkBytes);
  for (uint64_t i = 0; i < a.chunks_.size(); ++i) {
    if (a.chunks_[i] == b.chunks_[i]) continue;
    const uint64_t offset = i * SimImage::kChunkBytes;
    const size_t length = std::min(SimImage::kChunkBytes, a.size_bytes_ - offset);
    a.read(offset, std::span(x.data(), length));
    b.read(offset, std::span(y.data(), length));
    if (std::memcmp(x.data(), y.data(), length) != 0) return false;
  }
  return true;
}

}  // namespace basalt::sim
