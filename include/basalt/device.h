// The one block contract: Device, Channel, Io.
//
// A Device describes a block device and opens Channels. A Channel is a queue pair: submit() queues an
// Io, poll() sends everything queued at once and completes what has finished, wait() sleeps until
// something completes. An Io is owned by the caller and borrowed by the channel from submit() until
// its `done` runs.
//
//   auto device = basalt::open_device(context, "ram:64M");
//   auto channel = (*device)->open_channel();
//   iovec buffer{data, 4096};
//   basalt::Io io;
//   io.op = basalt::Op::write;
//   io.lba = basalt::Lba{0};
//   io.block_count = basalt::BlockCount{8};
//   io.data = {&buffer, 1};
//   basalt::StatusCode code = basalt::run(**channel, io);   // submit and wait, for control paths
//
// Rules every device keeps:
// - submit() neither fails nor blocks; what is wrong with an Io is told by its completion.
// - done() runs exactly once per submit, from poll() or wait(), never inside submit(). It may submit,
//   and may reuse its own Io; it must not poll or wait.
// - A flush covers every write completed on any channel before the flush was submitted.
// - An Io completes within DeviceInfo::completion_bound, also when the device disappears.
// - Nothing is allocated per Io.
// Thread rules: a Channel is used by one thread at a time (it may move between threads); Device
// members may be called from any thread. Channels are destroyed before their Device, with no Io
// outstanding.
#pragma once

