// Operation: one step of a history, as data; and the running of such steps.
//
// A history is a list made from a seed before it is run (workload.h). An operation says all that it does and
// names what it does it to: by a path, or by the number of the opening ("#3") that an earlier operation of the
// list made. Where that is not there, because the operation before is missing from the list or lost its file
// in a crash, the operation does nothing. So every part of a history is a history, and a failing one can be
// shrunk (shrunk_round.h).
#pragma once

#include <basalt/file_system.h>

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "crash/session.h"

namespace basalt::crash {

struct Operation {
  enum class Kind : uint8_t {
    // Names.
    create,
    open,
    remove,
    rename,
    link,
    make_directory,
    remove_directory,
    truncate_path,
    sync_directory,
    sync_all,
    // Open files.
    append,
    write,
    truncate,
    punch,
    allocate,
    flush,
    sync,
    start_writeback,
    read,
    close,
    // A step of the background work.
    background,
  };
  Kind kind = Kind::background;
  unsigned opening = 0;  // made by create and open, used by what is done to open files
  std::string path{};    // of an open file: as it was opened, for people
  std::string to{};      // of rename and link
  FileKind file_kind = FileKind::table;
  uint64_t offset = 0;
  uint64_t length = 0;  // also of a truncation, and what create reserves
  Caching caching = Caching::normal;
};
using History = std::vector<Operation>;

// "append #3 /t0/f12 +513".
std::string to_string(const Operation& operation);

// Runs a history's operations in a session, which they share with nobody else.
class HistoryRunner {
 public:
  HistoryRunner(Session& session, std::function<void()> background)
      : session_(session), background_(std::move(background)) {}

  // False when the session has stopped.
  bool run(const Operation& operation);

 private:
  void change_names(const Operation& operation);
  void use_file(const Operation& operation, Session::Open& open);
  Session::Open* find(unsigned opening);
  // About the names as the model has them.
  bool is_directory(const std::string& path) const;
  bool is_file(const std::string& path) const;
  bool has_parent(const std::string& path) const;
  bool may_rename(const std::string& from, const std::string& to) const;

  Session& session_;
  const std::function<void()> background_;
  std::map<unsigned, const File*> openings_;
};

}  // namespace basalt::crash
