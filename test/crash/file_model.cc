// See file_model.h.
#include "crash/file_model.h"

#include <algorithm>

#include "crash/pattern.h"

namespace basalt::crash {
namespace {

// The first position where the two differ, or the shorter length.
size_t first_difference(std::string_view a, std::string_view b) {
  const auto end = a.begin() + static_cast<ptrdiff_t>(std::min(a.size(), b.size()));
  return static_cast<size_t>(std::mismatch(a.begin(), end, b.begin()).first - a.begin());
}

std::string around(std::string_view bytes, size_t at) {
  const size_t from = at - at % 16;
  if (from >= bytes.size()) return "(end)";
  return "'" + printable(bytes.substr(from, 48)) + "'";
}

}  // namespace

void FileModel::append(std::string_view bytes) { versions_.back().bytes.append(bytes); }

void FileModel::undo_append(size_t length) {
  std::string& bytes = versions_.back().bytes;
  bytes.resize(bytes.size() - length);
}

void FileModel::write(uint64_t offset, std::string_view bytes) {
  std::string next = content();
  if (next.size() < offset + bytes.size()) next.resize(offset + bytes.size());
  std::copy(bytes.begin(), bytes.end(), next.begin() + static_cast<ptrdiff_t>(offset));
  const size_t least = next.size();
  versions_.push_back({std::move(next), least});
}

void FileModel::truncate(uint64_t size) {
  std::string next = content();
  next.resize(size);
  versions_.push_back({std::move(next), size});
}

void FileModel::punch(uint64_t offset, uint64_t length) {
  std::string next = content();
  const uint64_t end = std::min<uint64_t>(offset + length, next.size());
  if (offset < end) {
    std::fill(next.begin() + static_cast<ptrdiff_t>(offset),
              next.begin() + static_cast<ptrdiff_t>(end), '\0');
  }
  const size_t least = next.size();
  versions_.push_back({std::move(next), least});
}

void FileModel::flushed(Mark mark) {
  const bool newer = mark.version > flushed_.version ||
                     (mark.version == flushed_.version && mark.size > flushed_.size);
  if (newer) flushed_ = mark;
}

void FileModel::synced(Mark mark) {
  flushed(mark);
  if (mark.version < base_) return;  // a later sync was faster
  versions_.erase(versions_.begin(),
                  versions_.begin() + static_cast<ptrdiff_t>(mark.version - base_));
  base_ = mark.version;
  versions_[0].least = std::max(versions_[0].least, mark.size);
}

std::string FileModel::explain(std::string_view found, Crash crash) const {
  size_t first = 0;
  size_t least = versions_[0].least;
  if (crash == Crash::process_death && flushed_.version >= base_) {
    first = flushed_.version - base_;
    least = std::max(versions_[first].least, flushed_.size);
  }
  return kind_ == FileKind::log ? explain_log(found, first, least)
                                : explain_table(found, first, least);
}

std::string FileModel::explain_log(std::string_view found, size_t first, size_t first_least) const {
  size_t least = first_least;
  size_t best = 0;
  for (size_t i = first; i < versions_.size(); ++i) {
    if (i > first) least = std::min(least, versions_[i].least);
    best = std::max(best, first_difference(found, versions_[i].bytes));
  }
  if (best < found.size()) {
    return "a log of " + std::to_string(found.size()) + " B is a prefix of no version; at " +
           std::to_string(best) + " found " + around(found, best) + ", newest version (" +
           std::to_string(content().size()) + " B) has " + around(content(), best);
  }
  if (found.size() < least) {
    return "a log has " + std::to_string(found.size()) + " B, less than the " +
           std::to_string(least) + " B that were made safe";
  }
  return {};
}

std::string FileModel::explain_table(std::string_view found, size_t first,
                                     size_t first_least) const {
  size_t least = first_least;
  size_t most = 0;
  for (size_t i = first; i < versions_.size(); ++i) {
    if (i > first) least = std::min(least, versions_[i].least);
    most = std::max(most, versions_[i].bytes.size());
  }
  if (found.size() < least || found.size() > most) {
    return "a table has " + std::to_string(found.size()) + " B, which is not between " +
           std::to_string(least) + " and " + std::to_string(most) + " B";
  }
  for (size_t at = first_difference(found, content()); at < found.size(); ++at) {
    const bool known =
        std::any_of(versions_.begin() + static_cast<ptrdiff_t>(first), versions_.end(),
                    [&](const Version& version) {
                      return at < version.bytes.size() && version.bytes[at] == found[at];
                    });
    if (known) continue;
    return "a table of " + std::to_string(found.size()) + " B has at " + std::to_string(at) + " " +
           around(found, at) + ", newest version (" + std::to_string(content().size()) +
           " B) has " + around(content(), at);
  }
  return {};
}

void FileModel::restart(std::string found, Crash crash) {
  if (crash == Crash::power_loss) {
    base_ += versions_.size();
    versions_.clear();
  }
  const size_t least = found.size();
  versions_.push_back({std::move(found), least});
  flushed_ = mark();
}

}  // namespace basalt::crash
