// See tree_model.h.
#include "crash/tree_model.h"

#include <algorithm>
#include <set>

#include "base/try.h"
#include "crash/pattern.h"
#include "sim/random.h"

namespace basalt::crash {
namespace {

bool is_below(const std::string& path, const std::string& directory) {
  return path.size() > directory.size() && path.starts_with(directory) &&
         path[directory.size()] == '/';
}

uint32_t count_links(const Tree& tree, const FilePtr& file) {
  return static_cast<uint32_t>(std::count_if(
      tree.begin(), tree.end(), [&](const auto& entry) { return entry.second.file == file; }));
}

Result<std::string> read_all(FileSystem& fs, const std::string& path, sim::Random& random) {
  BASALT_TRY_ASSIGN(const auto file, fs.open(path, OpenMode::read_only));
  std::string content;
  for (;;) {
    static constexpr size_t kPieces[] = {1, 100, 4096, 5000, 65536, 300000};
    std::string piece(kPieces[random.below(std::size(kPieces))], '\xee');
    BASALT_TRY_ASSIGN(const size_t length, file->read(content.size(), as_writable_bytes(piece)));
    content.append(piece, 0, length);
    if (length < piece.size()) break;
    // Small pieces alone would take for ever on a long file.
    if (content.size() > 1000 && random.chance(20)) {
      std::string rest(file->size() - content.size(), '\xee');
      BASALT_TRY_ASSIGN(const size_t end, file->read(content.size(), as_writable_bytes(rest)));
      content.append(rest, 0, end);
    }
  }
  if (file->size() != content.size()) {
    return error(StatusCode::internal, "size() says " + std::to_string(file->size()) + ", read " +
                                           std::to_string(content.size()) + " B");
  }
  return content;
}

Status find_below(FileSystem& fs, const std::string& directory, sim::Random& random,
                  FoundTree& found) {
  BASALT_TRY_ASSIGN(const auto entries, fs.list(directory));
  for (const DirectoryEntry& entry : entries) {
    const std::string path = directory + "/" + entry.name;
    FoundEntry here;
    Result<FileInfo> info = fs.stat(path);
    if (!info) return info.error().with_context("stat " + path);
    here.info = *info;
    if (!entry.is_directory) {
      Result<std::string> content = read_all(fs, path, random);
      if (!content) return content.error().with_context("read " + path);
      here.content = std::move(*content);
      BASALT_TRY_ASSIGN(here.info, fs.stat(path));
      if (here.info.size_bytes != here.content.size()) {
        return Status(StatusCode::internal, path + ": stat says " +
                                                std::to_string(here.info.size_bytes) + ", read " +
                                                std::to_string(here.content.size()) + " B");
      }
    }
    found.emplace(path, std::move(here));
    if (entry.is_directory) BASALT_TRY(find_below(fs, path, random, found));
  }
  return {};
}

// Empty when `found` has exactly the names of `tree`.
std::string explain_names(const Tree& tree, const FoundTree& found) {
  for (const auto& [path, entry] : tree) {
    const auto at = found.find(path);
    if (at == found.end()) return path + " is missing";
    const FileInfo& info = at->second.info;
    if (info.is_directory != entry.is_directory()) return path + " is of the wrong type";
    if (entry.is_directory()) continue;
    if (entry.file->file_id() != 0 && entry.file->file_id() != info.file_id) {
      return path + " is file id " + std::to_string(info.file_id) + ", not " +
             std::to_string(entry.file->file_id());
    }
    if (info.kind != entry.file->kind()) return path + " has the wrong kind";
    const uint32_t links = count_links(tree, entry.file);
    if (info.link_count != links) {
      return path + " has link count " + std::to_string(info.link_count) + ", not " +
             std::to_string(links);
    }
  }
  for (const auto& [path, entry] : found) {
    if (!tree.contains(path)) return path + " should not be there";
  }
  return {};
}

}  // namespace

Result<FoundTree> find_all(FileSystem& fs, const std::string& root, uint64_t seed) {
  sim::Random random(seed);
  FoundTree found;
  BASALT_TRY(find_below(fs, root, random, found));
  return found;
}

std::shared_ptr<TreeModel> TreeModel::clone() const {
  auto copy = std::make_shared<TreeModel>(*this);
  std::map<const FileModel*, FilePtr> copies;
  for (Tree& tree : copy->trees_) {
    for (auto& [path, entry] : tree) {
      if (entry.is_directory()) continue;
      FilePtr& file = copies[entry.file.get()];
      if (file == nullptr) file = std::make_shared<FileModel>(*entry.file);
      entry.file = file;
    }
  }
  return copy;
}

FilePtr TreeModel::new_file(FileKind kind) { return std::make_shared<FileModel>(++files_, kind); }

void TreeModel::put(const std::string& path, TreeEntry entry) {
  Tree next = tree();
  next[path] = std::move(entry);
  trees_.push_back(std::move(next));
}

void TreeModel::remove(const std::string& path) {
  Tree next = tree();
  next.erase(path);
  trees_.push_back(std::move(next));
}

void TreeModel::rename(const std::string& from, const std::string& to) {
  Tree next;
  for (const auto& [path, entry] : tree()) {
    if (path != from && path != to && !is_below(path, from)) next.emplace(path, entry);
  }
  for (const auto& [path, entry] : tree()) {
    if (path == from || is_below(path, from)) next.emplace(to + path.substr(from.size()), entry);
  }
  trees_.push_back(std::move(next));
}

void TreeModel::synced(size_t mark) {
  if (mark < base_) return;
  trees_.erase(trees_.begin(), trees_.begin() + static_cast<ptrdiff_t>(mark - base_));
  base_ = mark;
}

std::vector<std::string> TreeModel::verify(const FoundTree& found, Crash crash, Then then) {
  const size_t oldest = crash == Crash::power_loss ? 0 : std::max(confirmed_, base_) - base_;
  std::vector<std::string> problems;
  for (size_t i = trees_.size(); i-- > oldest;) {
    if (!explain_names(trees_[i], found).empty()) continue;
    std::vector<std::string> wrong;
    for (const auto& [path, entry] : trees_[i]) {
      if (entry.is_directory()) continue;
      const std::string why = entry.file->explain(found.at(path).content, crash);
      if (!why.empty()) {
        wrong.push_back(path + " (file " + std::to_string(entry.file->number()) + "): " + why);
      }
    }
    if (wrong.empty()) {
      if (then == Then::restart) restart(i, found, crash);
      return {};
    }
    if (problems.empty()) problems = std::move(wrong);
  }
  if (problems.empty()) {
    problems.push_back("the names are none of the " + std::to_string(trees_.size() - oldest) +
                       " legal trees; against the newest: " + explain_names(trees_.back(), found) +
                       "; against the oldest: " + explain_names(trees_[oldest], found));
  }
  return problems;
}

void TreeModel::restart(size_t index, const FoundTree& found, Crash crash) {
  trees_.resize(index + 1);
  std::set<FileModel*> seen;
  for (const auto& [path, entry] : trees_.back()) {
    if (entry.is_directory() || !seen.insert(entry.file.get()).second) continue;
    const FoundEntry& here = found.at(path);
    entry.file->set_file_id(here.info.file_id);
    entry.file->restart(here.content, crash);
  }
  if (crash == Crash::power_loss) synced(newest());
  confirm();
}

}  // namespace basalt::crash
