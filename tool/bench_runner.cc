#include "tool/bench_runner.h"

#include <atomic>
#include <cstring>
#include <memory>
#include <random>
#include <span>
#include <vector>

#include "base/sync.h"
#include "base/try.h"
#include "mem/arena.h"

namespace basalt::tool {
namespace {

__extension__ using Product = unsigned __int128;

// Incompressible, and never a known signature.
void fill(std::span<std::byte> memory, uint64_t seed) {
  std::mt19937_64 random(seed);
  for (; memory.size() >= sizeof(uint64_t); memory = memory.subspan(sizeof(uint64_t))) {
    const uint64_t word = random();
    std::memcpy(memory.data(), &word, sizeof word);
  }
}

// One thread's share: its channel, its Ios, its place in the region.
class Worker {
 public:
  Worker(const BenchPlan& plan, unsigned number, uint32_t device_block_bytes,
         std::unique_ptr<Channel> channel, std::byte* memory)
      : plan_(plan),
        channel_(std::move(channel)),
        device_block_bytes_(device_block_bytes),
        random_state_(plan.seed * 0x9e3779b97f4a7c15 + number + 1),
        block_count_(plan.region_bytes / plan.block_bytes),
        slots_(plan.queue_depth) {
    if (plan.sequential) {
      next_ = block_count_ * number / plan.threads;
      begin_ = next_;
      end_ = block_count_ * (number + 1) / plan.threads;
    }
    for (unsigned i = 0; i < plan.queue_depth; ++i)
      prepare(slots_[i], memory + size_t{i} * plan.block_bytes);
  }

  // Keeps the queue full until `stop` is set, then waits for what is in flight.
  void run(const std::atomic<bool>& stop) {
    for (Slot& slot : slots_) submit_next(slot);
    while (in_flight_ > 0) {
      if (stop.load(std::memory_order_relaxed)) stopping_ = true;
      if (plan_.busy_poll) {
        channel_->poll();
      } else {
        channel_->wait(std::chrono::milliseconds(100));
      }
    }
  }

  void add_to(BenchResult& result) const {
    const ChannelStats& stats = channel_->stats();
    const auto ops = [&stats](Op op) { return stats.ops[static_cast<unsigned>(op)]; };
    result.reads += ops(Op::read);
    result.writes += ops(Op::write);
    result.flushes += ops(Op::flush);
    result.read_bytes += stats.read_bytes;
    result.written_bytes += stats.written_bytes;
    result.bounced += stats.bounced;
    result.errors += errors_;
    if (result.first_error == StatusCode::ok) result.first_error = first_error_;
    for (unsigned i = 0; i < LatencyHistogram::kBuckets; ++i) {
      result.read_latency.buckets[i] += stats.read_latency.buckets[i];
      result.write_latency.buckets[i] += stats.write_latency.buckets[i];
      result.flush_latency.buckets[i] += stats.flush_latency.buckets[i];
    }
  }

 private:
  struct Slot {
    Io io;
    iovec buffer{};
  };

  void prepare(Slot& slot, std::byte* memory) {
    slot.buffer = {memory, plan_.block_bytes};
    slot.io.done = &Worker::done;
    slot.io.user = this;
  }

  static void done(Io& io) {
    auto& worker = *static_cast<Worker*>(io.user);
    --worker.in_flight_;
    if (io.status != StatusCode::ok) worker.note_error(io.status);
    if (!worker.stopping_) worker.submit_next(reinterpret_cast<Slot&>(io));
  }

  // A run whose device fails ends; it does not spin on errors.
  void note_error(StatusCode status) {
    if (errors_++ == 0) first_error_ = status;
    stopping_ = true;
  }

