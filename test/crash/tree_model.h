// TreeModel: what names a file system may hold after a crash.
//
// The tree is a map from path to file (or directory). Each change of the name space makes a new tree; all
// trees since the last one known durable are kept. The store applies changes in order, each whole, so
// after a power cut the tree must be one of these, and after the death of the process the newest (or the
// one an operation was about to make when it failed).
// Paths under one root only: several models share a file system by having a root each. Not synchronised.
#pragma once

#include <basalt/file_system.h>

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "crash/file_model.h"

namespace basalt::crash {

struct TreeEntry {
  FilePtr file;  // null: a directory
  bool is_directory() const { return file == nullptr; }
};
using Tree = std::map<std::string, TreeEntry>;

// What was found on a file system: each path below the root with what stat() and reading said.
struct FoundEntry {
  FileInfo info;
  std::string content;
};
using FoundTree = std::map<std::string, FoundEntry>;

// Everything below `root`, files read to their end in pieces of varying size.
Result<FoundTree> find_all(FileSystem& fs, const std::string& root, uint64_t seed);

class TreeModel {
 public:
  // The root directory exists and is durable.
  explicit TreeModel(std::string root) : root_(std::move(root)) {}

  // A model of its own that says what this one says now.
  std::shared_ptr<TreeModel> clone() const;

  const std::string& root() const { return root_; }
  const Tree& tree() const { return trees_.back(); }
  // A file with a number of its own; numbers name files in patterns.
  FilePtr new_file(FileKind kind);

  // A change of names is made before the operation is started, since an operation that fails may have
  // had its effect. Then confirm() when it succeeded, undo() when it failed without effect, neither when
  // that is not known.
  void put(const std::string& path, TreeEntry entry);
  void remove(const std::string& path);
  void rename(const std::string& from, const std::string& to);
  void confirm() { confirmed_ = newest(); }
  void undo() { trees_.pop_back(); }

  // The newest tree whose operation succeeded, which an operation started now makes durable; to be given to
  // synced().
  size_t confirmed() const { return confirmed_; }
  void synced(size_t mark);

  // What is wrong with finding `found` after a crash; empty when it is legal. With Then::restart the
  // model goes on from what was found.
  enum class Then : uint8_t { look_only, restart };
  std::vector<std::string> verify(const FoundTree& found, Crash crash, Then then);

 private:
  size_t newest() const { return base_ + trees_.size() - 1; }
  void restart(size_t index, const FoundTree& found, Crash crash);

  const std::string root_;
  std::vector<Tree> trees_{Tree{}};  // the first is the one known durable
  size_t base_ = 0;                  // number of trees_[0]
  size_t confirmed_ = 0;             // number of the newest tree whose operation succeeded
  uint64_t files_ = 0;
};

}  // namespace basalt::crash
