// See poll_group.h.
#include "targets/nvmf/poll_group.h"

#include <algorithm>

#include "base/check.h"
#include "targets/nvmf/queue.h"

namespace basalt::nvmf {

PollGroup::PollGroup(Context& context, Reactor& reactor, size_t index, size_t buffer_bytes)
    : context_(context), reactor_(reactor), index_(index), buffers_(context, buffer_bytes) {
  reactor_.add(*this);
}

PollGroup::~PollGroup() {
  reactor_.remove(*this);
  BASALT_CHECK(queues_.empty(), "connections end before their reactor's group goes");
}

unsigned PollGroup::poll() noexcept {
  unsigned work = 0;
  for (const auto& channel : channels_) work += channel->poll();
  if (std::exchange(has_buffers_again_, false)) {
    for (Transport* transport : std::exchange(starved_, {})) transport->retry();
  }
  flushing_.swap(to_flush_);
  for (Transport* transport : flushing_) {
    if (transport != nullptr) transport->flush();
  }
  work += static_cast<unsigned>(flushing_.size());
  flushing_.clear();
  return work;
}

bool PollGroup::arm() noexcept {
  bool armed = to_flush_.empty();
  for (const auto& channel : channels_) armed = channel->arm() && armed;
  return armed;
}

void PollGroup::give_buffer(std::span<std::byte> buffer) noexcept {
  buffers_.give(buffer);
  has_buffers_again_ = !starved_.empty();
}

void PollGroup::forget(Transport& transport) {
  for (std::vector<Transport*>* list : {&to_flush_, &starved_}) {
    list->erase(std::remove(list->begin(), list->end(), &transport), list->end());
  }
  std::replace(flushing_.begin(), flushing_.end(), &transport, static_cast<Transport*>(nullptr));
}

DeviceChannel* PollGroup::channel(const std::shared_ptr<Device>& device) {
  for (const auto& known : channels_) {
    if (&known->device() == device.get()) return known.get();
  }
  auto opened = DeviceChannel::open(reactor_, device);
  if (!opened) {
    context_.log().log(LogLevel::error, "nvmf",
                       device->info().uri + ": open a channel on " + reactor_.name() + ": " +
                           opened.error().to_string());
    return nullptr;
  }
  channels_.push_back(std::move(*opened));
  return channels_.back().get();
}

void PollGroup::remove(Queue& queue) {
  const auto found = std::find(queues_.begin(), queues_.end(), &queue);
  BASALT_CHECK(found != queues_.end(), "a queue of this group");
  queues_.erase(found);
  drop_unused_channels();
  drop_unused_counters();
}

void PollGroup::refresh(const Subsystem& subsystem) {
  for (Queue* queue : queues_) queue->refresh(subsystem);
  drop_unused_channels();
  drop_unused_counters();
}

void PollGroup::abort_preempted(const Subsystem& subsystem, uint32_t nsid,
                                const std::vector<HostIdentity>& hosts, const Fence::Pass& pass) {
  for (Queue* queue : queues_) queue->abort_preempted(subsystem, nsid, hosts, pass);
}

void DeviceTotals::add(const ChannelStats& stats) {
  const auto count = [&](Op op) { return stats.ops[static_cast<size_t>(op)]; };
  reads += count(Op::read);
  writes += count(Op::write);
  discards += count(Op::discard);
  flushes += count(Op::flush);
  read_bytes += stats.read_bytes;
  written_bytes += stats.written_bytes;
  for (const uint64_t failed : stats.errors) errors += failed;
  outstanding += stats.outstanding;
  nvmf::add(read_latency, stats.read_latency);
  nvmf::add(write_latency, stats.write_latency);
  nvmf::add(flush_latency, stats.flush_latency);
}

void DeviceTotals::add(const DeviceTotals& other) {
  reads += other.reads;
  writes += other.writes;
  discards += other.discards;
  flushes += other.flushes;
  read_bytes += other.read_bytes;
  written_bytes += other.written_bytes;
  errors += other.errors;
  outstanding += other.outstanding;
  nvmf::add(read_latency, other.read_latency);
  nvmf::add(write_latency, other.write_latency);
  nvmf::add(flush_latency, other.flush_latency);
}

DeviceTotals PollGroup::totals(const Device& device) const {
  DeviceTotals sum;
  if (const auto closed = closed_.find(&device); closed != closed_.end()) sum = closed->second;
  for (const auto& channel : channels_) {
    if (&channel->device() == &device) sum.add(channel->stats());
  }
  return sum;
}

std::map<const Device*, DeviceTotals> PollGroup::all_totals() const {
  std::map<const Device*, DeviceTotals> all = closed_;
  for (const auto& channel : channels_) all[&channel->device()].add(channel->stats());
  return all;
}

IoCounters& PollGroup::counters(const Namespace& space) {
  if (std::find(counters_.begin(), counters_.end(), space.counters) == counters_.end()) {
    counters_.push_back(space.counters);
  }
  return space.counters->of(index_);
}

void PollGroup::drop_unused_counters() {
  std::erase_if(counters_, [this](const auto& counters) {
    // Its namespace is no more, and no command of it is under way here.
    return counters.use_count() == 1 && counters->of(index_).outstanding() == 0;
  });
}

void PollGroup::count_connected(const Queue& queue) {
  ++(queue.id() == 0 ? all_admin_queues_ : all_io_queues_);
}

GroupState PollGroup::state() const {
  GroupState state;
  state.reactor = reactor_.name();
  for (const Queue* queue : queues_) {
    if (queue->connected()) ++(queue->id() == 0 ? state.admin_queues : state.io_queues);
  }
  state.all_admin_queues = all_admin_queues_;
  state.all_io_queues = all_io_queues_;
  state.io_commands = io_commands_;
  for (const auto& channel : channels_) state.outstanding += channel->outstanding();
  return state;
}

bool PollGroup::is_needed(const DeviceChannel& channel) const {
  return std::any_of(queues_.begin(), queues_.end(),
                     [&](const Queue* queue) { return queue->uses(channel); });
}

bool PollGroup::lets_go_of(const Device& device) {
  drop_unused_channels();
  return std::none_of(channels_.begin(), channels_.end(), [&](const auto& channel) {
    return &channel->device() == &device && !is_needed(*channel);
  });
}

void PollGroup::drop_unused_channels() {
  const auto is_unused = [&](const std::unique_ptr<DeviceChannel>& channel) {
    return channel->outstanding() == 0 && !is_needed(*channel);
  };
  for (const auto& channel : channels_) {
    if (is_unused(channel)) closed_[&channel->device()].add(channel->stats());
  }
  channels_.erase(std::remove_if(channels_.begin(), channels_.end(), is_unused), channels_.end());
}

}  // namespace basalt::nvmf
