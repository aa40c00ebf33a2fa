// See workload.h.
#include "crash/workload.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "sim/random.h"

namespace basalt::crash {
namespace {

using Kind = Operation::Kind;

class Planner {
 public:
  Planner(const TreeModel& model, uint64_t seed, const WorkloadOptions& options);
  History make(unsigned count);

 private:
  // What a file will be like when the operations so far have been run.
  struct PlannedFile {
    FileKind kind = FileKind::table;
    uint64_t size = 0;
  };
  using PlannedFilePtr = std::shared_ptr<PlannedFile>;  // null: a directory
  struct PlannedOpen {
    unsigned opening = 0;
    std::string path;
    PlannedFilePtr file;
  };

  void on_open_file();
  void on_names();
  void append(PlannedOpen& open);
  void write(PlannedOpen& open);
  void truncate(PlannedOpen& open);
  void punch(PlannedOpen& open);
  void read(PlannedOpen& open);
  void close(PlannedOpen& open);
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
  size_t file_count() const;
  bool exists(const std::string& path) const { return names_.contains(path); }

  // Adds an operation, of which the caller sets what else it needs.
  Operation& add(Kind kind, std::string path = "");
  Operation& add(Kind kind, const PlannedOpen& open);

  const std::string root_;
  sim::Random random_;
  const WorkloadOptions options_;
  std::map<std::string, PlannedFilePtr> names_;
  std::vector<PlannedOpen> open_;
  unsigned openings_ = 0;
  History history_;
};

Planner::Planner(const TreeModel& model, uint64_t seed, const WorkloadOptions& options)
    : root_(model.root()), random_(seed), options_(options) {
  std::map<const FileModel*, PlannedFilePtr> files;  // of two names one
  for (const auto& [path, entry] : model.tree()) {
    PlannedFilePtr& file = names_[path];
    if (entry.is_directory()) continue;
    PlannedFilePtr& known = files[entry.file.get()];
    if (known == nullptr) {
      known = std::make_shared<PlannedFile>(
          PlannedFile{entry.file->kind(), entry.file->content().size()});
    }
    file = known;
  }
}

History Planner::make(unsigned count) {
  for (unsigned made = 0; made < count;) {
    const size_t before = history_.size();
    if (!open_.empty() && random_.chance(62)) {
      on_open_file();
    } else {
      on_names();
    }
    // A choice for which there is nothing yet makes no operation.
    if (history_.size() == before) continue;
    ++made;
    if (random_.chance(options_.background_percent)) add(Kind::background);
  }
  return std::move(history_);
}

Operation& Planner::add(Kind kind, std::string path) {
  Operation operation;
  operation.kind = kind;
  operation.path = std::move(path);
  history_.push_back(std::move(operation));
  return history_.back();
}

Operation& Planner::add(Kind kind, const PlannedOpen& open) {
  Operation& operation = add(kind, open.path);
  operation.opening = open.opening;
  return operation;
}

void Planner::on_open_file() {
  PlannedOpen& open = open_[random_.below(open_.size())];
  const uint64_t choice = random_.below(100);
  if (choice < options_.sync_percent) {
    add(Kind::sync, open);
  } else if (choice < 60) {
    append(open);
  } else if (choice < 70) {
    write(open);
  } else if (choice < 74) {
    add(Kind::flush, open);
  } else if (choice < 76) {
    add(Kind::start_writeback, open);
  } else if (choice < 80) {
    truncate(open);
  } else if (choice < 84) {
    punch(open);
  } else if (choice < 92) {
    read(open);
  } else {
    close(open);
  }
}

void Planner::on_names() {
  const uint64_t choice = random_.below(38);
  if (choice < 12) {
    create();
  } else if (choice < 17) {
    reopen();
  } else if (choice < 22) {
    remove();
  } else if (choice < 26) {
    rename();
  } else if (choice < 28) {
    link();
  } else if (choice < 30) {
    make_directory();
  } else if (choice < 31) {
    remove_directory();
  } else if (choice < 32) {
    rename_directory();
  } else if (choice < 34) {
    add(Kind::sync_directory, some_directory());
  } else if (choice < 35) {
    add(Kind::sync_all);
  } else {
    truncate_by_path();
  }
}

// ---- Content

size_t Planner::some_length() {
  static constexpr size_t kBorders[] = {1,    15,   480,  511,  512,   513,   4063, 4064,
                                        4095, 4096, 4097, 8192, 65535, 65536, 65537};
  const uint64_t choice = random_.below(10);
  if (choice < 5) return 1 + random_.below(300);
  if (choice < 8) return kBorders[random_.below(std::size(kBorders))];
  return 1 + random_.below(60'000);
}

void Planner::append(PlannedOpen& open) {
  const size_t length = some_length();
  if (open.file->size + length > options_.max_file_bytes) return close(open);
  add(Kind::append, open).length = length;
  open.file->size += length;
}

void Planner::write(PlannedOpen& open) {
  if (open.file->kind == FileKind::log) return append(open);
  const uint64_t size = open.file->size;
  const size_t length = some_length();
  const uint64_t gap = random_.chance(10) ? random_.below(20'000) : 0;
  const uint64_t at = random_.chance(20) ? size + gap : random_.below(size + 1);
  if (at + length > options_.max_file_bytes) return;
  Operation& operation = add(Kind::write, open);
  operation.offset = at;
  operation.length = length;
  open.file->size = std::max(size, at + length);
}

void Planner::truncate(PlannedOpen& open) {
  const uint64_t size = open.file->size;
  const bool grow = open.file->kind == FileKind::table && random_.chance(30);
  open.file->size = grow ? size + random_.below(20'000) : random_.below(size + 1);
  add(Kind::truncate, open).length = open.file->size;
}

void Planner::punch(PlannedOpen& open) {
  const bool reserves = open.file->kind == FileKind::log || random_.chance(30);
  Operation& operation = add(reserves ? Kind::allocate : Kind::punch, open);
  operation.offset = random_.below(open.file->size + 1);
  operation.length = 1 + random_.below(random_.chance(50) ? 5'000 : 150'000);
}

void Planner::read(PlannedOpen& open) {
  Operation& operation = add(Kind::read, open);
  operation.offset = random_.below(open.file->size + 100);
  operation.length = 1 + random_.below(70'000);
  operation.caching = random_.chance(50) ? Caching::normal : Caching::uncached;
}

void Planner::close(PlannedOpen& open) {
  add(Kind::close, open);
  open_.erase(open_.begin() + (&open - open_.data()));
}

void Planner::truncate_by_path() {
  const std::string path = some_file();
  if (path.empty()) return;
  PlannedFile& file = *names_.at(path);
  file.size = random_.below(file.size + 1);
  add(Kind::truncate_path, path).length = file.size;
}

// ---- Names

void Planner::create() {
  if (open_.size() >= options_.max_open) return close(open_[random_.below(open_.size())]);
  const bool over = file_count() >= options_.max_files || random_.chance(10);
  std::string path = over ? some_file() : "";
  if (path.empty()) path = some_directory() + "/" + some_name();
  const auto file = std::make_shared<PlannedFile>();
  file->kind = random_.chance(50) ? FileKind::log : FileKind::table;
  open_.push_back({++openings_, path, file});
  Operation& operation = add(Kind::create, open_.back());
  operation.file_kind = file->kind;
  operation.length = random_.chance(30) ? random_.below(300'000) : 0;
  names_[path] = file;
}

void Planner::reopen() {
  const std::string path = some_file();
  if (path.empty() || open_.size() >= options_.max_open) return;
  const PlannedFilePtr& file = names_.at(path);
  const bool is_open = std::any_of(open_.begin(), open_.end(),
                                   [&](const PlannedOpen& open) { return open.file == file; });
  if (is_open) return;
  open_.push_back({++openings_, path, file});
  add(Kind::open, open_.back());
}

void Planner::remove() {
  const std::string path = some_file();
  if (path.empty()) return;
  add(Kind::remove, path);
  names_.erase(path);
}

void Planner::rename() {
  const std::string from = some_file();
  if (from.empty()) return;
  const std::string to = random_.chance(50) ? some_file() : some_directory() + "/" + some_name();
  if (exists(to) && names_.at(to) == names_.at(from)) return;
  add(Kind::rename, from).to = to;
  names_[to] = names_.at(from);
  names_.erase(from);
}

void Planner::link() {
  const std::string existing = some_file();
  const std::string created = some_directory() + "/" + some_name();
  if (existing.empty() || exists(created)) return;
  add(Kind::link, existing).to = created;
  names_[created] = names_.at(existing);
}

void Planner::make_directory() {
  const std::string path = some_directory() + "/d" + std::to_string(random_.below(8));
  const auto depth = std::count(path.begin(), path.end(), '/');
  if (exists(path) || depth > 4) return;
  add(Kind::make_directory, path);
  names_[path] = nullptr;
}

void Planner::remove_directory() {
  const std::string path = some_subdirectory();
  if (path.empty()) return;
  const auto below = names_.lower_bound(path + "/");
  if (below != names_.end() && below->first.starts_with(path + "/")) return;
  add(Kind::remove_directory, path);
  names_.erase(path);
}

void Planner::rename_directory() {
  const std::string from = some_subdirectory();
  const std::string to = root_ + "/r" + std::to_string(random_.below(8));
  if (from.empty() || exists(to)) return;
  add(Kind::rename, from).to = to;
  std::map<std::string, PlannedFilePtr> moved;
  for (const auto& [path, file] : names_) {
    const bool moves = path == from || path.starts_with(from + "/");
    moved.emplace(moves ? to + path.substr(from.size()) : path, file);
  }
  names_ = std::move(moved);
}

// ---- Choices

std::string Planner::some_name() { return "f" + std::to_string(random_.below(40)); }

std::string Planner::some_directory() {
  const std::string directory = random_.chance(50) ? some_subdirectory() : "";
  return directory.empty() ? root_ : directory;
}

std::string Planner::some_subdirectory() {
  std::vector<const std::string*> paths;
  for (const auto& [path, file] : names_) {
    if (file == nullptr) paths.push_back(&path);
  }
  return paths.empty() ? "" : *paths[random_.below(paths.size())];
}

std::string Planner::some_file() {
  std::vector<const std::string*> paths;
  for (const auto& [path, file] : names_) {
    if (file != nullptr) paths.push_back(&path);
  }
  return paths.empty() ? "" : *paths[random_.below(paths.size())];
}

size_t Planner::file_count() const {
  return static_cast<size_t>(std::count_if(
      names_.begin(), names_.end(), [](const auto& name) { return name.second != nullptr; }));
}

}  // namespace

History make_history(const TreeModel& model, uint64_t seed, unsigned count,
                     const WorkloadOptions& options) {
  return Planner(model, seed, options).make(count);
}

}  // namespace basalt::crash
