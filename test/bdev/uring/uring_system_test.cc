// Goal: how the backend meets the operating system: system calls per I/O, and systems that forbid
// some of them. Method: forked children under ptrace(2), seccomp(2) and resource limits.
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <cerrno>
#include <cstddef>
#include <filesystem>
#include <fstream>

#include "mem/memory_map.h"
#include "test/bdev/uring/child_process.h"
#include "test/bdev/uring/fixture.h"
#include "test/bdev/uring/loop_device.h"

namespace basalt {
namespace {

class UringSystem : public UringTest {
 protected:
  // Opens the disk in a child process.
  std::unique_ptr<Device> open_disk() {
    make_context();
    auto device = open(file_uri("size=8M"));
    if (!device) std::fprintf(stderr, "%s\n", device.error().to_string().c_str());
    CHILD_CHECK(device);
    return std::move(*device);
  }
};

// From now on this process gets `error_number` from the system call.
bool forbid(unsigned system_call, int error_number) {
  sock_filter program[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, system_call, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<unsigned>(error_number)),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  sock_fprog filter{.len = 4, .filter = program};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

TEST_F(UringSystem, SaysWhenIoUringIsForbidden) {
  for (const int error_number : {EPERM, ENOSYS}) {
    ChildProcess child([&](const auto&) {
      make_context();
      CHILD_CHECK(forbid(SYS_io_uring_setup, error_number));
      const std::string why = why_not(file_uri("size=8M"));
      std::fprintf(stderr, "%s\n", why.c_str());
      CHILD_CHECK(why.find("seccomp profile") != std::string::npos);
      return 0;
    });
    EXPECT_EQ(child.wait_for_end(), 0);
  }
}

// What io_uring cannot begin at once goes to threads of its own.
bool has_ring_threads() {
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::string name;
    std::ifstream(task.path() / "comm") >> name;
    if (name.starts_with("iou-wrk")) return true;
  }
  return false;
}

// Goal: large transfers are handed to the device at once. What the kernel has to split goes to a thread of io_uring's.
TEST_F(UringSystem, TheKernelNeedsNoThreadsForLargeTransfers) {
  if (const std::string why = why_no_loop_devices(); !why.empty()) GTEST_SKIP() << why;
  auto loop = LoopDevice::create(directory_ + "/backing", 64 << 20, 512);
  ASSERT_TRUE(loop) << loop.error().to_string();
  ChildProcess child([&](const auto&) {
    make_context();
    auto device = open("uring:" + loop->path());
    CHILD_CHECK(device);
    auto channel = (*device)->open_channel();
    CHILD_CHECK(channel);
    Pages pages(8 << 20, 7);
    for (const Op op : {Op::write, Op::read}) {
      CHILD_CHECK(io(**channel, op, 0, pages.span(), 512) == StatusCode::ok);
    }
    CHILD_CHECK((*channel)->stats().split == 2);
    CHILD_CHECK(!has_ring_threads());
    return 0;
  });
  EXPECT_EQ(child.wait_for_end(), 0);
}

// Goal: who waits for a flush carries it out; many at once go through the ring, and all complete.
TEST_F(UringSystem, ALoneFlushNeedsNoThreadOfTheKernels) {
  ChildProcess child([&](const auto&) {
    const auto device = open_disk();
    auto channel = device->open_channel();
    CHILD_CHECK(channel);
    for (int i = 0; i < 20; ++i)
      CHILD_CHECK(io(**channel, Op::flush, 0, {}, 512) == StatusCode::ok);
    CHILD_CHECK(!has_ring_threads());
    std::vector<Io> flushes(20);
    for (Io& flush : flushes) {
      flush.op = Op::flush;
      flush.status = StatusCode::internal;
      flush.done = [](Io&) {};
      (*channel)->submit(flush);
    }
    while ((*channel)->stats().outstanding != 0) (*channel)->wait(std::chrono::seconds(10));
    for (const Io& flush : flushes) CHILD_CHECK(flush.status == StatusCode::ok);
    CHILD_CHECK(has_ring_threads());
    return 0;
  });
  EXPECT_EQ(child.wait_for_end(), 0);
}

// Goal: a system that stops taking I/O while it runs: everything still completes, with an error.
TEST_F(UringSystem, CompletesWhatTheKernelRefuses) {
  ChildProcess child([&](const auto&) {
    const auto device = open_disk();
    auto channel = device->open_channel();
    CHILD_CHECK(channel);
    CHILD_CHECK(forbid(SYS_io_uring_enter, EPERM));
    const Pages memory(4096, 1);
    const iovec vector{memory.span().data(), 4096};
    std::vector<Io> ios(1000);
    for (Io& io : ios) {
      io.op = Op::write;
      io.block_count = BlockCount{4096 / device->info().block_size};
      io.data = {&vector, 1};
      io.status = StatusCode::internal;
      io.done = [](Io&) {};
      (*channel)->submit(io);
    }
    for (int i = 0; i < 2000 && (*channel)->stats().outstanding != 0; ++i) {
      (*channel)->wait(std::chrono::milliseconds(10));
    }
    CHILD_CHECK((*channel)->stats().outstanding == 0);
    for (const Io& io : ios) CHILD_CHECK(io.status == StatusCode::permission_denied);
    return 0;
  });
  EXPECT_EQ(child.wait_for_end(), 0);
}

// Goal: little locked memory to be had: regions stay unregistered, rings still find room, all I/O
// works, told once.
TEST_F(UringSystem, WorksWithoutLockedMemory) {
  ChildProcess child([&](const auto&) {
    const rlimit little{256 << 10, 256 << 10};
    CHILD_CHECK(setrlimit(RLIMIT_MEMLOCK, &little) == 0);
    if (geteuid() == 0) {  // root has no limit
      CHILD_CHECK(chmod(directory_.c_str(), 0777) == 0);
      CHILD_CHECK(setresuid(65534, 65534, 65534) == 0);
    }
    const auto device = open_disk();
    const Pages memory(4 << 20, 7);
    CHILD_CHECK(context_->memory().register_region(memory.span()));
    for (int i = 0; i < 2; ++i) {
      auto channel = device->open_channel();
      CHILD_CHECK(channel);
      const uint32_t block_size = device->info().block_size;
      CHILD_CHECK(io(**channel, Op::write, 0, memory.span(), block_size) == StatusCode::ok);
      const_cast<Pages&>(memory).fill(0);
      CHILD_CHECK(io(**channel, Op::read, 0, memory.span(), block_size) == StatusCode::ok);
      CHILD_CHECK(memory.all(7));
    }
    CHILD_CHECK(dynamic_cast<UringDevice&>(*device).unregistered_regions() == 2);
    CHILD_CHECK(log_.count(LogLevel::debug, "ulimit -l") == 1);
    return 0;
  });
  EXPECT_EQ(child.wait_for_end(), 0);
}

// Counts the system calls of a traced child between its two calls of getpgid(kMark).
constexpr int kMark = 0x7ba5a17;

int count_calls(pid_t pid) {
  int count = -1;  // not between the marks
  for (bool entering = true;; entering = !entering) {
    int status = 0;
    if (ptrace(PTRACE_SYSCALL, pid, nullptr, nullptr) != 0 || waitpid(pid, &status, 0) != pid ||
        !WIFSTOPPED(status)) {
      return -2;
    }
    if (WSTOPSIG(status) != (SIGTRAP | 0x80)) {  // a signal, which is withheld
      entering = !entering;
      continue;
    }
    if (!entering) continue;
    __ptrace_syscall_info call{};
    ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof call, &call);
    if (call.entry.nr == SYS_getpgid && call.entry.args[0] == kMark) {
      if (count >= 0) return count;
      count = 0;
    } else if (count >= 0) {
      ++count;
    }
  }
}

// Goal: a blocking I/O is one system call: a lone read or flush a plain one, all else one of the ring.
TEST_F(UringSystem, NeedsOneSystemCallPerBlockingIo) {
  constexpr int kIos = 200;
  for (const Op op : {Op::read, Op::write, Op::flush}) {
    ChildProcess child([&](const auto&) {
      const auto device = open_disk();
      auto channel = device->open_channel();
      CHILD_CHECK(channel);
      const Pages memory(4096, 1);
      const uint32_t block_size = device->info().block_size;
      if (ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) return 77;
      raise(SIGSTOP);
      syscall(SYS_getpgid, kMark);
      for (int i = 0; i < kIos; ++i) {
        CHILD_CHECK(io(**channel, op, i * 8, memory.span(), block_size) == StatusCode::ok);
      }
      syscall(SYS_getpgid, kMark);
      return 0;
    });
    int status = 0;
    ASSERT_EQ(waitpid(child.pid(), &status, WUNTRACED), child.pid());
    if (!WIFSTOPPED(status)) GTEST_SKIP() << "tracing is not allowed here";
    ptrace(PTRACE_SETOPTIONS, child.pid(), nullptr, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL);
    EXPECT_EQ(count_calls(child.pid()), kIos) << to_string(op);
  }
}

}  // namespace
}  // namespace basalt
