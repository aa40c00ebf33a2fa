// RepairTest: a closed store on the simulated disk, its image, and the sentences a repair of it should say.
//
// Each test starts from copies of the image: use() puts a disk with one under the fixture's device, corrupt()
// damages a block of it, examine() and repair() look. The disk keeps its commands, so that blocks_written()
// can say what a repair wrote. One thread.
#pragma once

#include "base/crc32c.h"
#include "base/try.h"
#include "blob/format.h"
#include "sim/sim_device.h"
#include "store_content.h"
#include "store_fixture.h"

#include <set>

namespace basalt::blob {

using Sentences = std::vector<std::string>;
constexpr uint64_t kSuperblockBlock[2] = {kSuperblockOffset[0] / kBlockBytes,
                                          kSuperblockOffset[1] / kBlockBytes};

inline std::vector<std::byte> block_of(const sim::SimImage& image, uint64_t block) {
  std::vector<std::byte> bytes(kBlockBytes);
  image.read(block * kBlockBytes, bytes);
  return bytes;
}

template <typename T>
T struct_in(std::span<const std::byte> bytes) {
  T value;
  std::memcpy(&value, bytes.data(), sizeof value);
  return value;
}

class RepairTest : public StoreFixture {
 protected:
  sim::SimOptions options() const {
    sim::SimOptions options;
    options.size_bytes = kMinDeviceBytes;
    options.max_delay_polls = 0;
    options.log_commands = true;
    options.native_fua = native_fua_;
    return options;
  }
  void use(std::shared_ptr<sim::SimDisk> disk) {
    raw_.reset();
    device_.reset();
    disk_ = std::move(disk);
    device_ = sim::open_sim_device(*context_, disk_);
  }
  void use(const sim::SimImage& image) { use(std::make_shared<sim::SimDisk>(options(), image)); }

  void format() {
    FormatOptions format = small_format();
    format.journal_bytes = 512 << 10;
    format.metadata_bytes = 1 << 20;
    use(std::make_shared<sim::SimDisk>(options()));
    ASSERT_TRUE(BlobStore::format(*context_, *device_, format).ok());
  }
  void add_blob(const std::string& name) {
    const BlobId id = make_blob(4);
    Transaction txn;
    txn.set_size(id, name.size());
    txn.set_attribute(id, "name", name);
    apply(txn);
  }
  static std::string key(int i) { return "key" + std::to_string(1000 + i); }
  // A closed store with trees of more than one level, left in image_.
  void SetUp() override {
    format();
    open();
    for (int i = 0; i < 400; ++i) put(key(i), std::string(100 + i % 90, 'v'));
    for (int i = 0; i < 80; ++i) add_blob("blob " + std::to_string(i));
    make_durable();
    ASSERT_TRUE(store_->checkpoint().ok());
    put(key(7), "changed");
    content_ = *content_of(*store_);
    close();
    image_ = disk_->image();
    run_ = superblock(0).metadata_runs[0];
    journal_ = {superblock(0).journal_first_block, superblock(0).journal_blocks};
    disk_->clear_commands();
    expect_untouched_by_check();
    for (const sim::SimCommand& command : disk_->commands()) {
      const uint64_t block = command.lba.value * disk_->options().block_bytes / kBlockBytes;
      if (block >= run_.first_block[0] && block < run_.first_block[0] + run_.page_count) {
        pages_.insert(block - run_.first_block[0]);
      }
    }
    ASSERT_GT(pages_.size(), 20u);
  }

  StoreReport examine(CheckMode mode) {
    const auto report = check_store(*context_, *device_, {.mode = mode});
    EXPECT_TRUE(report) << report.error().to_string();
    return report ? *report : StoreReport{{"no report"}, {}, {}};
  }
  StoreReport repair() { return examine(CheckMode::repair); }
  void expect_untouched_by_check() {
    const StoreReport report = examine(CheckMode::report);
    EXPECT_EQ(report.problems, Sentences{});
    EXPECT_EQ(report.notes, Sentences{});
    EXPECT_EQ(report.repairs, Sentences{});
  }
  std::set<uint64_t> blocks_written() const {
    std::set<uint64_t> blocks;
    for (const sim::SimCommand& command : disk_->commands()) {
      if (command.op == Op::read || command.op == Op::flush) continue;
      EXPECT_EQ(command.op, Op::write);
      EXPECT_EQ(command.block_count.value * disk_->options().block_bytes, kBlockBytes);
      blocks.insert(command.lba.value * disk_->options().block_bytes / kBlockBytes);
    }
    return blocks;
  }
  Result<StoreContent> content_after_opening() {
    BASALT_TRY_ASSIGN(auto store, try_open(OpenMode::read_only));
    return content_of(*store);
  }

