#include "blob/block_io.h"

#include <algorithm>

namespace basalt::blob {
namespace {

Status failed(StatusCode code, Op op, uint64_t block, size_t bytes, std::string_view what) {
  return Status(code, std::string(what) + ": " + std::string(to_string(op)) + " block " +
                          std::to_string(block) + " (" + std::to_string(bytes) +
                          " B): " + std::string(to_string(code)));
}

void prepare(Io& io, Op op, const DeviceInfo& info, uint64_t block, const iovec& vector) {
  const uint64_t scale = kBlockBytes / info.block_size;
  io.op = op;
  io.lba = Lba{block * scale};
  io.block_count = BlockCount{vector.iov_len / info.block_size};
  io.data = {&vector, 1};
}

// `Transfer`: BlockRead or BlockWrite.
template <typename Transfer>
Status run_batch(Channel& channel, const DeviceInfo& info, Op op,
                 std::span<const Transfer> transfers, std::string_view what) {
  constexpr size_t kDepth = 32;
  for (size_t first = 0; first < transfers.size(); first += kDepth) {
    const auto part = transfers.subspan(first, std::min(kDepth, transfers.size() - first));
    iovec vectors[kDepth];
    Io ios[kDepth];
    for (size_t i = 0; i < part.size(); ++i) {
      vectors[i] = {const_cast<std::byte*>(part[i].bytes.data()), part[i].bytes.size()};
      prepare(ios[i], op, info, part[i].block, vectors[i]);
    }
    (void)run_all(channel, {ios, part.size()});
    for (size_t i = 0; i < part.size(); ++i) {
      if (ios[i].status == StatusCode::ok) continue;
      return failed(ios[i].status, op, part[i].block, part[i].bytes.size(), what);
    }
  }
  return {};
}

}  // namespace

Status read_blocks(Channel& channel, const DeviceInfo& info, uint64_t block,
                   std::span<std::byte> bytes, std::string_view what) {
  const iovec vector{bytes.data(), bytes.size()};
  Io io;
  prepare(io, Op::read, info, block, vector);
  const StatusCode code = run(channel, io);
  return code == StatusCode::ok ? Status() : failed(code, Op::read, block, bytes.size(), what);
}

Status write_blocks(Channel& channel, const DeviceInfo& info, uint64_t block,
                    std::span<const std::byte> bytes, IoFlags flags, std::string_view what) {
  const iovec vector{const_cast<std::byte*>(bytes.data()), bytes.size()};
  Io io;
  prepare(io, Op::write, info, block, vector);
  io.flags = flags;
  const StatusCode code = run(channel, io);
  return code == StatusCode::ok ? Status() : failed(code, Op::write, block, bytes.size(), what);
}

Status write_batch(Channel& channel, const DeviceInfo& info, std::span<const BlockWrite> writes,
                   std::string_view what) {
  return run_batch(channel, info, Op::write, writes, what);
}

Status read_batch(Channel& channel, const DeviceInfo& info, std::span<const BlockRead> reads,
                  std::string_view what) {
  return run_batch(channel, info, Op::read, reads, what);
}

Status flush_device(Channel& channel, std::string_view what) {
  Io io;
  io.op = Op::flush;
  const StatusCode code = run(channel, io);
  if (code == StatusCode::ok) return {};
  return Status(code, std::string(what) + ": flush: " + std::string(to_string(code)));
}

StatusCode run_all(Channel& channel, std::span<Io> ios) {
  size_t remaining = ios.size();
  for (Io& io : ios) {
    io.user = &remaining;
    io.done = [](Io& done) { --*static_cast<size_t*>(done.user); };
    channel.submit(io);
  }
  while (remaining > 0) channel.wait(Duration::max(), static_cast<unsigned>(remaining));
  for (const Io& io : ios) {
    if (io.status != StatusCode::ok) return io.status;
  }
  return StatusCode::ok;
}

}  // namespace basalt::blob