#include <basalt/context.h>
#include <basalt/status.h>
#include <basalt/units.h>
#include <sys/uio.h>

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace basalt {

enum class Op : uint8_t {
  read,
  write,
  write_zeroes,
  discard,            // contents become undefined; never relied on for zeros
  flush,              // lba and block_count are ignored
  compare,            // status miscompare when the bytes differ
  compare_and_write,  // data: block_count blocks expected, then block_count blocks new; atomic per Io
  copy,               // from copy_source to lba
  zone_report,
  zone_management,
  zone_append,
  reset,
};
inline constexpr unsigned kOpCount = 12;
std::string_view to_string(Op op);

// A set of operations.
class OpSet {
 public:
  constexpr OpSet() = default;
  constexpr OpSet(std::initializer_list<Op> ops) {
    for (Op op : ops) bits_ |= bit(op);
  }
  constexpr bool has(Op op) const { return (bits_ & bit(op)) != 0; }
  constexpr OpSet operator|(OpSet other) const {
    OpSet result = *this;
    result.bits_ |= other.bits_;
    return result;
  }
  constexpr OpSet operator&(OpSet other) const {
    OpSet result = *this;
    result.bits_ &= other.bits_;
    return result;
  }

 private:
  static constexpr uint32_t bit(Op op) { return uint32_t{1} << static_cast<unsigned>(op); }
  uint32_t bits_ = 0;
};

struct IoFlags {
  bool fua = false;            // the write is durable when done() runs
  bool no_deallocate = false;  // write_zeroes must keep the blocks allocated
};

class Channel;

struct Io {
  // Set by the caller before submit(); unchanged by the channel.
  Op op = Op::read;
  IoFlags flags;
  uint8_t priority = 0;  // 0 is normal; higher is more urgent; a hint
  uint8_t lifetime = 0;  // expected data life time, 0 unknown … 5 longest; a hint
  uint32_t tenant = 0;   // accounting tag for QoS and metering
  Lba lba;
  BlockCount block_count;
  std::span<const iovec> data;  // total length = block_count × block_size (see Op for exceptions)
  std::span<const iovec>
      metadata;     // per-block metadata; empty unless the device has a format for it
  Lba copy_source;  // Op::copy only
  void (*done)(Io& io) = nullptr;
  void* user = nullptr;

  // Valid from done() until the next submit().
  StatusCode status = StatusCode::ok;
  uint64_t result = 0;  // zone_append: the block written; else the number of blocks transferred

  // The channel's while it borrows the Io.
  Io* next = nullptr;
  void* channel_data = nullptr;
  uint64_t channel_word = 0;
  uint64_t submit_tick = 0;
};

// What a device is and can do. Constant while the device is open, except through events.
struct DeviceInfo {
  std::string uri;          // canonical, as the device was opened
  uint32_t block_size = 0;  // bytes; a power of two, 512 … 65536
  BlockCount block_count;
  bool read_only = false;
  bool volatile_write_cache = false;  // writes need flush or FUA to survive power loss
  bool persistent = true;             // false: contents go when the process or the machine does
  uint32_t atomic_write_blocks = 1;   // power-fail write atomicity, in blocks, at least 1
  uint32_t max_transfer_blocks = 0;   // largest native command; the core splits what is larger
  // Largest compare_and_write of a device that does it itself, which is one command: what is larger is refused, as
  // too_large. 0: as max_transfer_blocks.
  uint32_t max_compare_and_write_blocks = 0;
  uint32_t max_iovecs = 0;        // per native command
  uint32_t memory_alignment = 1;  // of each iovec's base, and of its length up to a block's; the
                                  // core bounces the rest
  bool needs_registered_memory = false;
  uint32_t optimal_io_blocks = 0;     // 0: no preference
  uint32_t metadata_bytes = 0;        // per block, 0: none
  uint64_t zone_blocks = 0;           // 0: not zoned
  uint32_t numa_node = ~uint32_t{0};  // all ones: unknown
  OpSet native;                       // done by the device itself
  OpSet supported;                    // native, or emulated by the core
  Duration completion_bound = std::chrono::seconds(60);
};

struct LatencyHistogram {
  // Four buckets per power of two, from 16 ns to 69 s; the first also counts what was faster.
  static constexpr unsigned kBuckets = 128;
  std::array<uint64_t, kBuckets> buckets{};
  void add(uint64_t nanoseconds, uint64_t count = 1);
  // The value below which `fraction` (0 … 1) of the samples lie, in nanoseconds; 0 without samples.
  uint64_t percentile(double fraction) const;
  uint64_t count() const;
};

struct ChannelStats {
  std::array<uint64_t, kOpCount> ops{};     // completed, by Op
  std::array<uint64_t, kOpCount> errors{};  // of those, not ok
  uint64_t read_bytes = 0;
  uint64_t written_bytes = 0;
  uint64_t bounced = 0;   // Ios whose buffers had to be copied
  uint64_t split = 0;     // Ios sent as more than one native command
  uint64_t emulated = 0;  // Ios the core built from other operations
  uint64_t outstanding = 0;
  LatencyHistogram read_latency;
  LatencyHistogram write_latency;
  LatencyHistogram flush_latency;
};

// A queue pair. submit() does the checks every device shares (bounds, alignment, buffer length),
// splits, bounces and emulates where the device needs it, and hands native commands on.
class Channel {
 public:
  virtual ~Channel() = default;
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;

  // Queues `io`; see the rules at the head.
  virtual void submit(Io& io) noexcept = 0;
  // Sends what is queued, completes what has finished; returns how many Ios completed. Never sleeps.
  virtual unsigned poll() noexcept = 0;
  // poll(), then, if nothing completed, sleeps until something does or `timeout` passes. A caller who has
  // no use for fewer than `wanted` completions says so: he may then be woken less often.
  virtual unsigned wait(Duration timeout, unsigned wanted = 1) noexcept = 0;
  // For event loops: a descriptor that becomes readable when poll() has work. Use: arm(), poll() once
  // more, and only then sleep on it. -1 where the device completes only from poll() (ram:, null:).
  virtual int wait_fd() noexcept = 0;
  virtual void arm() noexcept = 0;
  // Best effort: the Io completes with `canceled` if it could be taken back, else as it would have.
  virtual void cancel(Io& io) noexcept = 0;
  // A copy taken by the thread that uses the channel.
  virtual const ChannelStats& stats() noexcept = 0;

 protected:
  Channel() = default;
};

enum class ClaimMode : uint8_t {
  exclusive_writer,  // nobody else writes or claims
  shared_writer,     // others may hold shared_writer too
  read_only,         // no writer may claim
};

class Device;

// Held while a store, a file system or an export uses a device; released by destruction.
class Claim {
 public:
  Claim() = default;
  Claim(Device& device, uint64_t token) : device_(&device), token_(token) {}
  Claim(Claim&& other) noexcept;
  Claim& operator=(Claim&& other) noexcept;
  ~Claim();

 private:
  Device* device_ = nullptr;
  uint64_t token_ = 0;
};

enum class DeviceEvent : uint8_t { resized, removed, returned, limits_changed };

// Told of events from any thread; must not block nor call back into the device.
class DeviceListener {
 public:
  virtual ~DeviceListener() = default;
  virtual void on_event(Device& device, DeviceEvent event) = 0;
};

class Device {
 public:
  virtual ~Device() = default;
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  virtual const DeviceInfo& info() const = 0;
  virtual Result<std::unique_ptr<Channel>> open_channel() = 0;
  // busy, naming the present holder, when `mode` conflicts. `owner` is for messages.
  virtual Result<Claim> claim(ClaimMode mode, std::string_view owner) = 0;
  virtual void release_claim(uint64_t token) = 0;
  virtual void add_listener(DeviceListener& listener) = 0;
  virtual void remove_listener(DeviceListener& listener) = 0;

 protected:
  Device() = default;
};

enum class OpenMode : uint8_t { read_write, read_only };

struct DeviceOpenOptions {
  OpenMode mode = OpenMode::read_write;
  // How long to wait for a killed owner's last writes to drain before saying "in use".
  Duration lock_timeout = std::chrono::seconds(5);
  // False: what is missing, empty or too small is an error, even if the URI says how large to make it (size=, grow=1). For who
  // expects to find what was there before.
  bool may_create = true;
};

// Opens a device URI ("file:/path?size=64G", "ram:4G", …; grammar in docs/ARCHITECTURE.md). Opening
// for writing takes the operating system's lock on the file or block device; `busy` names the holder.
Result<std::unique_ptr<Device>> open_device(Context& context, std::string_view uri,
                                            const DeviceOpenOptions& options = {});

// Submits `io` and waits for it, for control paths: sets io.done and io.user, returns io.status.
StatusCode run(Channel& channel, Io& io);

}  // namespace basalt
