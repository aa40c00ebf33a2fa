// Goal: whatever a device holds, check(), repair(), dump(), mount(), reading and writing answer with a
// status; no crash, no endless loop. Method: a small closed store with both kinds of files and checksums; the
// input is a list of patches, most of which put the checksums around them right, so that the bytes
// behind them are judged:
//   kind 0  bytes anywhere in the metadata, as they are
//   kind 1  bytes of both superblocks
//   kind 2  bytes of the root page of a tree, with the references to it
//   kind 3  a journal record with these bytes as its transaction
//   kind 4  bytes of a log's sealed block
// Each patch is: kind, tree or block (1 byte each), offset (2), length (1), bytes.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <optional>

#include "base/check.h"
#include "base/crc32c.h"
#include "blob/format.h"
#include "blobfs/log_format.h"
#include "crash/pattern.h"
#include "crash/round.h"
#include "sim/sim_device.h"
#include "sim/step_executor.h"

namespace {

using namespace basalt;
using blob::kBlockBytes;
using blob::Superblock;
using sim::SimImage;

class Quiet final : public LogSink {
  void log(LogLevel, std::string_view, std::string_view) override {}
};

struct World {
  Quiet log;
  sim::StepExecutor executor;
  std::unique_ptr<Context> context;
  SimImage image{0};
  sim::SimOptions disk{.size_bytes = 16 << 20, .max_delay_polls = 0};

  World() {
    ContextOptions options;
    options.log = &log;
    options.executor = &executor;
    context = std::move(*Context::create(options));
    auto made = std::make_shared<sim::SimDisk>(disk);
    FormatOptions format;
    format.data_checksums = true;
    BASALT_CHECK(FileSystem::format(*context, *sim::open_sim_device(*context, made), format).ok(),
                 "format");
    {
      auto fs = mount(made);
      BASALT_CHECK(fs, "mount");
      BASALT_CHECK((*fs)->make_directory("/d").ok(), "mkdir");
      put(**fs, "/d/table", FileKind::table);
      put(**fs, "/log", FileKind::log);
      BASALT_CHECK((*fs)->unmount().ok(), "unmount");
    }
    image = made->image();
  }
  Result<std::unique_ptr<FileSystem>> mount(std::shared_ptr<sim::SimDisk> from) {
    MountOptions options;
    options.cache_bytes = 0;
    options.flush_to = MountOptions::FlushTo::device;
    return FileSystem::mount(*context, sim::open_sim_device(*context, std::move(from)), options);
  }
  static void put(FileSystem& fs, const std::string& path, FileKind kind) {
    const auto file = fs.create(path, kind, {});
    BASALT_CHECK(file, "create");
    BASALT_CHECK((*file)->append(crash::as_bytes(crash::pattern(1, 1, 0, 3000))).ok(), "append");
    BASALT_CHECK((*file)->close().ok(), "close");
  }
};

struct Patch {
  uint8_t kind = 0, which = 0;
  uint16_t offset = 0;
  std::span<const std::byte> bytes;
};

class Patcher {
 public:
  explicit Patcher(SimImage& image) : image_(image) { newest_ = pick_newest(); }

  void apply(const Patch& patch) {
    const uint64_t metadata = newest_.metadata_runs[0].first_block[0];
    switch (patch.kind % 5) {
      case 0: return write((metadata + patch.which % 16) * kBlockBytes, patch);
      case 1: return patch_superblocks(patch);
      case 2: return patch_root(patch);
      case 3: return add_record(patch);
      case 4: return patch_log(patch);
    }
  }

