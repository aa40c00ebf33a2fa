// The fixture of the conformance suite: opening, running single Ios, test memory.
#include <algorithm>
#include <cstring>
#include <filesystem>

#include "test/bdev/conformance.h"

namespace basalt {

TestMemory::TestMemory(size_t bytes, size_t misalignment)
    : storage_(new std::byte[bytes + misalignment + 4096]), bytes_(bytes) {
  const auto address = reinterpret_cast<uintptr_t>(storage_.get());
  data_ = storage_.get() + ((4096 - address % 4096) % 4096) + misalignment;
  std::memset(data_, 0xEE, bytes_);
}

TestMemory& TestMemory::fill(uint64_t seed) {
  uint64_t state = seed * 0x9E3779B97F4A7C15u + 1;
  for (size_t at = 0; at < bytes_; at += sizeof state) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    std::memcpy(data_ + at, &state, std::min(sizeof state, bytes_ - at));
  }
  return *this;
}

bool TestMemory::operator==(const TestMemory& other) const {
  return bytes_ == other.bytes_ && std::memcmp(data_, other.data_, bytes_) == 0;
}

void DeviceConformance::SetUp() {
  std::string pattern = (std::filesystem::temp_directory_path() / "basalt-XXXXXX").string();
  ASSERT_NE(mkdtemp(pattern.data()), nullptr);
  directory_ = pattern;
  auto context = Context::create(GetParam().options);
  ASSERT_TRUE(context) << context.error().to_string();
  context_ = std::move(*context);
  GetParam().register_schemes(*context_);
  uri_ = GetParam().make_uri(directory_);
  reopen();
}

void DeviceConformance::TearDown() {
  channel_.reset();
  device_.reset();
  context_.reset();
  std::filesystem::remove_all(directory_);
}

void DeviceConformance::reopen(OpenMode mode) {
  channel_.reset();
  device_.reset();
  auto device = open_device(*context_, uri_, {.mode = mode});
  ASSERT_TRUE(device) << device.error().to_string();
  device_ = std::move(*device);
  auto channel = device_->open_channel();
  ASSERT_TRUE(channel) << channel.error().to_string();
  channel_ = std::move(*channel);
}

StatusCode DeviceConformance::run_io(Op op, uint64_t lba, uint64_t count,
                                     std::span<const iovec> data, IoFlags flags, Channel* on) {
  Io io;
  io.op = op;
  io.lba = Lba{lba};
  io.block_count = BlockCount{count};
  io.data = data;
  io.flags = flags;
  return run(on != nullptr ? *on : *channel_, io);
}

StatusCode DeviceConformance::write(uint64_t lba, const TestMemory& memory, IoFlags flags) {
  const iovec vector{memory.data(), memory.size()};
  return run_io(Op::write, lba, memory.size() / block_size(), {&vector, 1}, flags);
}

StatusCode DeviceConformance::read(uint64_t lba, const TestMemory& memory) {
  const iovec vector{memory.data(), memory.size()};
  return run_io(Op::read, lba, memory.size() / block_size(), {&vector, 1});
}

StatusCode DeviceConformance::copy(uint64_t from, uint64_t to, uint64_t count) {
  Io io;
  io.op = Op::copy;
  io.lba = Lba{to};
  io.copy_source = Lba{from};
  io.block_count = BlockCount{count};
  return run(*channel_, io);
}

StatusCode DeviceConformance::compare_and_write(uint64_t lba, const TestMemory& expected,
                                                const TestMemory& data, Channel* on) {
  const iovec vectors[] = {{expected.data(), expected.size()}, {data.data(), data.size()}};
  return run_io(Op::compare_and_write, lba, data.size() / block_size(), vectors, {}, on);
}

void DeviceConformance::expect_stored(uint64_t lba, const TestMemory& memory, const char* what) {
  TestMemory got(memory.size());
  ASSERT_EQ(read(lba, got), StatusCode::ok) << what;
  if (stores_data()) {
    EXPECT_TRUE(got == memory) << what << ": wrong bytes at block " << lba;
  }
}

}  // namespace basalt
