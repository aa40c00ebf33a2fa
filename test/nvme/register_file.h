// RegisterFile: the simplest ServedDevice. 4 KiB of registers that keep what is written, doorbells in a memfd,
// the client's memory where it can be looked at, and vectors that a test can signal.
// Thread rules: the server's thread calls the overrides; the rest is for any thread.
#pragma once

#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <map>

#include "base/check.h"
#include "nvme/vfio_user_server.h"
#include "wire/nvme/registers.h"

namespace basalt::nvme {

class RegisterFile final : public ServedDevice {
 public:
  static constexpr size_t kDoorbellBytes = 4096;

  explicit RegisterFile(uint16_t vectors = 20, bool share_doorbells = true) : vectors_(vectors) {
    fd_ = UniqueFd(memfd_create("doorbells", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    BASALT_CHECK(ftruncate(fd_.get(), kFirstDoorbell + kDoorbellBytes) == 0, "memfd");
    void* base = mmap(nullptr, kDoorbellBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get(),
                      kFirstDoorbell);
    BASALT_CHECK(base != MAP_FAILED, "mmap");
    doorbells_ = static_cast<volatile uint32_t*>(base);
    shared_ = share_doorbells;
  }
  ~RegisterFile() override { munmap(const_cast<uint32_t*>(doorbells_), kDoorbellBytes); }

  // ---- For tests
  int file() const { return fd_.get(); }
  uint32_t doorbell(size_t index) const { return doorbells_[index]; }
  void set_doorbell(size_t index, uint32_t value) { doorbells_[index] = value; }
  // The client's memory at `iova`; empty: none is mapped there.
  std::span<std::byte> find(uint64_t iova) const {
    MutexLock lock(mutex_);
    const auto at = mappings_.find(iova);
    return at == mappings_.end() ? std::span<std::byte>() : at->second;
  }
  size_t mapping_count() const {
    MutexLock lock(mutex_);
    return mappings_.size();
  }
  // Whether there was an eventfd to write to.
  bool signal(uint16_t vector) {
    MutexLock lock(mutex_);
    const auto at = event_fds_.find(vector);
    return at != event_fds_.end() && eventfd_write(at->second, 1) == 0;
  }
  std::atomic<bool> bus_master{false};
  std::atomic<unsigned> resets{0};

  // ---- ServedDevice
  uint64_t read_register(uint32_t offset, uint32_t bytes) override {
    MutexLock lock(mutex_);
    uint64_t value = 0;
    std::memcpy(&value, place(offset), bytes);
    return value;
  }
  void write_register(uint32_t offset, uint32_t bytes, uint64_t value) override {
    MutexLock lock(mutex_);
    std::memcpy(place(offset), &value, bytes);
  }
  int doorbell_fd() const override { return shared_ ? fd_.get() : -1; }
  Status map(uint64_t iova, std::span<std::byte> memory) override {
    MutexLock lock(mutex_);
    const auto next = mappings_.upper_bound(iova);
    if (next != mappings_.end() && next->first - iova < memory.size()) return taken();
    if (next != mappings_.begin()) {
      const auto& [start, before] = *std::prev(next);
      if (iova - start < before.size()) return taken();
    }
    mappings_.emplace(iova, memory);
    return {};
  }
  Status unmap(uint64_t iova, size_t) override {
    MutexLock lock(mutex_);
    return mappings_.erase(iova) == 1 ? Status() : Status(StatusCode::not_found, "iova");
  }
  uint16_t interrupt_count() const override { return vectors_; }
  void set_interrupt(uint16_t vector, int event_fd) override {
    MutexLock lock(mutex_);
    event_fds_.erase(vector);
    if (event_fd >= 0) event_fds_.emplace(vector, event_fd);
  }
  void set_bus_master(bool on) override { bus_master = on; }
  void reset() override {
    ++resets;
    bus_master = false;
    MutexLock lock(mutex_);
    registers_.fill(std::byte{0});
  }

 private:
  static Status taken() { return Status(StatusCode::already_exists, "iova"); }
  void* place(uint32_t offset) {
    if (offset < kFirstDoorbell) return registers_.data() + offset;
    return reinterpret_cast<std::byte*>(const_cast<uint32_t*>(doorbells_)) +
           (offset - kFirstDoorbell);
  }

  const uint16_t vectors_;
  UniqueFd fd_;
  volatile uint32_t* doorbells_ = nullptr;
  bool shared_ = true;
  mutable Mutex mutex_;  // protects what follows
  std::array<std::byte, kFirstDoorbell> registers_{};
  std::map<uint64_t, std::span<std::byte>> mappings_;
  std::map<uint16_t, int> event_fds_;
};

}  // namespace basalt::nvme
