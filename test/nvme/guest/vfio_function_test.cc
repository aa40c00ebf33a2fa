// VfioFunction on a real kernel: registers, DMA addresses, interrupts, reset, removal, errors.
// Method: runs inside a guest as root, with an emulated controller bound to vfio-pci behind an IOMMU (run.sh). The
// controller's address is the first argument that is no flag, or the first word of NVME_BDFS. BASALT_IOMMU_BITS says
// how wide the IOMMU is. Each case opens the function and leaves it bound.
#include "nvme/vfio/vfio_function.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <linux/capability.h>
#include <linux/vfio.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "nvme/pci_devices.h"

namespace basalt::nvme {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

std::string bdf;

constexpr uint32_t at(Register which) { return static_cast<uint32_t>(which); }

// Some of this process's memory, gone at the end.
class Pages {
 public:
  explicit Pages(size_t bytes, int protection = PROT_READ | PROT_WRITE, void* where = nullptr)
      : bytes_(bytes),
        base_(mmap(where, bytes, protection,
                   MAP_PRIVATE | MAP_ANONYMOUS | (where != nullptr ? MAP_FIXED_NOREPLACE : 0), -1,
                   0)) {
    EXPECT_NE(base_, MAP_FAILED);
  }
  ~Pages() { munmap(base_, bytes_); }
  std::byte* data() const { return static_cast<std::byte*>(base_); }
  uint64_t address() const { return reinterpret_cast<uintptr_t>(base_); }
  DmaMemory memory() const { return {.bytes = {data(), bytes_}, .fd = -1, .fd_offset = 0}; }

 private:
  const size_t bytes_;
  void* const base_;
};

class VfioFunctionTest : public testing::Test {
 protected:
  void SetUp() override {
    auto opened = VfioFunction::open(bdf);
    ASSERT_TRUE(opened) << opened.error().to_string();
    function_ = std::move(*opened);
  }
  uint32_t read(Register which) {
    const auto value = function_->read32(at(which));
    EXPECT_TRUE(value) << value.error().to_string();
    return value.value_or(0);
  }
  void write(Register which, uint32_t value) {
    const Status status = function_->write32(at(which), value);
    EXPECT_TRUE(status.ok()) << status.to_string();
  }
  // Starts the controller with admin queues of 8 entries in two pages at `iova`; true when it is ready.
  bool enable(uint64_t iova) {
    write(Register::admin_queue_attributes, 7 << 16 | 7);
    EXPECT_TRUE(function_->write64(at(Register::admin_submission_queue), iova).ok());
    EXPECT_TRUE(function_->write64(at(Register::admin_completion_queue), iova + 4096).ok());
    write(Register::configuration, kEntrySizes | kCommandSetNvm | kEnable);
    for (int i = 0; i < 2000; ++i) {
      if (ControllerStatus{read(Register::status)}.ready()) return true;
      std::this_thread::sleep_for(5ms);
    }
    return false;
  }

