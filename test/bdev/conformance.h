// The conformance suite every block device passes: the same cases for files, memory, null and
// layers.
//
// A backend's test names itself and says how to make a fresh device; the cases come from here:
//
//   INSTANTIATE_TEST_SUITE_P(Ram, DeviceConformance, testing::Values(ConformanceTarget{
//       .name = "ram", .register_schemes = register_ram_scheme,
//       .make_uri = [](const std::string&) { return "ram:64M"; }}), conformance_name);
//
// and it links the object library bdev_conformance. A fresh device holds 64 MiB (or a little less)
// and reads as zeroes or as anything: no case depends on it.
#pragma once

#include <basalt/device.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

namespace basalt {

struct ConformanceTarget {
  std::string name;
  std::function<void(Context&)> register_schemes;
  // A URI of a device of 64 MiB; `directory` is empty, the test's own, and removed afterwards. The
  // URI is opened several times in one case, one after the other.
  std::function<std::string(const std::string& directory)> make_uri;
  bool stores_data = true;  // false: reads answer anything (null:)
  bool layer = false;       // hands on to a device below, which splits and bounces
  ContextOptions options = {};
};

// What a failing case shows of its parameter.
inline void PrintTo(const ConformanceTarget& target, std::ostream* out) { *out << target.name; }

inline std::string conformance_name(const testing::TestParamInfo<ConformanceTarget>& info) {
  return info.param.name;
}

// Memory whose address is `misalignment` bytes past a 4096-byte boundary.
class TestMemory {
 public:
  explicit TestMemory(size_t bytes, size_t misalignment = 0);
  std::span<std::byte> span() const { return {data_, bytes_}; }
  std::byte* data() const { return data_; }
  size_t size() const { return bytes_; }
  // Bytes that follow from `seed`.
  TestMemory& fill(uint64_t seed);
  bool operator==(const TestMemory& other) const;

 private:
  std::unique_ptr<std::byte[]> storage_;
  std::byte* data_;
  size_t bytes_;
};

class DeviceConformance : public testing::TestWithParam<ConformanceTarget> {
 protected:
  void SetUp() override;
  void TearDown() override;

  // Opens the device again; the present one is closed first.
  void reopen(OpenMode mode = OpenMode::read_write);
  uint32_t block_size() const { return device_->info().block_size; }
  uint64_t capacity() const { return device_->info().block_count.value; }
  bool stores_data() const { return GetParam().stores_data; }
  bool supports(Op op) const { return device_->info().supported.has(op); }

  // Runs one Io to its end on channel_ (or `on`).
  StatusCode run_io(Op op, uint64_t lba, uint64_t count, std::span<const iovec> data = {},
                    IoFlags flags = {}, Channel* on = nullptr);
  StatusCode write(uint64_t lba, const TestMemory& memory, IoFlags flags = {});
  StatusCode read(uint64_t lba, const TestMemory& memory);
  StatusCode copy(uint64_t from, uint64_t to, uint64_t count);
  // expected, then new, each of whole blocks.
  StatusCode compare_and_write(uint64_t lba, const TestMemory& expected, const TestMemory& data,
                               Channel* on = nullptr);
  // Expects the device to hold `memory` at `lba` (where it stores anything).
  void expect_stored(uint64_t lba, const TestMemory& memory, const char* what);

  std::string directory_;
  std::string uri_;
  std::unique_ptr<Context> context_;
  std::unique_ptr<Device> device_;
  std::unique_ptr<Channel> channel_;
};

}  // namespace basalt
