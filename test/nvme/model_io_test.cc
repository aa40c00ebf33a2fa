// The controller model's I/O commands: data by PRPs and SGLs, caches and power, and every optional
// command. By hand-made commands; no driver.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <set>

#include "nvme/model_host.h"
#include "wire/nvme/block_ranges.h"

namespace basalt::nvme::model {
namespace {

class ModelIoTest : public testing::Test {
 protected:
  void bring_up(const ModelOptions& options) {
    host.reset();
    model = std::make_unique<ControllerModel>(options);
    host = std::make_unique<ModelHost>(*model, 8192);
    ASSERT_TRUE(host->bring_up());
    queue = host->create_queue_pair(1, 16);
  }
  unsigned run(const Command& command) { return host->status_of(queue, command); }
  Command with_buffer(IoOpcode opcode, uint64_t first, uint32_t count, std::byte* buffer,
                      size_t bytes) {
    Command command = ModelHost::io_command(opcode, first, count);
    host->set_buffer(command, buffer, bytes);
    return command;
  }
  unsigned write(uint64_t first, uint32_t count, char fill, uint32_t flags = 0) {
    const size_t bytes = count * size_t{512};
    std::byte* buffer = host->allocate((bytes + kPage - 1) / kPage);
    std::memset(buffer, fill, bytes);
    Command command = with_buffer(IoOpcode::write, first, count, buffer, bytes);
    command.cdw12 = command.cdw12 | flags;
    return run(command);
  }
  // The first byte of each block, as the media has it; '.' for zero.
  std::string content(uint64_t first, uint32_t count) {
    std::string text;
    for (uint64_t block = first; block < first + count; ++block) {
      const char c = static_cast<char>(model->media(1)[block * 512]);
      text += c == 0 ? '.' : c;
    }
    return text;
  }

