#include "memory_disk.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <deque>
#include <random>

namespace basalt {

class MemoryChannel final : public Channel {
 public:
  explicit MemoryChannel(MemoryDisk& disk) : disk_(disk) {}
  void submit(Io& io) noexcept override { queue_.push_back(&io); }
  unsigned poll() noexcept override {
    unsigned count = 0;
    for (size_t n = queue_.size(); n > 0; --n, ++count) {
      Io& io = *queue_.front();
      queue_.pop_front();
      io.status = disk_.execute(io);
      ++stats_.ops[static_cast<unsigned>(io.op)];
      const uint64_t bytes = io.block_count.value * disk_.options().block_bytes;
      if (io.op == Op::read) stats_.read_bytes += bytes;
      if (io.op == Op::write) stats_.written_bytes += bytes;
      io.done(io);
    }
    return count;
  }
  unsigned wait(Duration, unsigned) noexcept override { return poll(); }
  int wait_fd() noexcept override { return -1; }
  void arm() noexcept override {}
  void cancel(Io& io) noexcept override {
    for (auto at = queue_.begin(); at != queue_.end(); ++at) {
      if (*at != &io) continue;
      queue_.erase(at);
      io.status = StatusCode::canceled;
      canceled_.push_back(&io);
      break;
    }
    // done() runs from poll(), so the canceled command is put back as a flush of nothing.
    for (Io* one : canceled_) queue_.push_back(one);
    canceled_.clear();
  }
  const ChannelStats& stats() noexcept override { return stats_; }

 private:
  MemoryDisk& disk_;
  std::deque<Io*> queue_;
  std::vector<Io*> canceled_;
  ChannelStats stats_;
};

namespace {

class MemoryDevice final : public Device {
 public:
  MemoryDevice(MemoryDisk& disk, DeviceInfo info) : disk_(disk), info_(std::move(info)) {}
  const DeviceInfo& info() const override { return info_; }
  Result<std::unique_ptr<Channel>> open_channel() override {
    return std::unique_ptr<Channel>(new MemoryChannel(disk_));
  }
  Result<Claim> claim(ClaimMode, std::string_view) override { return Claim(*this, 1); }
  void release_claim(uint64_t) override {}
  void add_listener(DeviceListener&) override {}
  void remove_listener(DeviceListener&) override {}

 private:
  MemoryDisk& disk_;
  DeviceInfo info_;
};

}  // namespace

MemoryDisk::MemoryDisk(const MemoryDiskOptions& options)
    : options_(options), blocks_(options.bytes / options.block_bytes) {
  map_bytes_ = 2 * options.bytes + blocks_ + 8192;
  void* map =
      ::mmap(nullptr, map_bytes_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (map == MAP_FAILED) std::abort();
  contents_ = static_cast<std::byte*>(map);
  stable_ = contents_ + options.bytes;
  dirty_ = stable_ + options.bytes;
  const auto end = reinterpret_cast<uintptr_t>(dirty_ + blocks_);
  counters_ = reinterpret_cast<Counters*>((end + 63) / 64 * 64);
}

MemoryDisk::~MemoryDisk() { ::munmap(contents_, map_bytes_); }

std::unique_ptr<Device> MemoryDisk::open() {
  DeviceInfo info;
  info.uri = "memory-disk";
  info.block_size = options_.block_bytes;
  info.block_count = BlockCount{blocks_};
  info.volatile_write_cache = true;
  info.atomic_write_blocks = options_.atomic_blocks;
  info.max_transfer_blocks = static_cast<uint32_t>((1u << 20) / options_.block_bytes);
  info.max_iovecs = 64;
  info.native = {Op::read, Op::write, Op::flush};
  info.supported = info.native;
  return std::make_unique<MemoryDevice>(*this, std::move(info));
}

void MemoryDisk::make_stable(uint64_t block) {
  if (dirty_[block] == std::byte{0}) return;
  const uint64_t at = block * options_.block_bytes;
  std::memcpy(stable_ + at, contents_ + at, options_.block_bytes);
  dirty_[block] = std::byte{0};
}

StatusCode MemoryDisk::execute(Io& io) {
  if (io.status == StatusCode::canceled) return StatusCode::canceled;
  const std::lock_guard lock(mutex_);
  const uint64_t unit = options_.block_bytes;
  if (io.op == Op::flush || io.op == Op::write) {
    if (fail_ && fail_(io)) return StatusCode::io_error;
  }
  if (io.op == Op::read && fail_reads_.load()) return StatusCode::io_error;
  if (io.op == Op::flush) {
    ++counters_->flushes;
    for (uint64_t block = 0; block < blocks_; ++block) make_stable(block);
    return StatusCode::ok;
  }
  if (io.op != Op::read && io.op != Op::write) return StatusCode::unsupported;
  const uint64_t end = io.lba.value + io.block_count.value;
  if (end > blocks_) return StatusCode::out_of_range;
  ++(io.op == Op::read ? counters_->reads : counters_->writes);
  std::byte* at = contents_ + io.lba.value * unit;
  for (const iovec& piece : io.data) {
    if (io.op == Op::read) {
      std::memcpy(piece.iov_base, at, piece.iov_len);
    } else {
      std::memcpy(at, piece.iov_base, piece.iov_len);
    }
    at += piece.iov_len;
  }
  if (at != contents_ + end * unit) return StatusCode::invalid_argument;
  if (io.op == Op::read) return StatusCode::ok;
  counters_->written_bytes += io.block_count.value * unit;
  counters_->fua_writes += io.flags.fua ? 1 : 0;
  for (uint64_t block = io.lba.value; block < end; ++block) {
    dirty_[block] = std::byte{1};
    if (io.flags.fua) make_stable(block);
  }
  return StatusCode::ok;
}

void MemoryDisk::power_cut() {
  const std::lock_guard lock(mutex_);
  for (uint64_t block = 0; block < blocks_; ++block) dirty_[block] = std::byte{0};
  std::memcpy(contents_, stable_, options_.bytes);
}

void MemoryDisk::power_cut(uint64_t seed) {
  std::mt19937_64 random(seed);
  {
    const std::lock_guard lock(mutex_);
    for (uint64_t block = 0; block < blocks_; ++block) {
      if (dirty_[block] != std::byte{0} && random() % 2 == 0) make_stable(block);
    }
  }
  power_cut();
}

MemoryDisk::Counters MemoryDisk::counters() {
  const std::lock_guard lock(mutex_);
  return *counters_;
}

void MemoryDisk::fail_if(std::function<bool(const Io&)> predicate) {
  const std::lock_guard lock(mutex_);
  fail_ = std::move(predicate);
}

void MemoryDisk::damage(uint64_t offset, size_t length) {
  const std::lock_guard lock(mutex_);
  for (uint64_t at = offset; at < offset + length; ++at) {
    contents_[at] ^= std::byte{0x5a};
    stable_[at] = contents_[at];
  }
}

}  // namespace basalt
