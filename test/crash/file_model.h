// FileModel: what one file may hold after a crash.
//
// Content since the last sync is kept as a list of versions. An append extends the newest version; every
// other change (overwrite, truncation, hole) starts a new one. `least` is the shortest length at which a
// version may be found. After a power cut any version since the last sync may be there; after the death
// of the process only those since the last flush.
// Rules checked: a log holds a prefix of one version. A table holds, at each position, a byte that some
// version has there: overwritten blocks may survive one by one. With a single version both mean the same:
// a prefix, no shorter than what was synced.
// Not synchronised.
#pragma once

#include <basalt/file_system.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace basalt::crash {

enum class Crash : uint8_t { power_loss, process_death };

class FileModel {
 public:
  FileModel(uint64_t number, FileKind kind) : number_(number), kind_(kind) {}

  uint64_t number() const { return number_; }
  FileKind kind() const { return kind_; }
  uint64_t file_id() const { return file_id_; }  // 0: not known yet
  void set_file_id(uint64_t id) { file_id_ = id; }
  const std::string& content() const { return versions_.back().bytes; }
  // The number of the next write, for pattern().
  uint64_t next_write() { return ++writes_; }

  // To be called before the operation itself, since an operation that fails may have had its effect.
  void append(std::string_view bytes);
  void write(uint64_t offset, std::string_view bytes);  // zeros fill a gap
  void truncate(uint64_t size);
  void punch(uint64_t offset, uint64_t length);
  // The change just made failed without effect, as the file system promises for no_space.
  void undo_append(size_t length);
  void undo_version() { versions_.pop_back(); }

  // `mark` says how much the sync or flush covers: taken before it is started.
  struct Mark {
    size_t version = 0;
    size_t size = 0;
  };
  Mark mark() const { return {base_ + versions_.size() - 1, content().size()}; }
  void flushed(Mark mark);
  void synced(Mark mark);

  // Empty, or what is wrong with finding `found` after such a crash.
  std::string explain(std::string_view found, Crash crash) const;
  // `found` was there after the crash; the model goes on from it.
  void restart(std::string found, Crash crash);

 private:
  struct Version {
    std::string bytes;
    size_t least = 0;
  };
  std::string explain_log(std::string_view found, size_t first, size_t first_least) const;
  std::string explain_table(std::string_view found, size_t first, size_t first_least) const;

  const uint64_t number_;
  const FileKind kind_;
  uint64_t file_id_ = 0;
  uint64_t writes_ = 0;
  size_t base_ = 0;                           // number of versions_[0]
  std::vector<Version> versions_{Version{}};  // the first is the one last synced
  Mark flushed_;
};

using FilePtr = std::shared_ptr<FileModel>;

}  // namespace basalt::crash