  std::unique_ptr<PciFunction> function_;
};

TEST_F(VfioFunctionTest, ReadsRegisters) {
  EXPECT_EQ(function_->name(), bdf);
  const auto cap = function_->read64(at(Register::capabilities));
  ASSERT_TRUE(cap) << cap.error().to_string();
  const Capabilities capabilities{*cap};
  EXPECT_GE(capabilities.max_queue_entries(), 2u);
  EXPECT_TRUE(capabilities.nvm_command_set());
  EXPECT_EQ(capabilities.min_page_bytes(), 4096u);
  EXPECT_GE(read(Register::version) >> 16, 1u);
  EXPECT_FALSE(ControllerStatus{read(Register::status)}.ready()) << "opening has reset it";
  EXPECT_GE(function_->doorbells().size(), 4096u);
  EXPECT_GE(function_->removal_fd(), 0);
}

// Goal: 64-bit registers keep both halves.
TEST_F(VfioFunctionTest, WritesRegisters) {
  const uint64_t value = 0x1234'5678'9abc'd000;
  ASSERT_TRUE(function_->write64(at(Register::admin_submission_queue), value).ok());
  EXPECT_EQ(function_->read64(at(Register::admin_submission_queue)), value);
  EXPECT_EQ(function_->read32(at(Register::admin_submission_queue)), 0x9abc'd000u);
  EXPECT_EQ(function_->read32(at(Register::admin_submission_queue) + 4), 0x1234'5678u);
}

TEST_F(VfioFunctionTest, RefusesOffsetsWithoutRegister) {
  for (const uint32_t offset : {1u, 2u, 3u, 0x7fff'fffcu, 0xffff'fffcu, 0xffff'ffffu}) {
    EXPECT_EQ(function_->read32(offset).error().code(), StatusCode::invalid_argument) << offset;
    EXPECT_EQ(function_->write32(offset, 0).code(), StatusCode::invalid_argument) << offset;
  }
}

// Goal: an all-ones answer of a controller that is there is an answer. Method: INTMS reads back as it was set.
TEST_F(VfioFunctionTest, AllOnesAreNotAlwaysRemoval) {
  write(Register::interrupt_mask_set, 0xffff'ffff);
  EXPECT_EQ(read(Register::interrupt_mask_set), 0xffff'ffff);
  write(Register::interrupt_mask_clear, 0xffff'ffff);
  EXPECT_EQ(read(Register::interrupt_mask_set), 0u);
}

// Goal: memory keeps its address where the IOMMU is wide enough, and gets a low one where it is not.
TEST_F(VfioFunctionTest, MapsMemory) {
  const char* bits = std::getenv("BASALT_IOMMU_BITS");
  ASSERT_NE(bits, nullptr) << "BASALT_IOMMU_BITS: 48 or 39";
  const bool wide = std::strcmp(bits, "48") == 0;
  for (const size_t bytes : {size_t{4096}, size_t{3} << 12, size_t{2} << 20, size_t{5} << 20}) {
    const Pages pages(bytes);
    const auto iova = function_->map_dma(pages.memory());
    ASSERT_TRUE(iova) << iova.error().to_string();
    if (wide) {
      EXPECT_EQ(*iova, pages.address());
    } else {
      EXPECT_LT(*iova + bytes, uint64_t{1} << 39);
    }
    const auto again = function_->map_dma(pages.memory());
    ASSERT_TRUE(again) << "the same memory twice: " << again.error().to_string();
    EXPECT_NE(*again, *iova);
    for (const uint64_t mapped : {*iova, *again}) {
      const Status status = function_->unmap_dma(mapped, bytes);
      EXPECT_TRUE(status.ok()) << status.to_string();
    }
    EXPECT_EQ(function_->unmap_dma(*iova, bytes).code(), StatusCode::invalid_argument);
  }
}

// Goal: memory at an address that even 39 bits can say keeps it; where interrupts are written, it does not.
TEST_F(VfioFunctionTest, MapsLowMemory) {
  const Pages low(8192, PROT_READ | PROT_WRITE, reinterpret_cast<void*>(uintptr_t{0x20'0000'0000}));
  const auto same = function_->map_dma(low.memory());
  ASSERT_TRUE(same) << same.error().to_string();
  EXPECT_EQ(*same, low.address());

  const Pages interrupts(8192, PROT_READ | PROT_WRITE,
                         reinterpret_cast<void*>(uintptr_t{0xfee0'0000}));
  const auto other = function_->map_dma(interrupts.memory());
  ASSERT_TRUE(other) << other.error().to_string();
  EXPECT_NE(*other, interrupts.address());
}

TEST_F(VfioFunctionTest, RefusesMemoryItCannotMap) {
  const Pages pages(8192);
  EXPECT_EQ(function_->map_dma({.bytes = {pages.data(), 100}}).error().code(),
            StatusCode::invalid_argument);
  EXPECT_EQ(function_->map_dma({.bytes = {pages.data() + 512, 4096}}).error().code(),
            StatusCode::invalid_argument);
  EXPECT_EQ(function_->map_dma({}).error().code(), StatusCode::invalid_argument);
  const Pages read_only(8192, PROT_READ);
  const auto refused = function_->map_dma(read_only.memory());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), StatusCode::invalid_argument) << refused.error().to_string();
  EXPECT_THAT(refused.error().to_string(), HasSubstr("reading and writing"));
}

// Drops and regains CAP_IPC_LOCK, which makes root exempt from the limit of locked memory.
void set_may_lock_anything(bool may) {
  __user_cap_header_struct head{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2]{};
  ASSERT_EQ(syscall(SYS_capget, &head, data), 0);
  const uint32_t bit = 1u << CAP_IPC_LOCK;
  data[0].effective = may ? data[0].effective | bit : data[0].effective & ~bit;
  ASSERT_EQ(syscall(SYS_capset, &head, data), 0);
}

// Goal: the commonest failure in the field says both figures and the command that helps, and leaves no trace.
TEST_F(VfioFunctionTest, SaysWhenTheMemoryLockLimitIsReached) {
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_MEMLOCK, &before), 0);
  const rlimit small{.rlim_cur = 65536, .rlim_max = before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_MEMLOCK, &small), 0);
  set_may_lock_anything(false);
  const Pages pages(1 << 20);
  const auto refused = function_->map_dma(pages.memory());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), StatusCode::no_space);
  for (const char* part : {"65536 B", "1048576 B", "ulimit -l"}) {
    EXPECT_THAT(refused.error().to_string(), HasSubstr(part));
  }
  set_may_lock_anything(true);
  ASSERT_EQ(setrlimit(RLIMIT_MEMLOCK, &before), 0);
  EXPECT_TRUE(function_->map_dma(pages.memory()));
}

TEST_F(VfioFunctionTest, TurnsInterruptsOnAndOff) {
  ASSERT_GT(function_->interrupt_count(), 1u);
  std::vector<UniqueFd> events;
  std::vector<int> fds;
  for (uint32_t i = 0; i < function_->interrupt_count() + 1; ++i) {
    events.emplace_back(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    fds.push_back(events.back().get());
  }
  EXPECT_EQ(function_->set_interrupts(fds).code(), StatusCode::invalid_argument) << "one too many";
  const int none[] = {fds[0], -1};
  EXPECT_EQ(function_->set_interrupts(none).code(), StatusCode::invalid_argument);
  fds.pop_back();
  for (const size_t count : {size_t{0}, size_t{1}, fds.size(), size_t{2}, size_t{0}, size_t{0}}) {
    const Status status = function_->set_interrupts(std::span(fds).first(count));
    EXPECT_TRUE(status.ok()) << count << ": " << status.to_string();
  }
}

// Goal: the whole way, registers to DMA to interrupt. Method: one Identify on the admin queue, its completion
// awaited on the eventfd of vector 0; then without bus mastering, which must stop both.
TEST_F(VfioFunctionTest, ReachesMemoryAndInterrupts) {
  const Pages pages(3 * 4096);  // submission queue, completion queue, data
  std::memset(pages.data(), 0, 3 * 4096);
  const auto iova = function_->map_dma(pages.memory());
  ASSERT_TRUE(iova) << iova.error().to_string();
  const UniqueFd event(eventfd(0, EFD_CLOEXEC));
  const int fd = event.get();
  ASSERT_TRUE(function_->set_interrupts({&fd, 1}).ok());
  ASSERT_TRUE(function_->set_bus_master(true).ok());
  ASSERT_TRUE(enable(*iova));

  const auto identify = [&](uint32_t slot) {
    uint32_t command[16] = {0x06 | slot << 16};
    const uint64_t data = *iova + 8192;
    std::memcpy(&command[6], &data, sizeof data);
    command[10] = 1;  // the controller
    std::memcpy(pages.data() + slot * 64, command, sizeof command);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    const auto doorbells = function_->doorbells();
    *reinterpret_cast<volatile uint32_t*>(doorbells.data()) = slot + 1;
    pollfd waited{.fd = fd, .events = POLLIN, .revents = 0};
    return poll(&waited, 1, slot == 0 ? 10'000 : 300) == 1;
  };
  ASSERT_TRUE(identify(0)) << "no interrupt in 10 s";
  uint64_t count = 0;
  EXPECT_EQ(::read(fd, &count, sizeof count), static_cast<ssize_t>(sizeof count));
  uint16_t status = 0;
  std::memcpy(&status, pages.data() + 4096 + 14, sizeof status);
  EXPECT_EQ(status, 1) << "success, with the phase of the first round";
  const std::string serial(reinterpret_cast<const char*>(pages.data() + 8192 + 4), 20);
  EXPECT_THAT(serial, HasSubstr("guest0"));

  ASSERT_TRUE(function_->set_bus_master(false).ok());
  EXPECT_FALSE(identify(1));
  ASSERT_TRUE(function_->set_interrupts({}).ok());
}

TEST_F(VfioFunctionTest, Resets) {
  const Pages queues(8192);
  const auto iova = function_->map_dma(queues.memory());
  ASSERT_TRUE(iova) << iova.error().to_string();
  ASSERT_TRUE(enable(*iova));
  const Status status = function_->reset();
  ASSERT_TRUE(status.ok()) << status.to_string();
  EXPECT_EQ(read(Register::configuration), 0u);
  EXPECT_FALSE(ControllerStatus{read(Register::status)}.ready());
  EXPECT_GE(read(Register::version) >> 16, 1u) << "registers answer as before";
  EXPECT_TRUE(enable(*iova)) << "and it works as before";
}

// Goal: where BAR 0 cannot be mapped, the device's descriptor gives the same registers.
TEST_F(VfioFunctionTest, WorksWithoutMapping) {
  const uint32_t version = read(Register::version);
  function_.reset();
  const auto container = VfioContainer::open(*PciDevices().find(bdf), {});
  ASSERT_TRUE(container) << container.error().to_string();
  const auto device = (*container)->open_device(bdf);
  ASSERT_TRUE(device) << device.error().to_string();
  auto info = query_region_info(device->get(), VFIO_PCI_BAR0_REGION_INDEX, bdf);
  ASSERT_TRUE(info) << info.error().to_string();
  info->mappable.clear();
  const auto bar = VfioBar::open(device->get(), *info, bdf);
  ASSERT_TRUE(bar) << bar.error().to_string();
  EXPECT_TRUE((*bar)->mapped_from(kFirstDoorbell).empty());
  EXPECT_EQ((*bar)->read32(at(Register::version)), version);
  ASSERT_TRUE((*bar)->write32(at(Register::admin_queue_attributes), 3 << 16 | 3).ok());
  EXPECT_EQ((*bar)->read32(at(Register::admin_queue_attributes)), 3u << 16 | 3u);
}

// Goal: a group of which the kernel has another function is refused, and the function is named. Method: two controllers
// in one slot, which the IOMMU cannot tell apart; the other one goes to the kernel's driver.
TEST_F(VfioFunctionTest, NamesWhoKeepsTheGroup) {
  const PciDevices devices;
  std::string other;
  for (const PciDevice& member : devices.group_members(*devices.find(bdf)->iommu_group)) {
    if (member.class_code == kNvmeClass && member.address != bdf) other = member.address;
  }
  if (other.empty()) GTEST_SKIP() << "no other controller in the group";
  const auto held = VfioFunction::open(other);
  ASSERT_FALSE(held);
  EXPECT_EQ(held.error().code(), StatusCode::busy) << "the group is open, and can be open once";
  function_.reset();
  ASSERT_TRUE(devices.unbind(other).ok());
  const auto refused = VfioFunction::open(bdf);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), StatusCode::busy);
  EXPECT_THAT(refused.error().to_string(), HasSubstr(other + " (nvme)"));
  ASSERT_TRUE(devices.bind(other).ok());
  EXPECT_TRUE(VfioFunction::open(bdf));
}

TEST_F(VfioFunctionTest, IsOpenOnce) {
  const auto second = VfioFunction::open(bdf);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code(), StatusCode::busy);
  EXPECT_THAT(second.error().to_string(), HasSubstr("fuser /dev/vfio/"));
  const Status unbound = PciDevices().unbind(bdf);
  EXPECT_EQ(unbound.code(), StatusCode::busy) << unbound.to_string();
  function_.reset();
  EXPECT_TRUE(VfioFunction::open(bdf)) << "and again when the first has gone";
}

// Goal: the kernel's wish to have the function back arrives, and it waits until this one lets go. Then the whole way
// between the drivers: the kernel's own makes block devices, and a mounted one is not taken away.
TEST_F(VfioFunctionTest, GivesWayToTheKernel) {
  pollfd removal{.fd = function_->removal_fd(), .events = POLLIN, .revents = 0};
  EXPECT_EQ(poll(&removal, 1, 0), 0);
  Status unbound;
  std::thread kernel([&] { unbound = PciDevices().unbind(bdf, InUse::take_anyway); });
  EXPECT_EQ(poll(&removal, 1, 20'000), 1);
  EXPECT_GE(read(Register::version) >> 16, 1u) << "usable until it is closed";
  function_.reset();
  kernel.join();
  ASSERT_TRUE(unbound.ok()) << unbound.to_string();

  const PciDevices devices;
  EXPECT_EQ(devices.find(bdf)->driver, "nvme");
  const auto refused = VfioFunction::open(bdf);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), StatusCode::not_found);
  EXPECT_THAT(
      refused.error().to_string(),
      HasSubstr("not bound to vfio-pci but to the driver nvme; run `basalt nvme bind " + bdf));
  std::vector<PciBlockDevice> blocks;
  for (int i = 0; i < 1000 && blocks.empty(); ++i) {
    std::this_thread::sleep_for(10ms);
    blocks = devices.find(bdf)->block_devices;
  }
  ASSERT_FALSE(blocks.empty());
  const std::string node = "/dev/" + blocks[0].name;
  ASSERT_EQ(std::system(("waitfor " + node + " 10 && mke2fs -F " + node + " >/dev/null").c_str()),
            0);
  ASSERT_EQ(std::system("mkdir -p /mnt/nvme"), 0);
  ASSERT_EQ(mount(node.c_str(), "/mnt/nvme", "ext4", 0, ""), 0) << std::strerror(errno);
  Status bound = devices.bind(bdf);
  EXPECT_EQ(bound.code(), StatusCode::busy);
  EXPECT_THAT(bound.to_string(), HasSubstr(blocks[0].name + " is mounted at /mnt/nvme"));
  ASSERT_EQ(umount("/mnt/nvme"), 0);
  {  // held exclusively, by what no table shows
    const UniqueFd held(::open(node.c_str(), O_RDONLY | O_EXCL | O_CLOEXEC));
    ASSERT_TRUE(held);
    bound = devices.bind(bdf);
    EXPECT_EQ(bound.code(), StatusCode::busy);
    EXPECT_THAT(bound.to_string(), HasSubstr(blocks[0].name + " is held"));
  }
  bound = devices.bind(bdf);
  EXPECT_TRUE(bound.ok()) << bound.to_string();
  EXPECT_EQ(devices.find(bdf)->driver, "vfio-pci");
  EXPECT_TRUE(VfioFunction::open(bdf));
}

TEST(VfioFunctionOpen, RefusesWhatIsNoController) {
  EXPECT_EQ(VfioFunction::open("04:00.0").error().code(), StatusCode::invalid_argument);
  EXPECT_EQ(VfioFunction::open("0000:ff:1f.7").error().code(), StatusCode::not_found);
  const auto bridge = VfioFunction::open("0000:00:00.0");
  ASSERT_FALSE(bridge);
  EXPECT_EQ(bridge.error().code(), StatusCode::invalid_argument);
  EXPECT_THAT(bridge.error().to_string(), HasSubstr("class 0x060000"));
}

TEST(VfioFunctionOpen, ListsTheController) {
  const auto found = PciDevices().list();
  ASSERT_TRUE(found) << found.error().to_string();
  bool listed = false;
  for (const PciDevice& device : *found) {
    listed = listed || (device.address == bdf && device.driver == "vfio-pci" &&
                        device.class_code == kNvmeClass && device.iommu_group.has_value());
  }
  EXPECT_TRUE(listed);
}

}  // namespace
}  // namespace basalt::nvme

int main(int argc, char** argv) {
  testing::InitGoogleMock(&argc, argv);
  const char* bdfs = std::getenv("NVME_BDFS");
  std::string first = argc > 1 ? argv[1] : bdfs != nullptr ? bdfs : "";
  first = first.substr(0, first.find(' '));
  if (first.empty()) {
    std::fprintf(stderr, "usage: %s BDF, or NVME_BDFS in the environment\n", argv[0]);
    return 2;
  }
  basalt::nvme::bdf = first;
  return RUN_ALL_TESTS();
}