  uint64_t place(uint64_t page, unsigned copy) const { return run_.first_block[copy] + page; }
  void corrupt(uint64_t block, sim::Damage damage = sim::Damage::garbage) {
    disk_->corrupt(block * kBlockBytes, kBlockBytes, damage, block + 1);
  }
  // Puts the superblock that is in the slot there as a later version of the format would.
  void write_later_superblock(unsigned slot) {
    Superblock later = superblock(slot);
    later.format_version = kFormatVersion + 1;
    later.crc = 0;
    later.crc = crc32c(std::as_bytes(std::span(&later, 1)));
    write_raw(kSuperblockBlock[slot], std::as_bytes(std::span(&later, 1)));
  }
  std::string page_text(uint64_t page, unsigned copy) const {
    return "metadata page " + std::to_string(page) + " copy " + std::to_string(copy) + " (block " +
           std::to_string(place(page, copy)) + ")";
  }
  // What is wrong with the bytes that now lie where a page should.
  std::string damage_text(uint64_t page, unsigned copy) const {
    std::vector<std::byte> bytes = block_of(disk_->image(), place(page, copy));
    auto header = struct_in<PageHeader>(bytes);
    const uint32_t magic = header.magic, stored = header.crc;
    if (magic != kPageMagic) {
      return page_text(page, copy) + ": magic " + std::to_string(magic) + ", expected " +
             std::to_string(kPageMagic);
    }
    header.crc = 0;
    std::memcpy(bytes.data(), &header, sizeof header);
    return page_text(page, copy) + ": checksum " + std::to_string(crc32c(bytes)) + ", expected " +
           std::to_string(stored);
  }
  std::string structure_of(uint64_t page) const {
    const auto header = struct_in<PageHeader>(block_of(image_, place(page, 0)));
    if (header.kind != static_cast<uint8_t>(PageKind::tree_node)) return "page map";
    const char* const names[] = {"objects tree", "catalog", "tree of free space"};
    return names[header.tree];
  }
  // Whether what the page says follows from other pages.
  bool is_derived(uint64_t page) const {
    return structure_of(page) == "page map" || structure_of(page) == "tree of free space";
  }
  std::string page_repair(uint64_t page, unsigned copy) const {
    return damage_text(page, copy) + "; rewrote its 4096 B of the " + structure_of(page) +
           " from copy " + std::to_string(1 - copy) + " (block " +
           std::to_string(place(page, 1 - copy)) + ")";
  }
  std::string superblock_damage(unsigned slot) const {
    const auto found =
        parse_superblock(block_of(disk_->image(), kSuperblockBlock[slot]), slot, kMinDeviceBytes);
    return found ? "" : std::string(found.error().message());
  }
  std::string superblock_repair(unsigned slot) const {
    const auto good = struct_in<Superblock>(block_of(disk_->image(), kSuperblockBlock[1 - slot]));
    return superblock_damage(slot) + "; rewrote its 4096 B from superblock " +
           std::to_string(1 - slot) + " (byte " + std::to_string(kSuperblockOffset[1 - slot]) +
           "), as generation " + std::to_string(good.generation + 1);
  }
  // The undamaged image, with the superblock in `slot` as a flip of the other one would write it.
  sim::SimImage flipped_image(unsigned slot) const {
    sim::SimImage image = image_;
    auto sb = struct_in<Superblock>(block_of(image, kSuperblockBlock[1 - slot]));
    sb.generation = sb.generation + 1;
    sb.crc = 0;
    sb.crc = crc32c(std::as_bytes(std::span(&sb, 1)));
    image.write(kSuperblockOffset[slot], std::as_bytes(std::span(&sb, 1)));
    return image;
  }

  bool native_fua_ = true;
  std::shared_ptr<sim::SimDisk> disk_;
  sim::SimImage image_{0};
  StoreContent content_;
  MetadataRun run_{};
  BlockRange journal_;
  std::set<uint64_t> pages_;  // in use
};

}  // namespace basalt::blob
