// See pcie_queue.h.
#include "nvme/pcie_queue.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstring>

#include "base/sync.h"

namespace basalt::nvme {

namespace {

constexpr size_t kStatusOffset = 14;  // of a completion's last two bytes, phase tag among them
static_assert(offsetof(Completion, status_and_phase) == kStatusOffset);

uint64_t round_up(uint64_t value, uint64_t unit) { return (value + unit - 1) / unit * unit; }

// le<T> over memory that others write: one aligned access.
template <class T>
T load_le(const std::byte* at, std::memory_order order) {
  auto* word = reinterpret_cast<T*>(const_cast<std::byte*>(at));
  const T raw = std::atomic_ref<T>(*word).load(order);
  return std::endian::native == std::endian::little ? raw : byte_swap(raw);
}

void store_le32(volatile std::byte* at, uint32_t value, std::memory_order order) {
  auto* word = reinterpret_cast<uint32_t*>(const_cast<std::byte*>(at));
  std::atomic_ref<uint32_t>(*word).store(
      std::endian::native == std::endian::little ? value : byte_swap(value), order);
}

}  // namespace

void Doorbell::store(uint16_t previous, uint16_t value) const noexcept {
  if (shadow != nullptr) {
    store_le32(shadow, value, std::memory_order_release);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    // The register is due when the event index lies in (previous, value], counted round the 16 bits.
    const auto event =
        static_cast<uint16_t>(load_le<uint32_t>(event_index, std::memory_order_relaxed));
    if (static_cast<uint16_t>(value - event - 1) >= static_cast<uint16_t>(value - previous)) return;
  }
  if (mapped != nullptr) {
    store_le32(mapped, value, std::memory_order_release);
    return;
  }
  // A function that fails here is gone, which the commands' timeouts and its removal tell.
  [[maybe_unused]] const Status ignored = function->write32(offset, value);
}

uint64_t PcieQueue::completion_offset(const PcieQueueShape& shape) {
  return round_up(shape.entries * sizeof(Command), shape.page_bytes);
}

uint64_t PcieQueue::lists_offset(const PcieQueueShape& shape) {
  return completion_offset(shape) + round_up(shape.entries * sizeof(Completion), shape.page_bytes);
}

uint32_t PcieQueue::list_bytes(uint64_t max_transfer_bytes, uint32_t page_bytes) {
  // One page more when the data begins inside one. A power of two up to a page stays within its page; from
  // there on whole pages, with room for the entries that name the next.
  const uint64_t entries = max_transfer_bytes / page_bytes + 1;
  const uint64_t bytes = entries * sizeof(uint64_t);
  if (bytes <= page_bytes) return static_cast<uint32_t>(std::bit_ceil(bytes));
  return static_cast<uint32_t>(
      round_up(bytes + bytes / page_bytes * sizeof(uint64_t) + sizeof(uint64_t), page_bytes));
}

void Doorbell::clear() const noexcept {
  if (shadow == nullptr) return;
  store_le32(shadow, 0, std::memory_order_release);
  store_le32(event_index, 0, std::memory_order_release);
}

size_t PcieQueue::memory_bytes(const PcieQueueShape& shape) {
  return lists_offset(shape) + uint64_t{shape.list_bytes} * (shape.entries - 1);
}

PcieQueue::PcieQueue(const PcieQueueShape& shape, DmaBuffer memory, const DmaMap& dma,
                     Doorbell submission, Doorbell completion, int event_fd)
    : shape_(shape),
      memory_(std::move(memory)),
      dma_(dma),
      submission_(submission),
      completion_(completion),
      event_fd_(event_fd),
      commands_(memory_.bytes().data()),
      completions_(memory_.bytes().data() + completion_offset(shape)),
      lists_(memory_.bytes().data() + lists_offset(shape)) {
  std::memset(commands_, 0, lists_offset(shape));  // no phase tag is set
}

StatusCode PcieQueue::post(uint16_t slot, uint16_t cid, const Request& request) noexcept {
  Command command = request.command;
  command.cid = cid;
  if (!describe_data(slot, request, command)) return StatusCode::invalid_argument;
  std::memcpy(commands_ + tail_ * sizeof command, &command, sizeof command);
  tail_ = static_cast<uint16_t>(tail_ + 1u == shape_.entries ? 0 : tail_ + 1);
  return StatusCode::ok;
}

bool PcieQueue::describe_data(uint16_t slot, const Request& request,
                              Command& command) const noexcept {
  if (!request.metadata.empty()) {
    const uint64_t iova = dma_.iova(request.metadata.data(), request.metadata.size());
    if (iova == DmaMap::kUnmapped) return false;
    command.metadata = iova;
  }
  if (request.data.empty()) return true;
  std::byte* const list = lists_ + size_t{slot} * shape_.list_bytes;
  const ListMemory memory{{list, shape_.list_bytes},
                          memory_.iova() + static_cast<uint64_t>(list - commands_)};
  if (build(PrpBuilder(memory, shape_.page_bytes), request, command)) return true;
  if (!shape_.sgl || !build(SglBuilder(memory), request, command)) return false;
  command.flags |= kDataIsSgl;
  return true;
}

template <class Builder>
bool PcieQueue::build(Builder builder, const Request& request, Command& command) const noexcept {
  for (const iovec& piece : request.data) {
    auto* at = static_cast<const std::byte*>(piece.iov_base);
    for (size_t left = piece.iov_len; left > 0;) {
      const DmaMap::Piece found = dma_.find(at, left);
      if (found.bytes == 0 || !builder.add(found.iova, found.bytes)) return false;
      at += found.bytes;
      left -= found.bytes;
    }
  }
  command.data = builder.finish();
  return true;
}

void PcieQueue::ring() noexcept {
  if (rung_ == tail_) return;
  submission_.store(rung_, tail_);
  rung_ = tail_;
}

unsigned PcieQueue::reap(std::span<Completion> out) noexcept {
  const uint16_t begin = head_;
  unsigned count = 0;
  for (; count < out.size(); ++count) {
    const std::byte* entry = completions_ + head_ * sizeof(Completion);
    const auto status = load_le<uint16_t>(entry + kStatusOffset, std::memory_order_acquire);
    if ((status & 1) != static_cast<uint16_t>(phase_)) break;
    std::memcpy(static_cast<void*>(&out[count]), entry, kStatusOffset);
    out[count].status_and_phase = status;
    if (++head_ == shape_.entries) {
      head_ = 0;
      phase_ = !phase_;
    }
  }
  if (count > 0) completion_.store(begin, head_);
  return count;
}

void PcieQueue::sleep(Duration limit) noexcept {
  if (event_fd_ < 0) return sleep_for(std::min<Duration>(limit, std::chrono::microseconds(20)));
  pollfd entry{event_fd_, POLLIN, 0};
  const timespec span{limit.count() / 1'000'000'000, limit.count() % 1'000'000'000};
  if (::ppoll(&entry, 1, &span, nullptr) <= 0) return;
  uint64_t events;
  [[maybe_unused]] const ssize_t taken = ::read(event_fd_, &events, sizeof events);
}

}  // namespace basalt::nvme
