// Workload: a seeded random history of operations in a Session.
//
// step() does one operation below the model's root: create, append, write, flush, sync, truncate, punch,
// close, reopen, remove, rename, link, directories, and reading back what is there. Same seed and same
// answers, same history.
#pragma once

#include <cstdint>
#include <string>

#include "crash/session.h"
#include "sim/random.h"

namespace basalt::crash {

struct WorkloadOptions {
  uint64_t max_file_bytes = 200'000;
  size_t max_files = 24;
  size_t max_open = 6;
  unsigned sync_percent = 12;  // of the operations on open files
};

class Workload {
 public:
  Workload(Session& session, uint64_t seed, const WorkloadOptions& options = {})
      : session_(session), random_(seed), options_(options) {}

  // False when the session has stopped.
  bool step();

 private:
  void on_open_file();
  void on_names();
  void append(Session::Open& open);
  void write(Session::Open& open);
  void truncate(Session::Open& open);
  void punch(Session::Open& open);
  void read(Session::Open& open);
  void create();
  void reopen();
  void remove();
  void rename();
  void rename_directory();
  void link();
  void make_directory();
  void remove_directory();
  void truncate_by_path();

  size_t some_length();
  std::string some_name();
  std::string some_directory();
  // Empty when there is none.
  std::string some_file();
  std::string some_subdirectory();
  const Tree& tree() { return session_.model().tree(); }
  size_t file_count();

  Session& session_;
  sim::Random random_;
  const WorkloadOptions options_;
};

}  // namespace basalt::crash
