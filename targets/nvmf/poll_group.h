// PollGroup: what one reactor holds for the target: memory for data, channels to devices, and the queues served there.
//
// Threads: the reactor's.
#pragma once

#include <basalt/context.h>

#include <map>
#include <memory>
#include <span>
#include <vector>

#include "reactor/reactor.h"
#include "targets/nvmf/buffer_pool.h"
#include "targets/nvmf/device_channel.h"
#include "targets/nvmf/fence.h"
#include "targets/nvmf/reservation_state.h"

namespace basalt::nvmf {

class Queue;
class Subsystem;
class Transport;

// What was done on a device, by its number of commands and bytes.
struct DeviceTotals {
  uint64_t reads = 0, read_bytes = 0;
  uint64_t writes = 0, written_bytes = 0;
  uint64_t discards = 0, flushes = 0, errors = 0;
  void add(const ChannelStats& stats);
  void add(const DeviceTotals& other);
};

class PollGroup final : Reactor::Poller {
 public:
  PollGroup(Context& context, Reactor& reactor, size_t buffer_bytes);
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
  size_t queue_count() const { return queues_.size(); }
  size_t admin_queue_count() const;
  // Since the beginning, channels that are closed included; until forget() is told that the device has gone.
  DeviceTotals totals(const Device& device) const;
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

  Context& context_;
  Reactor& reactor_;
  BufferPool buffers_;
  std::vector<std::unique_ptr<DeviceChannel>> channels_;
  std::map<const Device*, DeviceTotals> closed_;  // of channels that are closed
  std::vector<Queue*> queues_;
  std::vector<Transport*> to_flush_, flushing_;
  std::vector<Transport*> starved_;
  bool has_buffers_again_ = false;
};

}  // namespace basalt::nvmf