  std::unique_ptr<ControllerModel> model;
  std::unique_ptr<ModelHost> host;
  ModelHost::Queue queue;
};

// ---- PRPs

TEST_F(ModelIoTest, DataComesBackThroughPrpListsOfAnyLength) {
  bring_up({.namespaces = {{.block_count = 2048, .block_size = 4096}}, .max_transfer_shift = 0});
  for (const uint32_t pages : {1u, 2u, 3u, 512u, 513u, 514u, 1030u}) {
    // The pages of a transfer lie in reverse, so that nothing works by accident of contiguity.
    std::byte* out = host->allocate(pages);
    std::byte* in = host->allocate(pages);
    std::vector<std::byte*> out_pages, in_pages;
    for (uint32_t i = 0; i < pages; ++i) {
      out_pages.push_back(out + (pages - 1 - i) * kPage);
      in_pages.push_back(in + (pages - 1 - i) * kPage);
      for (size_t j = 0; j < kPage; j += 4) {
        const uint32_t word = pages << 20 | i;
        std::memcpy(out_pages.back() + j, &word, sizeof word);
      }
    }
    Command command = ModelHost::io_command(IoOpcode::write, 7, pages);
    host->set_pages(command, out_pages);
    ASSERT_EQ(run(command), kOk) << pages;
    EXPECT_EQ(std::memcmp(model->media(1).data() + 7 * kPage, out_pages[0], kPage), 0);
    command = ModelHost::io_command(IoOpcode::read, 7, pages);
    host->set_pages(command, in_pages);
    ASSERT_EQ(run(command), kOk) << pages;
    EXPECT_EQ(std::memcmp(in, out, pages * kPage), 0) << pages;
    bring_up({.namespaces = {{.block_count = 2048, .block_size = 4096}}, .max_transfer_shift = 0});
  }
}

TEST_F(ModelIoTest, DataMayStartInTheMiddleOfItsFirstPage) {
  bring_up({});
  std::byte* buffer = host->allocate(4);
  for (size_t i = 0; i < 4 * kPage; ++i) buffer[i] = static_cast<std::byte>(i / 512);
  Command command = ModelHost::io_command(IoOpcode::write, 0, 10);  // 3.5 + 1.5 … pages
  command.data.prp1 = ModelHost::iova(buffer + 512);
  command.data.prp2 = ModelHost::iova(buffer + kPage);
  EXPECT_EQ(run(command), kOk);
  for (size_t block = 0; block < 10; ++block) {
    EXPECT_EQ(model->media(1)[block * 512], static_cast<std::byte>(block + 1));
  }
}

TEST_F(ModelIoTest, PrpOffsetsThatAreNotAllowedAreRefused) {
  bring_up({});
  std::byte* buffer = host->allocate(4);
  std::byte* list = host->allocate(1);
  Command command = with_buffer(IoOpcode::read, 0, 16, buffer, 2 * kPage);
  ASSERT_EQ(run(command), kOk);
  command.data.prp2 = command.data.prp2 + 512;
  EXPECT_EQ(run(command), 0x13u);
  command = ModelHost::io_command(IoOpcode::read, 0, 24);
  command.data.prp1 = ModelHost::iova(buffer);
  command.data.prp2 = ModelHost::iova(list + 8);  // a list may start anywhere at a multiple of 8
  const le64 entries[] = {le64(0), le64(ModelHost::iova(buffer + kPage)),
                          le64(ModelHost::iova(buffer + 2 * kPage))};
  std::memcpy(list, entries, sizeof entries);
  EXPECT_EQ(run(command), kOk);
  command.data.prp2 = ModelHost::iova(list + 4);
  EXPECT_EQ(run(command), 0x13u);
  command.data.prp2 = ModelHost::iova(list + 8);
  list[8] = std::byte{0x10};  // of the first entry
  EXPECT_EQ(run(command), 0x13u);
}

TEST_F(ModelIoTest, MemoryThatIsNotMappedIsADataTransferError) {
  bring_up({});
  std::byte* buffer = host->allocate(2);
  Command command = with_buffer(IoOpcode::read, 0, 16, buffer, 2 * kPage);
  Command virtual_address = command;
  virtual_address.data.prp1 = command.data.prp1 - kIovaOffset;
  EXPECT_EQ(run(virtual_address), code_of(kDataTransferError));
  Command second = command;
  second.data.prp2 = 0x7000;
  EXPECT_EQ(run(second), code_of(kDataTransferError));
  Command list = ModelHost::io_command(IoOpcode::read, 0, 32);
  list.data.prp1 = command.data.prp1;
  list.data.prp2 = 0x7000;
  EXPECT_EQ(run(list), code_of(kDataTransferError));
  EXPECT_EQ(model->counters().unreachable, 3u);

  std::vector<std::byte> other(4 * kPage);
  const uint64_t iova = 0x10'0000;
  ASSERT_TRUE(model->map(iova, other).ok());
  EXPECT_EQ(model->map(iova + kPage, {buffer, kPage}).code(), StatusCode::already_exists);
  Command mapped = ModelHost::io_command(IoOpcode::read, 0, 8);
  mapped.data.prp1 = iova + 3 * kPage;
  EXPECT_EQ(run(mapped), kOk);
  mapped.data.prp1 = iova + 4 * kPage - 512;
  mapped.data.prp2 = iova;
  EXPECT_EQ(run(mapped), kOk);
  EXPECT_EQ(model->unmap(iova, kPage).code(), StatusCode::not_found);
  ASSERT_TRUE(model->unmap(iova, other.size()).ok());
  EXPECT_EQ(run(mapped), code_of(kDataTransferError));
}

TEST_F(ModelIoTest, LimitsOfRangeAndTransfer) {
  bring_up({.namespaces = {{.block_count = 100}}, .max_transfer_shift = 1});
  std::byte* buffer = host->allocate(4);
  const auto read = [&](uint64_t first, uint32_t count) {
    return run(with_buffer(IoOpcode::read, first, count, buffer, count * size_t{512}));
  };
  EXPECT_EQ(read(99, 1), kOk);
  EXPECT_EQ(read(99, 2), code_of(kLbaOutOfRange));
  EXPECT_EQ(read(100, 1), code_of(kLbaOutOfRange));
  EXPECT_EQ(read(~uint64_t{0}, 1), code_of(kLbaOutOfRange));
  EXPECT_EQ(read(0, 16), kOk);
  EXPECT_EQ(read(0, 17), code_of(kInvalidField));
  Command command = with_buffer(IoOpcode::read, 0, 1, buffer, 512);
  command.nsid = 2;
  EXPECT_EQ(run(command), code_of(kInvalidNamespace));
  command.nsid = 0;
  EXPECT_EQ(run(command), code_of(kInvalidNamespace));
}

// ---- SGLs

class ModelSglTest : public ModelIoTest {
 protected:
  void SetUp() override {
    bring_up({.sgl = true});
    segment = host->allocate(1);
    buffer = host->allocate(4);
    for (size_t i = 0; i < 65536 * 512 && i < 64 * 512; ++i) {
      model->media(1)[i] = static_cast<std::byte>('a' + i / 512);
    }
  }
  static SglDescriptor descriptor(SglType type, const void* address, uint32_t length) {
    SglDescriptor result{};
    result.address = ModelHost::iova(address);
    result.length = length;
    result.type = static_cast<uint8_t>(type);
    return result;
  }
  static Command read(const SglDescriptor& first, uint32_t blocks) {
    Command command = ModelHost::io_command(IoOpcode::read, 0, blocks);
    command.flags = kDataIsSgl;
    std::memcpy(static_cast<void*>(&command.data), &first, sizeof first);
    return command;
  }
  void put(size_t index, const SglDescriptor& value) {
    std::memcpy(segment + index * sizeof value, &value, sizeof value);
  }
  std::byte* segment = nullptr;
  std::byte* buffer = nullptr;
};

TEST_F(ModelSglTest, OneDataBlockNeedsNoAlignment) {
  EXPECT_EQ(run(read(descriptor(SglType::data_block, buffer + 3, 1024), 2)), kOk);
  EXPECT_EQ(buffer[3], std::byte{'a'});
  EXPECT_EQ(buffer[3 + 1023], std::byte{'b'});
  EXPECT_EQ(run(read(descriptor(SglType::data_block, buffer, 1023), 2)), 0x0fu);
  EXPECT_EQ(run(read(descriptor(SglType::data_block, buffer, 1025), 2)), 0x0fu);
  EXPECT_EQ(run(read(descriptor(SglType::keyed_data_block, buffer, 1024), 2)), 0x11u);
}

TEST_F(ModelSglTest, SegmentsChainAndBitBucketsSwallow) {
  put(0, descriptor(SglType::data_block, buffer, 512));
  put(1, descriptor(SglType::bit_bucket, nullptr, 1024));
  put(2, descriptor(SglType::last_segment, segment + 2048, 32));
  put(128, descriptor(SglType::data_block, buffer + 512, 100));
  put(129, descriptor(SglType::data_block, buffer + 2048, 412));
  EXPECT_EQ(run(read(descriptor(SglType::segment, segment, 48), 4)), kOk);
  EXPECT_EQ(buffer[0], std::byte{'a'});
  EXPECT_EQ(buffer[512], std::byte{'d'});
  EXPECT_EQ(buffer[611], std::byte{'d'});
  EXPECT_EQ(buffer[612], std::byte{0});
  EXPECT_EQ(buffer[2048 + 411], std::byte{'d'});
}

TEST_F(ModelSglTest, MalformedSegmentsAreRefused) {
  put(0, descriptor(SglType::data_block, buffer, 512));
  put(1, descriptor(SglType::segment, segment, 16));
  EXPECT_EQ(run(read(descriptor(SglType::last_segment, segment, 32), 1)), 0x0du);
  EXPECT_EQ(run(read(descriptor(SglType::segment, segment, 17), 1)), 0x0du);
  EXPECT_EQ(run(read(descriptor(SglType::segment, segment, 0), 1)), 0x0du);
  put(0, descriptor(SglType::segment, segment, 16));  // for ever
  EXPECT_EQ(run(read(descriptor(SglType::segment, segment, 16), 1)), 0x0eu);
  SglDescriptor nowhere = descriptor(SglType::last_segment, segment, 16);
  nowhere.address = 0x3000;
  EXPECT_EQ(run(read(nowhere, 1)), code_of(kDataTransferError));
}

TEST_F(ModelIoTest, SglsAreRefusedUnlessConfigured) {
  bring_up({});
  Command command = ModelHost::io_command(IoOpcode::read, 0, 1);
  command.flags = kDataIsSgl;
  EXPECT_EQ(run(command), code_of(kInvalidField));
}

// ---- Cache and power

TEST_F(ModelIoTest, APowerCutLosesWhatWasNotFlushed) {
  bring_up({.volatile_cache = true});
  ASSERT_EQ(write(0, 2, 'a'), kOk);
  ASSERT_EQ(run(ModelHost::io_command(IoOpcode::flush, 0, 1)), kOk);
  ASSERT_EQ(write(1, 2, 'b'), kOk);
  ASSERT_EQ(write(5, 1, 'f', kForceUnitAccess), kOk);
  ASSERT_EQ(run(ModelHost::io_command(IoOpcode::write_zeroes, 0, 1)), kOk);
  EXPECT_EQ(content(0, 6), ".bb..f");
  EXPECT_EQ(model->unflushed_blocks(1), 3u);
  model->power_cut();
  EXPECT_EQ(content(0, 6), "aa...f");
  EXPECT_FALSE(model->ready());
}

TEST_F(ModelIoTest, FuaMakesCachedBlocksDurable) {
  bring_up({.volatile_cache = true});
  ASSERT_EQ(write(0, 3, 'a'), kOk);
  ASSERT_EQ(write(1, 1, 'b', kForceUnitAccess), kOk);
  model->power_cut();
  EXPECT_EQ(content(0, 3), ".b.");
}

TEST_F(ModelIoTest, AShutdownFlushes) {
  bring_up({.volatile_cache = true});
  ASSERT_EQ(write(0, 1, 'a'), kOk);
  model->write32(0x14, kEntrySizes | kEnable | kShutdownNormal);
  model->power_cut();
  EXPECT_EQ(content(0, 1), "a");
}

TEST_F(ModelIoTest, WithoutAVolatileCacheEverythingSurvives) {
  bring_up({});
  ASSERT_EQ(write(0, 1, 'a'), kOk);
  model->power_cut();
  EXPECT_EQ(content(0, 1), "a");
  EXPECT_EQ(model->unflushed_blocks(1), 0u);
}

// ---- Other commands

TEST_F(ModelIoTest, CompareTellsEqualFromUnequal) {
  bring_up({});
  ASSERT_EQ(write(3, 2, 'x'), kOk);
  std::byte* buffer = host->allocate(1);
  std::memset(buffer, 'x', kPage);
  const Command compare = with_buffer(IoOpcode::compare, 3, 2, buffer, 1024);
  EXPECT_EQ(run(compare), kOk);
  buffer[1023] = std::byte{0};
  EXPECT_EQ(run(compare), code_of(kCompareFailure));
}

TEST_F(ModelIoTest, FusedCompareAndWriteIsOneCommand) {
  bring_up({});
  std::byte* old_data = host->allocate(1);
  std::byte* new_data = host->allocate(1);
  std::memset(new_data, 'n', kPage);
  Command compare = with_buffer(IoOpcode::compare, 0, 1, old_data, 512);
  Command write = with_buffer(IoOpcode::write, 0, 1, new_data, 512);
  compare.flags = kFusedFirst;
  write.flags = kFusedSecond;
  compare.cid = 1;
  write.cid = 2;
  const auto both = [&](const Command& first, const Command& second) {
    host->submit(queue, first);
    host->submit(queue, second);
    host->ring(queue);
    model->run_until_idle();
    std::vector<unsigned> codes;
    while (const auto completion = host->poll(queue))
      codes.push_back(code_of(completion->status()));
    return codes;
  };
  EXPECT_EQ(both(compare, write), (std::vector<unsigned>{0, 0}));
  EXPECT_EQ(content(0, 1), "n");
  EXPECT_EQ(both(compare, write), (std::vector<unsigned>{code_of(kCompareFailure), 0x09}));
  Command elsewhere = write;
  elsewhere.cdw10 = 1;
  EXPECT_EQ(both(compare, elsewhere),
            (std::vector<unsigned>{code_of(kInvalidField), code_of(kInvalidField)}));
  Command plain = write;
  plain.flags = 0;
  EXPECT_EQ(both(compare, plain), (std::vector<unsigned>{0x0a, 0}));
  EXPECT_EQ(run(write), 0x0au);
  EXPECT_EQ(run(compare), 0x0au);
}

TEST_F(ModelIoTest, DeallocatedBlocksReadAsZeros) {
  bring_up({.namespaces = {{.block_count = 64}}});
  ASSERT_EQ(write(0, 8, 'a'), kOk);
  std::byte* list = host->allocate(1);
  DatasetRange ranges[2]{};
  ranges[0].first_block = 1;
  ranges[0].block_count = 2;
  ranges[1].first_block = 6;
  ranges[1].block_count = 1;
  std::memcpy(list, ranges, sizeof ranges);
  Command command = ModelHost::io_command(IoOpcode::dataset_management, 1, 1);
  command.cdw11 = kDatasetDeallocate;
  command.cdw12 = 0;
  host->set_buffer(command, list, 32);
  ASSERT_EQ(run(command), kOk);
  EXPECT_EQ(content(0, 8), "a..aaa.a");
  ranges[1].first_block = 64;
  std::memcpy(list, ranges, sizeof ranges);
  EXPECT_EQ(run(command), code_of(kLbaOutOfRange));
}

TEST_F(ModelIoTest, UncorrectableBlocksFailUntilTheyAreWritten) {
  bring_up({});
  std::byte* buffer = host->allocate(1);
  ASSERT_EQ(run(ModelHost::io_command(IoOpcode::write_uncorrectable, 4, 2)), kOk);
  EXPECT_EQ(run(with_buffer(IoOpcode::read, 2, 3, buffer, 1536)), code_of(kUnrecoveredReadError));
  EXPECT_EQ(run(with_buffer(IoOpcode::read, 2, 2, buffer, 1024)), kOk);
  EXPECT_EQ(run(ModelHost::io_command(IoOpcode::verify, 5, 1)), code_of(kUnrecoveredReadError));
  ASSERT_EQ(write(4, 2, 'w'), kOk);
  EXPECT_EQ(run(ModelHost::io_command(IoOpcode::verify, 0, 8)), kOk);
}

TEST_F(ModelIoTest, CopyGathersRanges) {
  bring_up({.copy_range_blocks = 4, .copy_blocks = 6, .copy_ranges = 2});
  ASSERT_EQ(write(0, 1, 'a'), kOk);
  ASSERT_EQ(write(1, 1, 'b'), kOk);
  ASSERT_EQ(write(9, 1, 'c'), kOk);
  std::byte* list = host->allocate(1);
  CopyRange ranges[3]{};
  ranges[0].first_block = 9;
  ranges[1].first_block = 0;
  ranges[1].block_count = 1;
  std::memcpy(list, ranges, sizeof ranges);
  Command command = ModelHost::io_command(IoOpcode::copy, 20, 1);
  host->set_buffer(command, list, sizeof ranges);
  command.cdw12 = 1;
  ASSERT_EQ(run(command), kOk);
  EXPECT_EQ(content(19, 5), ".cab.");
  command.cdw12 = 2;
  EXPECT_EQ(run(command), 0x183u);
  ranges[0].block_count = 4;
  std::memcpy(list, ranges, sizeof ranges);
  command.cdw12 = 1;
  EXPECT_EQ(run(command), 0x183u);
}

TEST_F(ModelIoTest, NullNamespacesTouchNothing) {
  bring_up({.namespaces = {{.block_count = uint64_t{1} << 40, .backing = Backing::null}}});
  std::byte* buffer = host->allocate(1);
  std::memset(buffer, 'q', kPage);
  EXPECT_EQ(run(with_buffer(IoOpcode::write, uint64_t{1} << 39, 8, buffer, kPage)), kOk);
  EXPECT_EQ(run(with_buffer(IoOpcode::read, 12345, 8, buffer, kPage)), kOk);
  EXPECT_EQ(buffer[100], std::byte{'q'});
  EXPECT_EQ(run(ModelHost::io_command(IoOpcode::write_zeroes, 0, 65536)), kOk);
}

// Whatever a command says, the model answers it; run under sanitizers this is a test of its memory
// accesses too.
TEST_F(ModelIoTest, RandomCommandsAreAnswered) {
  bring_up({.namespaces = {{.block_count = 1000}}, .sgl = true, .volatile_cache = true});
  std::byte* area = host->allocate(64);
  uint64_t state = 1;
  const auto random = [&] {
    return state = state * 6364136223846793005u + 1442695040888963407u, state >> 33;
  };
  for (int i = 0; i < 20000; ++i) {
    for (size_t j = 0; j < 16; ++j) {  // new rubbish for lists and segments
      const le64 word(random() % 2 ? ModelHost::iova(area) + random() % (64 * kPage) / 8 * 8
                                   : random());
      std::memcpy(area + random() % (64 * kPage - 8) / 8 * 8, &word, sizeof word);
    }
    Command command;
    command.opcode = static_cast<uint8_t>(random() % 0x20);
    command.flags = static_cast<uint8_t>(random() % 2 ? 0 : random());
    command.nsid = static_cast<uint32_t>(random() % 3);
    command.data.prp1 = random() % 4 ? ModelHost::iova(area) + random() % (64 * kPage) : random();
    command.data.prp2 =
        random() % 4 ? ModelHost::iova(area) + random() % 64 * kPage : random() << 32;
    command.cdw10 = static_cast<uint32_t>(random() % 1100);
    command.cdw11 = static_cast<uint32_t>(random() % 8 ? 0 : random());
    command.cdw12 = static_cast<uint32_t>(random());
    ASSERT_TRUE(host->run(queue, command)) << i;
    Command admin = command;
    admin.opcode = static_cast<uint8_t>(random());
    if (admin.opcode == 0x0c || admin.opcode <= 5) continue;  // events and queues
    ASSERT_TRUE(host->run(host->admin, admin)) << i;
  }
  EXPECT_FALSE(model->fatal());
}

}  // namespace
}  // namespace basalt::nvme::model
