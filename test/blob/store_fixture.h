// StoreFixture: a context, a RAM device and a store on it, for the blob tests.
//
// The log is kept instead of printed. format() and open() take options; raw() reads and writes the device
// below the store, so that a test can damage what it likes. One thread, but for the log.
#pragma once

#include <basalt/device.h>
#include <gtest/gtest.h>

#include "base/sync.h"
#include "bdev/ram/ram_device.h"
#include "blob/aligned_buffer.h"
#include "blob/blob_store.h"
#include "blob/block_io.h"
#include "blob/superblock.h"

#include <memory>
#include <string>
#include <vector>

namespace basalt::blob {

class KeptLog final : public LogSink {
 public:
  void log(LogLevel, std::string_view module, std::string_view line) override {
    const MutexLock lock(mutex_);
    lines_.push_back(std::string(module) + ": " + std::string(line));
  }
  size_t count(std::string_view text) {
    const MutexLock lock(mutex_);
    size_t found = 0;
    for (const std::string& line : lines_) found += line.find(text) != std::string::npos;
    return found;
  }

 private:
  Mutex mutex_;
  std::vector<std::string> lines_;
};

inline FormatOptions small_format() {
  FormatOptions options;
  options.cluster_bytes = 16384;
  options.journal_bytes = 1 << 20;
  options.metadata_bytes = 2 << 20;
  return options;
}

class StoreFixture : public testing::Test {
 protected:
  StoreFixture() {
    ContextOptions options;
    options.log = &log_;
    options.boot_id = "boot";
    context_ = std::move(*Context::create(options));
    register_ram_scheme(*context_);
  }
  ~StoreFixture() override {
    if (store_ != nullptr) store_->abandon();
    store_.reset();
    raw_.reset();
  }

  void make_device(const std::string& uri) {
    raw_.reset();
    auto device = open_device(*context_, uri);
    ASSERT_TRUE(device) << device.error().to_string();
    device_ = std::move(*device);
  }
  void make_store(const std::string& uri = "ram:32M",
                  const FormatOptions& options = small_format()) {
    make_device(uri);
    const Status status = BlobStore::format(*context_, *device_, options);
    ASSERT_TRUE(status.ok()) << status.to_string();
    open();
  }
  Result<std::unique_ptr<BlobStore>> try_open(OpenMode mode = OpenMode::read_write) {
    StoreOptions options;
    options.mode = mode;
    options.metadata_cache_bytes = 1 << 20;
    options.discard = discard_;
    return BlobStore::open(*context_, *device_, options);
  }
  void open(OpenMode mode = OpenMode::read_write) {
    auto store = try_open(mode);
    ASSERT_TRUE(store) << store.error().to_string();
    store_ = std::move(*store);
  }
  void close() {
    const Status status = store_->close();
    ASSERT_TRUE(status.ok()) << status.to_string();
    store_.reset();
  }
  // As the death of the process would leave it.
  void kill() {
    store_->abandon();
    store_.reset();
  }

  Channel& raw() {
    if (raw_ == nullptr) raw_ = std::move(*device_->open_channel());
    return *raw_;
  }
  std::vector<std::byte> read_raw(uint64_t block, size_t blocks = 1) {
    AlignedBuffer bytes(blocks * kBlockBytes);
    EXPECT_TRUE(read_blocks(raw(), device_->info(), block, bytes.span(), "test").ok());
    return {bytes.data(), bytes.data() + bytes.size()};
  }
  void write_raw(uint64_t block, std::span<const std::byte> data) {
    EXPECT_TRUE(write_blocks(raw(), device_->info(), block, data, {}, "test").ok());
  }
  // Flips one bit of the block.
  void damage(uint64_t block, size_t byte = 1000) {
    std::vector<std::byte> bytes = read_raw(block);
    bytes[byte] ^= std::byte{4};
    write_raw(block, bytes);
  }
  Superblock superblock(unsigned slot) {
    const auto bytes = read_raw(kSuperblockOffset[slot] / kBlockBytes);
    Superblock sb;
    std::memcpy(&sb, bytes.data(), sizeof sb);
    return sb;
  }
  unsigned newest_slot() { return superblock(0).generation > superblock(1).generation ? 0 : 1; }

  Ticket apply(Transaction& txn) {
    const auto ticket = store_->apply(txn);
    EXPECT_TRUE(ticket) << ticket.error().to_string();
    return ticket ? *ticket : Ticket{};
  }
  void put(const std::string& key, const std::string& value) {
    Transaction txn;
    txn.catalog_put(key, value);
    apply(txn);
  }
  std::string get(const std::string& key) {
    auto value = store_->catalog_get(key);
    return value ? *value : "<" + value.error().to_string() + ">";
  }
  void make_durable() {
    const Status status = store_->wait_durable(store_->last_ticket());
    ASSERT_TRUE(status.ok()) << status.to_string();
  }
  BlobId make_blob(uint64_t blocks = 0) {
    Transaction txn;
    const BlobId id = store_->new_blob_id();
    txn.create_blob(id, {});
    if (blocks > 0) {
      const Status status = store_->allocate(txn, id, {0, blocks});
      EXPECT_TRUE(status.ok()) << status.to_string();
    }
    apply(txn);
    return id;
  }
  void expect_sound() {
    auto report = check_store(*context_, *device_, {});
    ASSERT_TRUE(report) << report.error().to_string();
    for (const std::string& problem : report->problems) ADD_FAILURE() << problem;
  }

  KeptLog log_;
  std::unique_ptr<Context> context_;
  std::unique_ptr<Device> device_;
  std::unique_ptr<Channel> raw_;
  std::unique_ptr<BlobStore> store_;
  bool discard_ = false;
};

}  // namespace basalt::blob