  void submit_next(Slot& slot) {
    Io& io = slot.io;
    if (plan_.flush_every > 0 && writes_since_flush_ >= plan_.flush_every) {
      writes_since_flush_ = 0;
      io.op = Op::flush;
      io.flags = {};
      io.data = {};
      io.block_count = BlockCount{0};
    } else {
      io.op = next_random(100) < plan_.read_percent ? Op::read : Op::write;
      if (io.op == Op::write) ++writes_since_flush_;
      io.flags.fua = plan_.fua && io.op == Op::write;
      io.data = {&slot.buffer, 1};
      io.block_count = BlockCount{plan_.block_bytes / device_block_bytes_};
      io.lba = Lba{(plan_.first_byte + next_block() * plan_.block_bytes) / device_block_bytes_};
    }
    ++in_flight_;
    channel_->submit(io);
  }

  uint64_t next_block() {
    if (!plan_.sequential) return next_random(block_count_);
    const uint64_t block = next_++;
    if (next_ >= end_) next_ = begin_;
    return block;
  }

  // xorshift64*, scaled by multiplication: no division per I/O.
  uint64_t next_random(uint64_t bound) {
    random_state_ ^= random_state_ >> 12;
    random_state_ ^= random_state_ << 25;
    random_state_ ^= random_state_ >> 27;
    const uint64_t word = random_state_ * 0x2545f4914f6cdd1d;
    return static_cast<uint64_t>((static_cast<Product>(word) * bound) >> 64);
  }

  const BenchPlan& plan_;
  std::unique_ptr<Channel> channel_;
  const uint32_t device_block_bytes_;
  uint64_t random_state_;
  const uint64_t block_count_;
  uint64_t next_ = 0, begin_ = 0, end_ = 0;
  std::vector<Slot> slots_;
  unsigned in_flight_ = 0;
  unsigned writes_since_flush_ = 0;
  bool stopping_ = false;
  uint64_t errors_ = 0;
  StatusCode first_error_ = StatusCode::ok;
};

}  // namespace

Result<BenchResult> run_bench(Context& context, Device& device, const BenchPlan& plan,
                              const std::function<void(double)>& progress) {
  const size_t bytes_per_thread = size_t{plan.queue_depth} * plan.block_bytes;
  constexpr size_t kMaxBufferBytes = size_t{4} << 30;
  if (bytes_per_thread > kMaxBufferBytes / plan.threads) {
    return error(StatusCode::too_large,
                 "threads x depth x block is more than 4 GiB of buffers; lower one of them");
  }
  // Registered, so that devices use it as it is, and shareable with a controller in another process; in
  // hugepages where there are some, which a device without an IOMMU insists on.
  BASALT_TRY_ASSIGN(
      const std::unique_ptr<Arena> buffer,
      Arena::create({.name = "basalt-bench",
                     .bytes = std::max(bytes_per_thread * plan.threads, Arena::kHugepageBytes),
                     .map = &context.memory()}));
  fill(buffer->memory(), plan.seed);
  std::vector<std::unique_ptr<Worker>> workers;
  for (unsigned i = 0; i < plan.threads; ++i) {
    BASALT_TRY_ASSIGN(auto channel, device.open_channel());
    workers.push_back(std::make_unique<Worker>(plan, i, device.info().block_size,
                                               std::move(channel),
                                               buffer->memory().data() + i * bytes_per_thread));
  }

  std::atomic<bool> stop = false;
  std::atomic<unsigned> running = plan.threads;
  std::vector<Thread> threads;
  const Duration start = context.clock().now();
  for (auto& worker : workers) {
    threads.emplace_back("bench", [&worker = *worker, &stop, &running] {
      worker.run(stop);
      running.fetch_sub(1);
    });
  }
  for (Duration passed{}; passed < plan.runtime && running.load() > 0;
       passed = context.clock().now() - start) {
    progress(static_cast<double>(passed.count()) / static_cast<double>(plan.runtime.count()));
    sleep_for(std::min<Duration>(std::chrono::milliseconds(20), plan.runtime - passed));
  }
  stop.store(true);
  for (Thread& thread : threads) thread.join();

  BenchResult result;
  result.elapsed = context.clock().now() - start;
  for (const auto& worker : workers) worker->add_to(result);
  return result;
}

}  // namespace basalt::tool
