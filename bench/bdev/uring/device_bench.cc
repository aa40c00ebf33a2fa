// What one channel of a file: or uring: device does, to be compared with fio and with plain system
// calls (compare_fio.sh runs both in turn).
//
//   device_bench read URI DEPTH SECONDS    4 KiB random reads, DEPTH under way; prints I/O per
//   second device_bench sync URI COUNT            4 KiB write and flush, COUNT times; in each turn
//   also
//                                          pwrite and fdatasync on the same file, and a FUA write;
//                                          prints the three medians in microseconds
#include <basalt/device.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "bdev/uring/uring_device.h"
#include "mem/memory_map.h"

namespace basalt {
namespace {

constexpr size_t kBytes = 4096;

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

[[noreturn]] void fail(const std::string& what) {
  std::fprintf(stderr, "device_bench: %s\n", what.c_str());
  std::exit(1);
}

void expect_ok(StatusCode status) {
  if (status != StatusCode::ok) fail("an I/O failed: " + std::string(to_string(status)));
}

struct Reader {
  Channel* channel;
  uint64_t slots;
  uint64_t blocks_per_slot;
  std::mt19937_64 random{1};
  uint64_t done = 0;
  bool stopping = false;

  void submit(Io& io) {
    io.lba = Lba{random() % slots * blocks_per_slot};
    channel->submit(io);
  }
};

void read_randomly(Device& device, Channel& channel, std::byte* memory, unsigned depth,
                   double seconds) {
  const DeviceInfo& info = device.info();
  Reader reader{.channel = &channel,
                .slots = info.block_count.value * info.block_size / kBytes,
                .blocks_per_slot = kBytes / info.block_size};
  std::vector<Io> ios(depth);
  std::vector<iovec> vectors(depth);
  for (unsigned i = 0; i < depth; ++i) {
    vectors[i] = {memory + i * kBytes, kBytes};
    ios[i].block_count = BlockCount{reader.blocks_per_slot};
    ios[i].data = {&vectors[i], 1};
    ios[i].user = &reader;
    ios[i].done = [](Io& io) {
      auto& self = *static_cast<Reader*>(io.user);
      expect_ok(io.status);
      ++self.done;
      if (!self.stopping) self.submit(io);
    };
    reader.submit(ios[i]);
  }
  const double begin = seconds_now();
  while (seconds_now() - begin < seconds) channel.wait(std::chrono::seconds(1));
  const double end = seconds_now();
  std::printf("%.0f\n", static_cast<double>(reader.done) / (end - begin));
  reader.stopping = true;
  while (channel.stats().outstanding != 0) channel.wait(std::chrono::seconds(1));
}

double median_us(std::vector<double>& times) {
  std::nth_element(times.begin(), times.begin() + static_cast<long>(times.size() / 2), times.end());
  return times[times.size() / 2] * 1e6;
}

void write_and_sync(Device& device, Channel& channel, std::byte* memory, unsigned count) {
  const DeviceInfo& info = device.info();
  const int fd = dynamic_cast<UringDevice&>(device).fd();
  std::vector<double> ours, fua, plain;
  const iovec vector{memory, kBytes};
  Io write;
  write.op = Op::write;
  write.block_count = BlockCount{kBytes / info.block_size};
  write.data = {&vector, 1};
  Io flush;
  flush.op = Op::flush;
  for (unsigned i = 0; i < count; ++i) {
    const uint64_t offset = uint64_t{i % 4096} * kBytes;
    write.lba = Lba{offset / info.block_size};
    double begin = seconds_now();
    write.flags.fua = false;
    expect_ok(run(channel, write));
    expect_ok(run(channel, flush));
    ours.push_back(seconds_now() - begin);
    begin = seconds_now();
    if (pwrite(fd, memory, kBytes, static_cast<off_t>(offset)) != kBytes || fdatasync(fd) != 0) {
      fail("pwrite or fdatasync");
    }
    plain.push_back(seconds_now() - begin);
    begin = seconds_now();
    write.flags.fua = true;
    expect_ok(run(channel, write));
    fua.push_back(seconds_now() - begin);
  }
  const double reference = median_us(plain);
  std::printf(
      "write+flush %.1f us (%.2f x)  FUA write %.1f us (%.2f x)  pwrite+fdatasync %.1f us\n",
      median_us(ours), median_us(ours) / reference, median_us(fua), median_us(fua) / reference,
      reference);
}

int run_bench(int count, char** arguments) {
  if (count < 4) fail("see the head of device_bench.cc");
  auto context = Context::create();
  if (!context) fail(context.error().to_string());
  register_uring_scheme(**context);
  auto device = open_device(**context, arguments[2]);
  if (!device) fail(device.error().to_string());
  const auto depth = static_cast<unsigned>(std::atoi(arguments[3]));
  const size_t bytes = std::max<size_t>(depth * kBytes, size_t{2} << 20);
  auto* memory = static_cast<std::byte*>(std::aligned_alloc(kBytes, bytes));
  std::memset(memory, 1, bytes);
  auto region = (*context)->memory().register_region({memory, bytes});
  if (!region) fail(region.error().to_string());
  {
    auto channel = (*device)->open_channel();
    if (!channel) fail(channel.error().to_string());
    if (std::strcmp(arguments[1], "read") == 0 && count == 5) {
      read_randomly(**device, **channel, memory, depth, std::atof(arguments[4]));
    } else if (std::strcmp(arguments[1], "sync") == 0) {
      write_and_sync(**device, **channel, memory, depth);
    } else {
      fail("see the head of device_bench.cc");
    }
  }
  if (Status status = (*context)->memory().unregister_region(*region); !status.ok()) {
    fail(status.to_string());
  }
  device->reset();
  std::free(memory);
  return 0;
}

}  // namespace
}  // namespace basalt

int main(int count, char** arguments) { return basalt::run_bench(count, arguments); }
