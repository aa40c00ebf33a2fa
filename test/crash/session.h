// Session: operations on a file system, mirrored in a TreeModel.
//
// Every operation tells the model before the file system, since one that fails when the disk goes may have
// had its effect, and notes success afterwards. When the disk is gone the session stops; anything else
// that goes wrong is kept in problems() and stops it too. A disk that only fails for a while is the same: what
// an operation that failed has done is not known, so that the session stops; but whatever else the file system
// then promises (ask_again()), it is held to. One thread per session; several sessions may share a file
// system, each below the root of its own model.
#pragma once

#include <basalt/file_system.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "crash/tree_model.h"
#include "sim/sim_trace.h"

namespace basalt::crash {

struct SessionOptions {
  Crash crash = Crash::power_loss;  // what is going to happen
  bool expect_no_space = false;     // no_space is an answer, not a problem
  sim::SimTrace* trace = nullptr;   // gets every operation and its answer
};

class Session {
 public:
  struct Open {
    std::unique_ptr<File> file;
    FilePtr model;
    std::string path;  // as it was opened
  };

  // `is_cut` tells that the disk is gone or has failed, so that errors are to be expected.
  Session(FileSystem& fs, TreeModel& model, std::function<bool()> is_cut,
          const SessionOptions& options = {});

  // ---- Names. All answer whether the operation succeeded.
  bool create(const std::string& path, FileKind kind, uint64_t preallocate_bytes = 0);
  bool open(const std::string& path);
  bool remove(const std::string& path);
  bool rename(const std::string& from, const std::string& to);  // files and directories
  bool link(const std::string& existing, const std::string& created);
  bool make_directory(const std::string& path);
  bool remove_directory(const std::string& path);
  bool truncate(const std::string& path, uint64_t size);
  bool sync_directory(const std::string& path);
  bool sync_all();

  // ---- Open files, the one opened last at the back.
  std::vector<Open>& files() { return open_; }
  bool append(Open& open, size_t length);
  bool write(Open& open, uint64_t offset, size_t length);
  bool truncate(Open& open, uint64_t size);
  bool punch(Open& open, uint64_t offset, uint64_t length);
  bool allocate(Open& open, uint64_t offset, uint64_t length);
  bool flush(Open& open);
  bool sync(Open& open);
  bool start_writeback(Open& open);
  // Reads and compares with the model.
  bool read(Open& open, uint64_t offset, size_t length, Caching caching);
  bool close(Open& open);  // removes it from files()
  bool close_all();        // also when the session has stopped

  // Asks for everything to be made durable, file by file and as a whole, of a session that may have stopped.
  // How many of these the file system promised.
  unsigned ask_again();

  bool stopped() const { return stopped_; }
  // The answer that stopped it, if the disk was the reason.
  const Status& failure() const { return failure_; }
  const std::vector<std::string>& problems() const { return problems_; }
  TreeModel& model() { return model_; }
  uint64_t no_space_answers() const { return no_space_; }
  // The last operations, for messages.
  std::string recent() const;

 private:
  bool succeeded(const Status& status, const std::string& what);
  // As succeeded(), of an operation on a file's content.
  bool changed(FileModel& file, const Status& status, const std::string& what);
  template <typename Operation>
  bool change_names(const std::string& what, Operation operation);
  void note(std::string what);

  FileSystem& fs_;
  TreeModel& model_;
  const std::function<bool()> is_cut_;
  const SessionOptions options_;
  std::vector<Open> open_;
  std::vector<std::string> problems_;
  std::vector<std::string> recent_;
  uint64_t no_space_ = 0;
  bool stopped_ = false;
  Status failure_;
  const FileModel* unsure_ = nullptr;  // what it holds is not known: an operation on it failed
};

}  // namespace basalt::crash
