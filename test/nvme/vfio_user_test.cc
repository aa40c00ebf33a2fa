// The vfio-user client against a server in another thread.
//
// Goal: each call of PciFunction reaches the device as the specification says, memory and doorbells are the same
// bytes on both sides, and a server that refuses, dies, hangs or is somebody else is told apart. The server is
// ours; what a malformed message does is in vfio_user_messages_test.cc.
#include "nvme/vfio_user/vfio_user_function.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <filesystem>
#include <fstream>

#include "mem/arena.h"
#include "nvme/register_file.h"
#include "nvme/vfio_user_server.h"

namespace basalt::nvme {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using vfio_user::Command;
using Fate = VfioUserServerOptions::Fate;

class VfioUser : public testing::Test {
 protected:
  void serve(VfioUserServerOptions options = {}) {
    server_.reset();  // it removes the socket
    auto server = VfioUserServer::create(path_, device_, std::move(options));
    ASSERT_TRUE(server) << server.error().to_string();
    server_ = std::move(*server);
  }
  void open(VfioUserOptions options = {}) {
    auto function = VfioUserFunction::open(path_, options);
    ASSERT_TRUE(function) << function.error().to_string();
    function_ = std::move(*function);
  }
  // Why it cannot be opened.
  Status refusal(std::string_view path, VfioUserOptions options = {.timeout = 1s}) {
    auto function = VfioUserFunction::open(path, options);
    return function ? Status() : function.error();
  }
  static bool readable(int fd) {
    pollfd ready{.fd = fd, .events = POLLIN, .revents = 0};
    return poll(&ready, 1, 0) == 1;
  }
  static bool soon(const std::function<bool()>& is_true) {
    for (int i = 0; i < 2000; ++i) {
      if (is_true()) return true;
      sleep_for(1ms);
    }
    return false;
  }