 private:
  template <typename T>
  T load(uint64_t at) const {
    T value;
    image_.read(at, std::as_writable_bytes(std::span(&value, 1)));
    return value;
  }
  template <typename T>
  void store(uint64_t at, const T& value) {
    image_.write(at, std::as_bytes(std::span(&value, 1)));
  }
  void write(uint64_t at, const Patch& patch) {
    const uint64_t offset = patch.offset % kBlockBytes;
    image_.write(at + offset,
                 patch.bytes.first(std::min(patch.bytes.size(), kBlockBytes - offset)));
  }
  Superblock pick_newest() const {
    const auto a = load<Superblock>(blob::kSuperblockOffset[0]);
    const auto b = load<Superblock>(blob::kSuperblockOffset[1]);
    return a.generation > b.generation ? a : b;
  }
  void seal_superblocks() {
    for (const uint64_t at : blob::kSuperblockOffset) {
      auto superblock = load<Superblock>(at);
      superblock.crc = 0;
      superblock.crc = crc32c(std::as_bytes(std::span(&superblock, 1)));
      store(at, superblock);
    }
  }
  void patch_superblocks(const Patch& patch) {
    for (const uint64_t at : blob::kSuperblockOffset) write(at, patch);
    seal_superblocks();
  }
  void patch_root(const Patch& patch) {
    const unsigned tree = patch.which % blob::kTreeCount;
    const uint64_t page = newest_.trees[tree].page;
    if (page >= newest_.metadata_runs[0].page_count) return;
    uint32_t crc = 0;
    for (const auto& first : newest_.metadata_runs[0].first_block) {
      const uint64_t at = (first + page) * kBlockBytes;
      write(at, patch);
      std::vector<std::byte> bytes(kBlockBytes);
      image_.read(at, bytes);
      std::memset(bytes.data() + offsetof(blob::PageHeader, crc), 0, 4);
      crc = crc32c(bytes);
      const le32 stored = crc;
      store(at + offsetof(blob::PageHeader, crc), stored);
    }
    for (const uint64_t at : blob::kSuperblockOffset) {
      auto superblock = load<Superblock>(at);
      if (superblock.trees[tree].page == page) superblock.trees[tree].crc = crc;
      store(at, superblock);
    }
    seal_superblocks();
  }
  void add_record(const Patch& patch) {
    blob::JournalHeader header{};
    header.magic = blob::kJournalMagic;
    header.uuid = newest_.uuid;
    header.epoch = newest_.epoch;
    header.sequence = newest_.journal_sequence + records_;
    header.position = newest_.journal_position + records_;
    header.durable_position = header.position;
    header.first_transaction = newest_.transaction_sequence + 1 + records_;
    header.transaction_count = 1;
    header.payload_bytes =
        static_cast<uint32_t>(sizeof(blob::JournalTransaction) + patch.bytes.size());
    blob::JournalTransaction transaction{};
    transaction.bytes = static_cast<uint32_t>(patch.bytes.size());
    transaction.op_count = 1 + patch.which % 4;
    std::vector<std::byte> record(sizeof header + header.payload_bytes);
    std::memcpy(record.data(), &header, sizeof header);
    std::memcpy(record.data() + sizeof header, &transaction, sizeof transaction);
    std::memcpy(record.data() + sizeof header + sizeof transaction, patch.bytes.data(),
                patch.bytes.size());
    header.crc = crc32c(record);
    std::memcpy(record.data(), &header, sizeof header);
    const uint64_t slot = header.position % newest_.journal_blocks;
    image_.write((newest_.journal_first_block + slot) * kBlockBytes, record);
    ++records_;
  }
  void patch_log(const Patch& patch) {
    if (!log_) log_ = find_log();
    if (!log_) return;
    const uint64_t at = *log_ + patch.which % 6 * 512;
    const uint64_t offset = patch.offset % 512;
    image_.write(at + offset, patch.bytes.first(std::min(patch.bytes.size(), 512 - offset)));
    std::vector<std::byte> block(512);
    image_.read(at, block);
    blobfs::SealedHeader header;
    std::memcpy(&header, block.data(), sizeof header);
    const size_t covered = std::min<size_t>(sizeof header - 4 + header.length, 508);
    header.crc = crc32c(std::span(block).subspan(4, covered));
    store(at, header);
  }
  std::optional<uint64_t> find_log() const {
    for (uint64_t at = 0; at < image_.size_bytes(); at += kBlockBytes) {
      const auto header = load<blobfs::SealedHeader>(at);
      if (header.version == blobfs::kSealedVersion && header.position == 0 &&
          header.length == 480) {
        return at;
      }
    }
    return {};
  }

  SimImage& image_;
  Superblock newest_;
  uint64_t records_ = 0;
  std::optional<uint64_t> log_;
};

// What was repaired is in order afterwards.
void repair(World& world, const SimImage& image) {
  const auto disk = std::make_shared<sim::SimDisk>(world.disk, image);
  const auto device = sim::open_sim_device(*world.context, disk);
  const auto repaired = FileSystem::repair(*world.context, *device);
  if (!repaired || !repaired->clean()) return;
  const auto report = FileSystem::check(*world.context, *device);
  if (!report || !report->clean() || report->notes != repaired->notes) std::abort();
}

void use(World& world, const SimImage& image) {
  const auto disk = std::make_shared<sim::SimDisk>(world.disk, image);
  {
    const auto device = sim::open_sim_device(*world.context, disk);
    if (const auto report = FileSystem::check(*world.context, *device); !report) {
      if (report.error().message().empty()) std::abort();
    }
    std::string text;
    static_cast<void>(FileSystem::dump(*world.context, *device, text));
  }
  auto fs = world.mount(disk);
  if (!fs) {
    if (fs.error().message().empty()) std::abort();
    return;
  }
  for (const std::string path : {"/d/table", "/log"}) {
    static_cast<void>((*fs)->stat(path));
    auto file = (*fs)->open(path, OpenMode::read_write);
    if (!file) continue;
    std::string bytes(5000, '\0');
    static_cast<void>((*file)->read(0, crash::as_writable_bytes(bytes)));
    static_cast<void>((*file)->append(crash::as_bytes("more")));
    static_cast<void>((*file)->sync());
  }
  static_cast<void>(crash::remove_all(**fs, ""));
  while (world.executor.run_one()) {
  }
  static_cast<void>((*fs)->unmount());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static World world;
  SimImage image = world.image;
  Patcher patcher(image);
  std::span<const std::byte> input(reinterpret_cast<const std::byte*>(data), size);
  for (unsigned patches = 0; input.size() >= 5 && patches < 16; ++patches) {
    Patch patch;
    patch.kind = std::to_integer<uint8_t>(input[0]);
    patch.which = std::to_integer<uint8_t>(input[1]);
    patch.offset = static_cast<uint16_t>(std::to_integer<unsigned>(input[2]) |
                                         std::to_integer<unsigned>(input[3]) << 8);
    const size_t length = std::to_integer<size_t>(input[4]);
    input = input.subspan(5);
    patch.bytes = input.first(std::min(length, input.size()));
    input = input.subspan(patch.bytes.size());
    patcher.apply(patch);
  }
  repair(world, image);
  use(world, image);
  return 0;
}
