// PollGroup: what one reactor holds for the target: memory for data, channels to devices, and the queues served there.
//
// Threads: the reactor's.
#pragma once

#include <basalt/context.h>

#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "reactor/reactor.h"
#include "targets/nvmf/buffer_pool.h"
#include "targets/nvmf/device_channel.h"
#include "targets/nvmf/fence.h"
#include "targets/nvmf/namespace.h"
#include "targets/nvmf/reservation_state.h"

namespace basalt::nvmf {

class Queue;
class Subsystem;
class Transport;

// What was done on a device. Latencies are the channels': from submission to the poll that completes, without errors.
struct DeviceTotals {
  uint64_t reads = 0, read_bytes = 0;
  uint64_t writes = 0, written_bytes = 0;
  uint64_t discards = 0, flushes = 0, errors = 0;
  uint64_t outstanding = 0;
  LatencyHistogram read_latency, write_latency, flush_latency;
  void add(const ChannelStats& stats);
  void add(const DeviceTotals& other);
};

// What a group has had and has. Admin and I/O queues that are connected, at present and since the beginning.
struct GroupState {
  std::string reactor;
  size_t admin_queues = 0, io_queues = 0;
  uint64_t all_admin_queues = 0, all_io_queues = 0;
  size_t outstanding = 0;    // commands at devices
  uint64_t io_commands = 0;  // of hosts that were answered
};

class PollGroup final : Reactor::Poller {
 public:
  // `index`: which of the target's it is.
  PollGroup(Context& context, Reactor& reactor, size_t index, size_t buffer_bytes);
  ~PollGroup();
  PollGroup(const PollGroup&) = delete;

  Context& context() { return context_; }
  Reactor& reactor() { return reactor_; }
  BufferPool& buffers() { return buffers_; }

  // The reactor's channel to the device, opened if there is none yet. Null: it cannot be opened, which is logged.
  DeviceChannel* channel(const std::shared_ptr<Device>& device);
  void add(Queue& queue) { queues_.push_back(&queue); }
  void remove(Queue& queue);
  // The subsystem's namespaces have changed: its queues take the new ones, and channels nobody needs are closed.
  void refresh(const Subsystem& subsystem);
  // As Queue::abort_preempted(), for each of its queues.
  void abort_preempted(const Subsystem& subsystem, uint32_t nsid,
                       const std::vector<HostIdentity>& hosts, const Fence::Pass& pass);
  // Whether there is no channel to the device any more that no queue needs.
  bool lets_go_of(const Device& device);
  // Closes channels that no queue's namespaces need and that have nothing outstanding.
  void drop_unused_channels();
  // The group's of the namespace. They stay while a command refers to them, even when the namespace is no more.
  IoCounters& counters(const Namespace& space);
  void count_connected(const Queue& queue);
  void count_completed() noexcept { ++io_commands_; }
  GroupState state() const;
  // Since the beginning, channels that are closed included; until forget() is told that the device has gone.
  DeviceTotals totals(const Device& device) const;
  std::map<const Device*, DeviceTotals> all_totals() const;
  void forget(const Device& device) { closed_.erase(&device); }

  // Its flush() is called once before the reactor sleeps or looks at sockets again.
  void send_soon(Transport& transport) { to_flush_.push_back(&transport); }
  // Its retry() is called when a buffer has been given back.
  void wait_for_buffer(Transport& transport) { starved_.push_back(&transport); }
  void give_buffer(std::span<std::byte> buffer) noexcept;
  // Neither is called any more.
  void forget(Transport& transport);

 private:
  unsigned poll() noexcept override;
  bool arm() noexcept override;
  bool is_needed(const DeviceChannel& channel) const;
  void drop_unused_counters();

  Context& context_;
  Reactor& reactor_;
  const size_t index_;
  BufferPool buffers_;
  std::vector<std::unique_ptr<DeviceChannel>> channels_;
  std::map<const Device*, DeviceTotals> closed_;            // of channels that are closed
  std::vector<std::shared_ptr<ReactorCounters>> counters_;  // of namespaces that its queues have
  uint64_t all_admin_queues_ = 0, all_io_queues_ = 0, io_commands_ = 0;
  std::vector<Queue*> queues_;
  std::vector<Transport*> to_flush_, flushing_;
  std::vector<Transport*> starved_;
  bool has_buffers_again_ = false;
};

}  // namespace basalt::nvmf
