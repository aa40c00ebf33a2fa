// See operation.h.
#include "crash/operation.h"

#include <algorithm>

namespace basalt::crash {
namespace {

using Kind = Operation::Kind;

const char* name_of(Kind kind) {
  switch (kind) {
    case Kind::create: return "create";
    case Kind::open: return "open";
    case Kind::remove: return "remove";
    case Kind::rename: return "rename";
    case Kind::link: return "link";
    case Kind::make_directory: return "mkdir";
    case Kind::remove_directory: return "rmdir";
    case Kind::truncate_path: return "truncate";
    case Kind::sync_directory: return "sync_directory";
    case Kind::sync_all: return "sync_all";
    case Kind::append: return "append";
    case Kind::write: return "write";
    case Kind::truncate: return "truncate";
    case Kind::punch: return "punch";
    case Kind::allocate: return "allocate";
    case Kind::flush: return "flush";
    case Kind::sync: return "sync";
    case Kind::start_writeback: return "start_writeback";
    case Kind::read: return "read";
    case Kind::close: return "close";
    case Kind::background: return "background";
  }
  return "?";
}

std::string range(const Operation& operation) {
  return std::to_string(operation.offset) + "+" + std::to_string(operation.length);
}

// What follows the name and the path.
std::string details(const Operation& operation) {
  switch (operation.kind) {
    case Kind::create:
      return std::string(operation.file_kind == FileKind::log ? " log" : " table") +
             (operation.length == 0 ? "" : " reserving " + std::to_string(operation.length));
    case Kind::rename: return " to " + operation.to;
    case Kind::link: return " as " + operation.to;
    case Kind::truncate_path:
    case Kind::truncate: return " to " + std::to_string(operation.length);
    case Kind::append: return " +" + std::to_string(operation.length);
    case Kind::write:
    case Kind::punch:
    case Kind::allocate: return " " + range(operation);
    case Kind::read:
      return " " + range(operation) + (operation.caching == Caching::normal ? "" : " uncached");
    default: return "";
  }
}

std::string parent_of(const std::string& path) { return path.substr(0, path.rfind('/')); }

}  // namespace

std::string to_string(const Operation& operation) {
  std::string text = name_of(operation.kind);
  if (operation.opening != 0) text += " #" + std::to_string(operation.opening);
  if (!operation.path.empty()) text += " " + operation.path;
  return text + details(operation);
}

bool HistoryRunner::run(const Operation& operation) {
  if (session_.stopped()) return false;
  if (operation.kind == Kind::background) {
    if (background_) background_();
  } else if (operation.kind < Kind::append) {
    change_names(operation);
  } else if (Session::Open* open = find(operation.opening)) {
    use_file(operation, *open);
  }
  return !session_.stopped();
}

void HistoryRunner::change_names(const Operation& op) {
  switch (op.kind) {
    case Kind::create:
      if (!has_parent(op.path) || is_directory(op.path)) return;
      if (session_.create(op.path, op.file_kind, op.length)) {
        openings_[op.opening] = session_.files().back().file.get();
      }
      return;
    case Kind::open: {
      if (!is_file(op.path)) return;
      const FilePtr& file = session_.model().tree().at(op.path).file;
      const auto& files = session_.files();
      const bool is_open = std::any_of(files.begin(), files.end(), [&](const Session::Open& open) {
        return open.model == file;
      });
      if (!is_open && session_.open(op.path)) {
        openings_[op.opening] = session_.files().back().file.get();
      }
      return;
    }
    case Kind::remove:
      if (is_file(op.path)) session_.remove(op.path);
      return;
    case Kind::rename:
      if (may_rename(op.path, op.to)) session_.rename(op.path, op.to);
      return;
    case Kind::link:
      if (is_file(op.path) && has_parent(op.to) && !is_file(op.to) && !is_directory(op.to)) {
        session_.link(op.path, op.to);
      }
      return;
    case Kind::make_directory:
      if (has_parent(op.path) && !is_file(op.path) && !is_directory(op.path)) {
        session_.make_directory(op.path);
      }
      return;
    case Kind::remove_directory: {
      if (!is_directory(op.path)) return;
      const Tree& tree = session_.model().tree();
      const auto next = tree.lower_bound(op.path + "/");
      const bool full = next != tree.end() && next->first.starts_with(op.path + "/");
      if (!full && op.path != session_.model().root()) session_.remove_directory(op.path);
      return;
    }
    case Kind::truncate_path:
      if (is_file(op.path)) session_.truncate(op.path, op.length);
      return;
    case Kind::sync_directory:
      if (is_directory(op.path)) session_.sync_directory(op.path);
      return;
    case Kind::sync_all: session_.sync_all(); return;
    default: return;
  }
}

void HistoryRunner::use_file(const Operation& op, Session::Open& open) {
  const bool is_table = open.model->kind() == FileKind::table;
  switch (op.kind) {
    case Kind::append: session_.append(open, op.length); return;
    case Kind::write:
      if (is_table) session_.write(open, op.offset, op.length);
      return;
    case Kind::truncate: session_.truncate(open, op.length); return;
    case Kind::punch:
      if (is_table) session_.punch(open, op.offset, op.length);
      return;
    case Kind::allocate: session_.allocate(open, op.offset, op.length); return;
    case Kind::flush: session_.flush(open); return;
    case Kind::sync: session_.sync(open); return;
    case Kind::start_writeback: session_.start_writeback(open); return;
    case Kind::read: session_.read(open, op.offset, op.length, op.caching); return;
    case Kind::close:
      openings_.erase(op.opening);
      session_.close(open);
      return;
    default: return;
  }
}

Session::Open* HistoryRunner::find(unsigned opening) {
  const auto known = openings_.find(opening);
  if (known == openings_.end()) return nullptr;
  auto& files = session_.files();
  const auto at = std::find_if(files.begin(), files.end(), [&](const Session::Open& open) {
    return open.file.get() == known->second;
  });
  return at == files.end() ? nullptr : &*at;
}

bool HistoryRunner::is_directory(const std::string& path) const {
  if (path == session_.model().root()) return true;
  const auto at = session_.model().tree().find(path);
  return at != session_.model().tree().end() && at->second.is_directory();
}

bool HistoryRunner::is_file(const std::string& path) const {
  const auto at = session_.model().tree().find(path);
  return at != session_.model().tree().end() && !at->second.is_directory();
}

bool HistoryRunner::has_parent(const std::string& path) const {
  return is_directory(parent_of(path));
}

// A file over no file or another one; a directory to a free name outside itself.
bool HistoryRunner::may_rename(const std::string& from, const std::string& to) const {
  if (!has_parent(to) || is_directory(to)) return false;
  const Tree& tree = session_.model().tree();
  if (is_file(from)) return !is_file(to) || tree.at(to).file != tree.at(from).file;
  const bool into_itself = to.starts_with(from + "/");
  return is_directory(from) && from != session_.model().root() && !is_file(to) && !into_itself;
}

}  // namespace basalt::crash