  const std::string path_ = testing::TempDir() + "vfu" + std::to_string(getpid());
  RegisterFile device_;
  std::unique_ptr<VfioUserServer> server_;
  std::unique_ptr<PciFunction> function_;
};

TEST_F(VfioUser, RegistersAreMessages) {
  serve();
  open();
  EXPECT_EQ(function_->name(), path_);
  EXPECT_TRUE(function_->write32(0x14, 0x00460001).ok());
  EXPECT_EQ(device_.read_register(0x14, 4), 0x00460001u);
  EXPECT_TRUE(function_->write64(0x28, 0x1122334455667788).ok());
  EXPECT_EQ(function_->read32(0x28).value(), 0x55667788u);
  EXPECT_EQ(function_->read64(0x28).value(), 0x1122334455667788u);
  EXPECT_EQ(function_->read32(0xffc).value(), 0u);
  for (const uint32_t offset : {0x2u, 0x2000u, 0x7ffffffcu, 0xfffffffcu}) {
    EXPECT_EQ(function_->read32(offset).error().code(), StatusCode::out_of_range) << offset;
    EXPECT_EQ(function_->write32(offset, 0).code(), StatusCode::out_of_range) << offset;
  }
  for (const uint32_t offset : {0x4u, 0x1ffcu, 0x2000u}) {
    EXPECT_EQ(function_->read64(offset).error().code(), StatusCode::out_of_range) << offset;
  }
}

TEST_F(VfioUser, DoorbellsAreSharedMemory) {
  serve();
  open();
  ASSERT_EQ(function_->doorbells().size(), RegisterFile::kDoorbellBytes);
  const unsigned messages = server_->requests(Command::region_write);
  auto* doorbells = reinterpret_cast<volatile uint32_t*>(function_->doorbells().data());
  doorbells[3] = 17;
  EXPECT_EQ(device_.doorbell(3), 17u);
  device_.set_doorbell(4, 99);
  EXPECT_EQ(doorbells[4], 99u);
  EXPECT_TRUE(function_->write32(submission_doorbell(1, 4), 5).ok());
  EXPECT_EQ(device_.doorbell(2), 5u) << "write32() goes to the same place";
  EXPECT_EQ(function_->read32(submission_doorbell(1, 4)).value(), 5u);
  EXPECT_EQ(server_->requests(Command::region_write), messages);
  EXPECT_NE(ftruncate(device_.file(), 0), 0) << "the file is sealed against shrinking";
}

// Goal: without shared doorbells, by the server's choice or the user's, they are messages.
TEST_F(VfioUser, DoorbellsCanBeMessages) {
  RegisterFile unshared(4, false);
  auto server = VfioUserServer::create(path_, unshared);
  ASSERT_TRUE(server);
  open();
  EXPECT_TRUE(function_->doorbells().empty());
  EXPECT_TRUE(function_->write32(submission_doorbell(1, 4), 5).ok());
  EXPECT_EQ(unshared.doorbell(2), 5u);
  function_.reset();
  server->reset();
  serve();
  open({.map_doorbells = false});
  EXPECT_TRUE(function_->doorbells().empty());
  EXPECT_TRUE(function_->write32(submission_doorbell(1, 4), 6).ok());
  EXPECT_EQ(device_.doorbell(2), 6u);
}

// Goal: a doorbell file that ends before the doorbells do is refused; touching it would be a SIGBUS.
TEST_F(VfioUser, RefusesAShortDoorbellFile) {
  ASSERT_EQ(ftruncate(device_.file(), kFirstDoorbell + 4095), 0);
  serve();
  const Status status = refusal(path_);
  EXPECT_EQ(status.code(), StatusCode::corruption);
  EXPECT_THAT(status.to_string(), HasSubstr("8191 B"));
  EXPECT_TRUE(refusal(path_, {.map_doorbells = false}).ok());
}

TEST_F(VfioUser, DmaMemoryIsShared) {
  serve();
  open();
  auto arena = Arena::create({.bytes = 64 << 10, .hugepages = Hugepages::no});
  ASSERT_TRUE(arena);
  const std::span<std::byte> memory = (*arena)->memory();
  const auto iova = function_->map_dma({memory, (*arena)->fd(), 0});
  ASSERT_TRUE(iova) << iova.error().to_string();
  EXPECT_EQ(*iova, reinterpret_cast<uintptr_t>(memory.data()));
  const auto theirs = device_.find(*iova);
  ASSERT_EQ(theirs.size(), memory.size());
  memory[12345] = std::byte{7};
  EXPECT_EQ(theirs[12345], std::byte{7});
  theirs[54321] = std::byte{8};
  EXPECT_EQ(memory[54321], std::byte{8});
  const auto again = function_->map_dma({memory.subspan(4096, 4096), (*arena)->fd(), 4096});
  EXPECT_EQ(again.error().code(), StatusCode::already_exists);
  EXPECT_EQ(function_->map_dma({memory, (*arena)->fd(), 0}).error().code(),
            StatusCode::already_exists);
  EXPECT_EQ(function_->unmap_dma(*iova, 4096).code(), StatusCode::not_found);
  EXPECT_TRUE(function_->unmap_dma(*iova, memory.size()).ok());
  EXPECT_EQ(device_.mapping_count(), 0u);
  const auto part = function_->map_dma({memory.subspan(8192, 4096), (*arena)->fd(), 8192});
  ASSERT_TRUE(part);
  memory[8192] = std::byte{9};
  EXPECT_EQ(device_.find(*part)[0], std::byte{9}) << "fd_offset is honoured";
  EXPECT_TRUE(function_->read32(0).has_value()) << "refusals leave the connection as it is";
}

TEST_F(VfioUser, RefusesMemoryItCannotShare) {
  serve({.capabilities = R"({"max_msg_fds":1,"pgsizes":4096,"max_dma_maps":1})"});
  open();
  auto arena = Arena::create({.bytes = 64 << 10, .hugepages = Hugepages::no});
  ASSERT_TRUE(arena);
  const std::span<std::byte> memory = (*arena)->memory();
  const int fd = (*arena)->fd();
  const auto refused = [&](const DmaMemory& dma) {
    const auto iova = function_->map_dma(dma);
    return iova ? StatusCode::ok : iova.error().code();
  };
  const auto no_file = function_->map_dma({memory, -1, 0});
  EXPECT_EQ(no_file.error().code(), StatusCode::unsupported);
  EXPECT_THAT(no_file.error().to_string(), HasSubstr("has a file behind it"));
  EXPECT_EQ(refused({memory.first(0), fd, 0}), StatusCode::invalid_argument);
  EXPECT_EQ(refused({memory.first(4095), fd, 0}), StatusCode::invalid_argument);
  EXPECT_EQ(refused({memory.subspan(1, 4096), fd, 0}), StatusCode::invalid_argument);
  EXPECT_EQ(refused({memory, fd, 511}), StatusCode::invalid_argument);
  EXPECT_EQ(refused({memory, fd, 4096}), StatusCode::invalid_argument) << "beyond the file's end";
  EXPECT_EQ(refused({memory, fd, ~uint64_t{4095}}), StatusCode::invalid_argument);
  EXPECT_EQ(refused({memory, 9999, 0}), StatusCode::invalid_argument) << "not a descriptor";
  EXPECT_EQ(refused({memory.first(4096), fd, 0}), StatusCode::ok);
  const auto full = function_->map_dma({memory.subspan(4096, 4096), fd, 4096});
  EXPECT_EQ(full.error().code(), StatusCode::no_space);
  EXPECT_THAT(full.error().to_string(), HasSubstr("no more than 1 pieces"));
  EXPECT_EQ(server_->requests(Command::dma_map), 1u);
}

// Goal: more vectors than descriptors fit a message arrive in several, each with its own eventfd.
TEST_F(VfioUser, InterruptsInBatches) {
  serve({.capabilities = R"({"max_msg_fds":8})"});
  open();
  ASSERT_EQ(function_->interrupt_count(), 20u);
  std::vector<UniqueFd> events;
  std::vector<int> fds;
  for (int i = 0; i < 20; ++i) {
    events.emplace_back(eventfd(0, EFD_NONBLOCK));
    fds.push_back(events.back().get());
  }
  ASSERT_TRUE(function_->set_interrupts(fds).ok());
  EXPECT_EQ(server_->requests(Command::device_set_irqs), 3u);
  for (uint16_t vector = 0; vector < 20; ++vector) {
    EXPECT_TRUE(device_.signal(vector));
    for (uint16_t i = 0; i < 20; ++i) EXPECT_EQ(readable(fds[i]), i == vector) << vector;
    eventfd_t count = 0;
    eventfd_read(fds[vector], &count);
  }
  ASSERT_TRUE(function_->set_interrupts(std::span(fds).first(2)).ok());
  EXPECT_TRUE(device_.signal(1));
  EXPECT_FALSE(device_.signal(2)) << "fewer vectors: the others are off";
  ASSERT_TRUE(function_->set_interrupts({}).ok());
  EXPECT_FALSE(device_.signal(0));
  fds.push_back(fds[0]);
  EXPECT_EQ(function_->set_interrupts(fds).code(), StatusCode::invalid_argument);
}

// Goal: a server that sets vectors only together offers no more than one message carries.
TEST_F(VfioUser, InterruptsSetTogether) {
  serve({.interrupts_set_together = true, .capabilities = R"({"max_msg_fds":8})"});
  open();
  EXPECT_EQ(function_->interrupt_count(), 8u);
}

TEST_F(VfioUser, BusMasterAndReset) {
  serve();
  open();
  EXPECT_FALSE(device_.bus_master);
  EXPECT_TRUE(function_->set_bus_master(true).ok());
  EXPECT_TRUE(device_.bus_master);
  EXPECT_TRUE(function_->write32(0x14, 1).ok());
  const UniqueFd event(eventfd(0, 0));
  const int fd = event.get();
  ASSERT_TRUE(function_->set_interrupts(std::span(&fd, 1)).ok());
  EXPECT_TRUE(function_->reset().ok());
  EXPECT_EQ(device_.resets, 1u);
  EXPECT_FALSE(device_.signal(0));
  EXPECT_EQ(function_->read32(0x14).value(), 0u);
  EXPECT_TRUE(function_->set_bus_master(true).ok());
  EXPECT_TRUE(function_->set_bus_master(false).ok());
  EXPECT_FALSE(device_.bus_master);
  function_.reset();
  serve({.resets = false});
  open();
  EXPECT_EQ(function_->reset().code(), StatusCode::unsupported);
}

// Goal: what is not a server, not ours to use, or not an NVMe controller is named as that.
TEST_F(VfioUser, CannotConnect) {
  EXPECT_EQ(refusal(path_).code(), StatusCode::not_found);
  EXPECT_EQ(refusal("").code(), StatusCode::invalid_argument);
  EXPECT_EQ(refusal(std::string(108, 'x')).code(), StatusCode::invalid_argument);
  EXPECT_EQ(refusal(std::string_view("a\0b", 3)).code(), StatusCode::invalid_argument);
  EXPECT_THAT(refusal(testing::TempDir()).to_string(), HasSubstr("is a directory"));
  std::ofstream(path_) << "text";
  EXPECT_THAT(refusal(path_).to_string(), HasSubstr("is not a socket"));
  std::filesystem::remove(path_);
  serve();
  std::filesystem::rename(path_, path_ + ".kept");
  server_.reset();  // nobody listens on what is left
  const Status refused = refusal(path_ + ".kept");
  EXPECT_EQ(refused.code(), StatusCode::not_found);
  EXPECT_THAT(refused.to_string(), HasSubstr("connection refused"));
  std::filesystem::remove(path_ + ".kept");
  EXPECT_EQ(refusal(path_, {.timeout = 0s}).code(), StatusCode::invalid_argument);
}

TEST_F(VfioUser, IsNoNvmeController) {
  serve({.pci_class = 0x02'00'00});
  const Status status = refusal(path_);
  EXPECT_EQ(status.code(), StatusCode::unsupported);
  EXPECT_THAT(status.to_string(), HasSubstr("class 0x20000 is served"));
}

// Goal: the second client of a server with one place gives up at its deadline, and gets it later.
TEST_F(VfioUser, ServerIsTaken) {
  serve();
  open();
  EXPECT_EQ(refusal(path_, {.timeout = 50ms}).code(), StatusCode::timed_out);
  function_.reset();
  EXPECT_TRUE(refusal(path_).ok());
}

// Goal: a server that dies in the middle of a request: that call and all later ones say device_removed, the
// removal descriptor tells, and doorbells can still be touched.
TEST_F(VfioUser, ServerDies) {
  std::atomic<bool> deadly{false};
  serve({.spoil = [&](Command command, auto&) {
    return deadly && command == Command::region_read ? Fate::hang_up : Fate::send;
  }});
  open();
  auto arena = Arena::create({.bytes = 8192, .hugepages = Hugepages::no});
  ASSERT_TRUE(arena);
  const auto iova = function_->map_dma({(*arena)->memory().first(4096), (*arena)->fd(), 0});
  ASSERT_TRUE(iova);
  EXPECT_FALSE(readable(function_->removal_fd()));
  deadly = true;
  const auto dying = function_->read32(0x1c);
  EXPECT_EQ(dying.error().code(), StatusCode::device_removed);
  EXPECT_THAT(dying.error().to_string(), HasSubstr("REGION_READ: the server has closed"));
  EXPECT_TRUE(readable(function_->removal_fd()));
  EXPECT_EQ(function_->write32(0x14, 1).code(), StatusCode::device_removed);
  EXPECT_EQ(function_->unmap_dma(*iova, 4096).code(), StatusCode::device_removed);
  EXPECT_EQ(function_->set_bus_master(false).code(), StatusCode::device_removed);
  EXPECT_EQ(function_->reset().code(), StatusCode::device_removed);
  server_.reset();
  EXPECT_TRUE(function_->write32(kFirstDoorbell, 1).ok()) << "memory, to which nobody listens";
}

// Goal: the removal descriptor tells of a server that goes while nothing is asked, and of nothing else.
TEST_F(VfioUser, RemovalWhileIdle) {
  serve();
  open();
  EXPECT_TRUE(function_->read32(0).has_value());
  EXPECT_FALSE(readable(function_->removal_fd()));
  server_->hang_up();
  EXPECT_TRUE(soon([&] { return readable(function_->removal_fd()); }));
  EXPECT_EQ(function_->read32(0).error().code(), StatusCode::device_removed);
}

// Goal: a server that does not answer is given up at the deadline, for good.
TEST_F(VfioUser, ServerHangs) {
  std::atomic<bool> silent{false};
  serve({.spoil = [&](Command, auto&) { return silent ? Fate::hold_back : Fate::send; }});
  open({.timeout = 50ms});
  silent = true;
  EXPECT_EQ(function_->read32(0).error().code(), StatusCode::timed_out);
  silent = false;
  const auto later = function_->read32(0);
  EXPECT_EQ(later.error().code(), StatusCode::device_removed);
  EXPECT_THAT(later.error().to_string(), HasSubstr("has not answered in time"));
  EXPECT_TRUE(readable(function_->removal_fd()));
  open();
  EXPECT_TRUE(function_->read32(0).has_value()) << "it can be opened again";
}

// Goal: a client that goes leaves nothing mapped and no interrupt at the server.
TEST_F(VfioUser, ClientGoes) {
  serve();
  open();
  auto arena = Arena::create({.bytes = 64 << 10, .hugepages = Hugepages::no});
  ASSERT_TRUE(arena);
  ASSERT_TRUE(function_->map_dma({(*arena)->memory(), (*arena)->fd(), 0}));
  const UniqueFd event(eventfd(0, 0));
  const int fd = event.get();
  ASSERT_TRUE(function_->set_interrupts(std::span(&fd, 1)).ok());
  function_.reset();
  EXPECT_TRUE(soon([&] { return device_.mapping_count() == 0 && !device_.signal(0); }));
}

// Goal: many threads at once, each with its own register; one request at a time reaches the server.
TEST_F(VfioUser, ManyThreads) {
  serve();
  open();
  std::vector<Thread> threads;
  std::atomic<unsigned> wrong{0};
  for (uint32_t t = 0; t < 4; ++t) {
    threads.emplace_back("client", [&, t] {
      for (uint32_t i = 0; i < 300; ++i) {
        const uint32_t offset = 0x100 + 8 * t;
        if (!function_->write32(offset, i).ok()) ++wrong;
        if (function_->read32(offset).value_or(~0u) != i) ++wrong;
      }
    });
  }
  for (Thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0u);
}

}  // namespace
}  // namespace basalt::nvme
