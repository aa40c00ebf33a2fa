// See workload.h.
#include "crash/workload.h"

#include <algorithm>
#include <vector>

namespace basalt::crash {

bool Workload::step() {
  if (session_.stopped()) return false;
  if (!session_.files().empty() && random_.chance(62)) {
    on_open_file();
  } else {
    on_names();
  }
  return !session_.stopped();
}

void Workload::on_open_file() {
  Session::Open& open = session_.files()[random_.below(session_.files().size())];
  const uint64_t choice = random_.below(100);
  if (choice < options_.sync_percent) {
    session_.sync(open);
  } else if (choice < 60) {
    append(open);
  } else if (choice < 70) {
    write(open);
  } else if (choice < 74) {
    session_.flush(open);
  } else if (choice < 76) {
    session_.start_writeback(open);
  } else if (choice < 80) {
    truncate(open);
  } else if (choice < 84) {
    punch(open);
  } else if (choice < 92) {
    read(open);
  } else {
    session_.close(open);
  }
}

void Workload::on_names() {
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
    session_.sync_directory(some_directory());
  } else if (choice < 35) {
    session_.sync_all();
  } else {
    truncate_by_path();
  }
}

// ---- Content

size_t Workload::some_length() {
  static constexpr size_t kBorders[] = {1,    15,   480,  511,  512,   513,   4063, 4064,
                                        4095, 4096, 4097, 8192, 65535, 65536, 65537};
  const uint64_t choice = random_.below(10);
  if (choice < 5) return 1 + random_.below(300);
  if (choice < 8) return kBorders[random_.below(std::size(kBorders))];
  return 1 + random_.below(60'000);
}

void Workload::append(Session::Open& open) {
  const size_t length = some_length();
  if (open.model->content().size() + length > options_.max_file_bytes) {
    session_.close(open);
  } else {
    session_.append(open, length);
  }
}

void Workload::write(Session::Open& open) {
  if (open.model->kind() == FileKind::log) return append(open);
  const size_t size = open.model->content().size();
  const size_t length = some_length();
  const uint64_t gap = random_.chance(10) ? random_.below(20'000) : 0;
  const uint64_t at = random_.chance(20) ? size + gap : random_.below(size + 1);
  if (at + length <= options_.max_file_bytes) session_.write(open, at, length);
}

void Workload::truncate(Session::Open& open) {
  const size_t size = open.model->content().size();
  const bool grow = open.model->kind() == FileKind::table && random_.chance(30);
  session_.truncate(open, grow ? size + random_.below(20'000) : random_.below(size + 1));
}

void Workload::punch(Session::Open& open) {
  const uint64_t at = random_.below(open.model->content().size() + 1);
  const uint64_t length = 1 + random_.below(random_.chance(50) ? 5'000 : 150'000);
  if (open.model->kind() == FileKind::log || random_.chance(30)) {
    session_.allocate(open, at, length);
  } else {
    session_.punch(open, at, length);
  }
}

void Workload::read(Session::Open& open) {
  const uint64_t at = random_.below(open.model->content().size() + 100);
  const size_t length = 1 + random_.below(70'000);
  const Caching caching = random_.chance(50) ? Caching::normal : Caching::uncached;
  session_.read(open, at, length, caching);
}

void Workload::truncate_by_path() {
  const std::string path = some_file();
  if (!path.empty()) {
    session_.truncate(path, random_.below(tree().at(path).file->content().size() + 1));
  }
}

// ---- Names

void Workload::create() {
  auto& files = session_.files();
  if (files.size() >= options_.max_open) {
    session_.close(files[random_.below(files.size())]);
    return;
  }
  const bool over = file_count() >= options_.max_files || random_.chance(10);
  std::string path = over ? some_file() : "";
  if (path.empty()) path = some_directory() + "/" + some_name();
  const FileKind kind = random_.chance(50) ? FileKind::log : FileKind::table;
  session_.create(path, kind, random_.chance(30) ? random_.below(300'000) : 0);
}

void Workload::reopen() {
  const std::string path = some_file();
  auto& files = session_.files();
  if (path.empty() || files.size() >= options_.max_open) return;
  const bool is_open = std::any_of(files.begin(), files.end(), [&](const Session::Open& open) {
    return open.model == tree().at(path).file;
  });
  if (!is_open) session_.open(path);
}

void Workload::remove() {
  const std::string path = some_file();
  if (!path.empty()) session_.remove(path);
}

void Workload::rename() {
  const std::string from = some_file();
  if (from.empty()) return;
  const std::string to = random_.chance(50) ? some_file() : some_directory() + "/" + some_name();
  const auto target = tree().find(to);
  if (target == tree().end() || target->second.file != tree().at(from).file) {
    session_.rename(from, to);
  }
}

void Workload::link() {
  const std::string existing = some_file();
  const std::string created = some_directory() + "/" + some_name();
  if (!existing.empty() && !tree().contains(created)) session_.link(existing, created);
}

void Workload::make_directory() {
  const std::string path = some_directory() + "/d" + std::to_string(random_.below(8));
  const auto depth = std::count(path.begin(), path.end(), '/');
  if (!tree().contains(path) && depth <= 4) session_.make_directory(path);
}

void Workload::remove_directory() {
  const std::string path = some_subdirectory();
  if (path.empty()) return;
  const auto next = tree().upper_bound(path);
  const bool full = next != tree().end() && next->first.starts_with(path + "/");
  if (!full) session_.remove_directory(path);
}

void Workload::rename_directory() {
  const std::string from = some_subdirectory();
  const std::string to = session_.model().root() + "/r" + std::to_string(random_.below(8));
  if (!from.empty() && !tree().contains(to)) session_.rename(from, to);
}

// ---- Choices

std::string Workload::some_name() { return "f" + std::to_string(random_.below(40)); }

std::string Workload::some_directory() {
  const std::string directory = random_.chance(50) ? some_subdirectory() : "";
  return directory.empty() ? session_.model().root() : directory;
}

std::string Workload::some_subdirectory() {
  std::vector<const std::string*> paths;
  for (const auto& [path, entry] : tree()) {
    if (entry.is_directory()) paths.push_back(&path);
  }
  return paths.empty() ? "" : *paths[random_.below(paths.size())];
}

std::string Workload::some_file() {
  std::vector<const std::string*> paths;
  for (const auto& [path, entry] : tree()) {
    if (!entry.is_directory()) paths.push_back(&path);
  }
  return paths.empty() ? "" : *paths[random_.below(paths.size())];
}

size_t Workload::file_count() {
  return static_cast<size_t>(std::count_if(tree().begin(), tree().end(), [](const auto& entry) {
    return !entry.second.is_directory();
  }));
}

}  // namespace basalt::crash
