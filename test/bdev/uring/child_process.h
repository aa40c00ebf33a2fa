// A child process for tests: runs a function, talks over a pipe, dies when told or forgotten.
//
// Each test that needs a second process forks one; what the child finds wrong it reports by its
// exit code and on stderr. The destructor kills and reaps, so a failed test leaves nobody behind.
#pragma once

#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <functional>
#include <utility>

namespace basalt {

class ChildProcess {
 public:
  // `body` gets a function that tells the parent it is ready; its answer is the exit code.
  explicit ChildProcess(const std::function<int(const std::function<void()>& ready)>& body) {
    int ends[2] = {-1, -1};
    if (pipe(ends) != 0) return;
    std::fflush(nullptr);
    pid_ = fork();
    if (pid_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      close(ends[0]);
      const int code = body([&] { [[maybe_unused]] ssize_t sent = write(ends[1], "r", 1); });
      std::fflush(nullptr);
      _exit(code);
    }
    close(ends[1]);
    ready_fd_ = ends[0];
  }
  ~ChildProcess() {
    kill_now();
    wait_for_end();
    if (ready_fd_ >= 0) close(ready_fd_);
  }
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  pid_t pid() const { return pid_; }
  // False when the child ended without saying so.
  bool wait_until_ready() {
    char byte = 0;
    return read(ready_fd_, &byte, 1) == 1;
  }
  void kill_now() {
    if (pid_ > 0) kill(pid_, SIGKILL);
  }
  // The exit code, or minus the signal that ended it.
  int wait_for_end() {
    int status = 0;
    if (pid_ > 0 && waitpid(pid_, &status, 0) == pid_) {
      pid_ = -1;
      end_ = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    }
    return end_;
  }

 private:
  pid_t pid_ = -1;
  int ready_fd_ = -1;
  int end_ = -1;
};

// For child bodies, where a failed EXPECT would be lost: says what failed and ends the child.
#define CHILD_CHECK(condition)                                                            \
  do {                                                                                    \
    if (!(condition)) {                                                                   \
      std::fprintf(stderr, "child, %s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
      _exit(1);                                                                           \
    }                                                                                     \
  } while (false)

}  // namespace basalt
