// MemoryMap: the memory that devices may reach by themselves (DMA, registered buffers, guest
// memory).
//
// A region is registered once per Context, by its owner, and then applies to every present and
// future leaf device: each leaf device listens, and maps what it is told of (IOMMU, io_uring
// buffers, …). Nobody's memory is registered behind their back; what is not registered is bounced
// where it must be.
//
// Looking an address up is lock-free and happens inside an I/O's "use": MemoryUser::enter() when a
// command starts, leave() when it has completed. Unregistering first makes the region unfindable,
// then waits until every command that may have found it has left (two grace periods, as in
// sleepable RCU), then tells the listeners, then returns. Thread rules: MemoryMap members may be
// called from any thread; a MemoryUser belongs to one channel and is used by that channel's thread.
// unregister() must not be called by a thread that alone could poll the I/O it waits for.
#pragma once

#include <basalt/context.h>
#include <basalt/status.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/sync.h"

namespace basalt {

// One registered piece of memory. `index` is below MemoryMap::kMaxRegions and is this region's
// alone while it is registered, so a listener can keep what it knows of a region in an array.
struct MemoryRegion {
  std::byte* base = nullptr;
  size_t bytes = 0;
  int fd = -1;             // the memfd behind it, for sharing; -1: none
  uint64_t fd_offset = 0;  // where in `fd` the region starts
  uint32_t index = 0;
};

// A leaf device (or channel) that maps regions. Called with the map's lock held: must not call
// back.
class MemoryListener {
 public:
  virtual ~MemoryListener() = default;
  // Before the region can be found. A device that cannot map it must cope when find() names it.
  virtual void region_added(const MemoryRegion& region) = 0;
  // After the last command that may have found it has completed.
  virtual void region_removed(const MemoryRegion& region) = 0;
};

class MemoryMap;

// What a channel holds to look memory up. At most one thread at a time.
class MemoryUser {
 public:
  explicit MemoryUser(MemoryMap& map);
  ~MemoryUser();
  MemoryUser(const MemoryUser&) = delete;
  MemoryUser& operator=(const MemoryUser&) = delete;

  // Begins one command's use of memory; hand the answer to leave() when the command has completed.
  unsigned enter() noexcept;
  void leave(unsigned phase) noexcept;

 private:
  friend class MemoryMap;
  MemoryMap& map_;
  std::array<std::atomic<uint32_t>, 2> inside_{};  // commands inside, by phase
};

class MemoryMap {
 public:
  static constexpr uint32_t kMaxRegions = 256;
  static constexpr uint32_t kNotFound = ~uint32_t{0};

  explicit MemoryMap(Clock& clock) : clock_(clock) {}
  ~MemoryMap();
  MemoryMap(const MemoryMap&) = delete;
  MemoryMap& operator=(const MemoryMap&) = delete;

  // Registers memory that its owner keeps mapped until unregister_region(). Answers its index.
  // Errors: invalid_argument (empty), already_exists (overlaps a region), no_space (table full).
  Result<uint32_t> register_region(std::span<std::byte> memory, int fd = -1,
                                   uint64_t fd_offset = 0);
  // Waits for the I/O that uses the region. After timed_out the region is registered as before.
  Status unregister_region(uint32_t index, Duration timeout = std::chrono::seconds(60));

  // Tells the listener of all present regions at once, and of later ones as they come.
  void add_listener(MemoryListener& listener);
  // Tells the listener that all present regions are removed, then forgets it.
  void remove_listener(MemoryListener& listener);

  // The index of the region holding all of [address, address + bytes), or kNotFound. Lock-free;
  // between a MemoryUser's enter() and leave() the region found stays registered.
  uint32_t find(const void* address, size_t bytes) const noexcept;
  // The registered regions, for messages and tests.
  std::vector<MemoryRegion> regions() const;

 private:
  friend class MemoryUser;
  // What find() reads; begin == end: free, or on its way out.
  struct Entry {
    std::atomic<uintptr_t> begin{0};
    std::atomic<uintptr_t> end{0};
  };
  struct Slot {
    MemoryRegion region;
    bool used = false;
  };

  void publish(uint32_t index) noexcept;
  void hide(uint32_t index) noexcept;
  bool wait_for_users(Duration deadline);

  Clock& clock_;
  mutable Mutex mutex_;  // protects slots_, listeners_
  std::array<Slot, kMaxRegions> slots_;
  std::vector<MemoryListener*> listeners_;
  Mutex unregister_mutex_;  // one unregistering at a time; taken before users_mutex_ and mutex_
  Mutex users_mutex_;       // protects users_
  std::vector<MemoryUser*> users_;
  std::array<Entry, kMaxRegions> entries_;
  std::atomic<uint32_t> high_water_{0};  // entries at and above were never used
  std::atomic<uint32_t> phase_{0};       // which counter entering commands use: phase & 1
};

}  // namespace basalt
