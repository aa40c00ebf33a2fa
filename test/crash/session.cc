// See session.h.
#include "crash/session.h"

#include <algorithm>
#include <map>
#include <utility>

#include "base/crc32c.h"
#include "crash/pattern.h"

namespace basalt::crash {
namespace {

constexpr size_t kRecentOperations = 60;

std::string number(uint64_t value) { return std::to_string(value); }
std::string range(uint64_t offset, uint64_t length) {
  return number(offset) + "+" + number(length);
}

}  // namespace

Session::Session(FileSystem& fs, TreeModel& model, std::function<bool()> is_cut,
                 const SessionOptions& options)
    : fs_(fs), model_(model), is_cut_(std::move(is_cut)), options_(options) {}

void Session::note(std::string what) {
  if (options_.trace != nullptr) options_.trace->add(model_.root() + ": " + what);
  if (recent_.size() == kRecentOperations) recent_.erase(recent_.begin());
  recent_.push_back(std::move(what));
}

std::string Session::recent() const {
  std::string text;
  for (const std::string& line : recent_) text += "  " + line + "\n";
  return text;
}

bool Session::succeeded(const Status& status, const std::string& what) {
  // What returns after the power has gone is a promise all the same. What returns after the process is
  // dead was never heard by anybody.
  const bool cut = is_cut_();
  if (options_.trace != nullptr) options_.trace->add(model_.root() + ": = " + status.to_string());
  if (status.ok() && (!cut || options_.crash == Crash::power_loss)) return true;
  if (cut) {
    note("... failed: " + status.to_string());
    if (!stopped_) failure_ = status;
    stopped_ = true;
  } else if (status.code() == StatusCode::no_space && options_.expect_no_space) {
    note("... no space");
    ++no_space_;
  } else {
    problems_.push_back(what + ": " + status.to_string());
    stopped_ = true;
  }
  return false;
}

bool Session::changed(FileModel& file, const Status& status, const std::string& what) {
  if (succeeded(status, what)) return true;
  if (stopped_) unsure_ = &file;
  return false;
}

unsigned Session::ask_again() {
  unsigned promised = 0;
  for (Open& open : open_) {
    if (open.model.get() != unsure_ && sync(open)) ++promised;
  }
  if (sync_directory(model_.root())) ++promised;
  if (sync_all()) ++promised;
  return promised;
}

// ---- Names

template <typename Operation>
bool Session::change_names(const std::string& what, Operation operation) {
  note(what);
  if (succeeded(operation(), what)) {
    model_.confirm();
    return true;
  }
  if (!stopped_) model_.undo();
  return false;
}

bool Session::create(const std::string& path, FileKind kind, uint64_t preallocate_bytes) {
  const FilePtr file = model_.new_file(kind);
  CreateOptions options;
  options.preallocate_bytes = preallocate_bytes;
  std::unique_ptr<File> handle;
  model_.put(path, {file});
  const std::string what = std::string(kind == FileKind::log ? "create log " : "create table ") +
                           path + " (file " + number(file->number()) + ")";
  const bool created = change_names(what, [&]() -> Status {
    auto result = fs_.create(path, kind, options);
    if (!result) return result.error();
    handle = std::move(*result);
    return {};
  });
  if (!created) return false;
  file->set_file_id(handle->file_id());
  open_.push_back({std::move(handle), file, path});
  return true;
}

bool Session::open(const std::string& path) {
  note("open " + path);
  auto handle = fs_.open(path, OpenMode::read_write);
  if (!succeeded(handle ? Status() : handle.error(), "open " + path)) return false;
  open_.push_back({std::move(*handle), model_.tree().at(path).file, path});
  return true;
}

bool Session::remove(const std::string& path) {
  model_.remove(path);
  return change_names("remove " + path, [&] { return fs_.remove(path); });
}

bool Session::rename(const std::string& from, const std::string& to) {
  model_.rename(from, to);
  return change_names("rename " + from + " to " + to, [&] { return fs_.rename(from, to); });
}

bool Session::link(const std::string& existing, const std::string& created) {
  model_.put(created, model_.tree().at(existing));
  return change_names("link " + existing + " as " + created,
                      [&] { return fs_.link(existing, created); });
}

bool Session::make_directory(const std::string& path) {
  model_.put(path, {});
  return change_names("mkdir " + path, [&] { return fs_.make_directory(path); });
}

bool Session::remove_directory(const std::string& path) {
  model_.remove(path);
  return change_names("rmdir " + path, [&] { return fs_.remove_directory(path); });
}

bool Session::truncate(const std::string& path, uint64_t size) {
  note("truncate by path " + path + " to " + number(size));
  FileModel& file = *model_.tree().at(path).file;
  file.truncate(size);
  return changed(file, fs_.truncate(path, size), "truncate " + path);
}

bool Session::sync_directory(const std::string& path) {
  const size_t names = model_.confirmed();
  note("sync_directory " + path);
  if (!succeeded(fs_.sync_directory(path), "sync_directory " + path)) return false;
  model_.synced(names);
  return true;
}

bool Session::sync_all() {
  const size_t names = model_.confirmed();
  std::map<FilePtr, FileModel::Mark> contents;
  for (const Open& open : open_) contents.emplace(open.model, open.model->mark());
  for (const auto& [path, entry] : model_.tree()) {
    if (!entry.is_directory()) contents.emplace(entry.file, entry.file->mark());
  }
  note("sync_all");
  if (!succeeded(fs_.sync_all(), "sync_all")) return false;
  model_.synced(names);
  for (const auto& [file, mark] : contents) {
    if (file.get() != unsure_) file->synced(mark);
  }
  return true;
}

// ---- Open files

bool Session::append(Open& open, size_t length) {
  FileModel& model = *open.model;
  const size_t at = model.content().size();
  const std::string bytes = pattern(model.number(), model.next_write(), at, length);
  note("append " + open.path + " " + range(at, length));
  model.append(bytes);
  if (changed(model, open.file->append(as_bytes(bytes)), "append " + open.path)) return true;
  if (!stopped_) model.undo_append(length);
  return false;
}

bool Session::write(Open& open, uint64_t offset, size_t length) {
  FileModel& model = *open.model;
  const std::string bytes = pattern(model.number(), model.next_write(), offset, length);
  note("write " + open.path + " " + range(offset, length));
  model.write(offset, bytes);
  if (changed(model, open.file->write(offset, as_bytes(bytes)), "write " + open.path)) return true;
  if (!stopped_) model.undo_version();
  return false;
}

bool Session::truncate(Open& open, uint64_t size) {
  note("truncate " + open.path + " " + number(open.model->content().size()) + " to " +
       number(size));
  open.model->truncate(size);
  if (changed(*open.model, open.file->truncate(size), "truncate " + open.path)) return true;
  if (!stopped_) open.model->undo_version();
  return false;
}

bool Session::punch(Open& open, uint64_t offset, uint64_t length) {
  note("punch " + open.path + " " + range(offset, length));
  open.model->punch(offset, length);
  if (changed(*open.model, open.file->punch(offset, length), "punch " + open.path)) return true;
  if (!stopped_) open.model->undo_version();
  return false;
}

bool Session::allocate(Open& open, uint64_t offset, uint64_t length) {
  note("allocate " + open.path + " " + range(offset, length));
  return succeeded(open.file->allocate(offset, length), "allocate " + open.path);
}

bool Session::flush(Open& open) {
  const FileModel::Mark content = open.model->mark();
  note("flush " + open.path + " at " + number(content.size));
  if (!succeeded(open.file->flush(), "flush " + open.path)) return false;
  open.model->flushed(content);
  return true;
}

bool Session::sync(Open& open) {
  const FileModel::Mark content = open.model->mark();
  const size_t names = model_.confirmed();
  note("sync " + open.path + " at " + number(content.size));
  if (!succeeded(open.file->sync(), "sync " + open.path)) return false;
  open.model->synced(content);
  model_.synced(names);
  return true;
}

bool Session::start_writeback(Open& open) {
  note("start_writeback " + open.path);
  return succeeded(open.file->start_writeback(0, open.model->content().size()),
                   "start_writeback " + open.path);
}

bool Session::read(Open& open, uint64_t offset, size_t length, Caching caching) {
  const std::string& content = open.model->content();
  std::string bytes(length, '\xee');
  note("read " + open.path + " " + range(offset, length));
  const Result<size_t> read = open.file->read(offset, as_writable_bytes(bytes), caching);
  if (!succeeded(read ? Status() : read.error(), "read " + open.path)) return false;
  const std::string expected = offset < content.size() ? content.substr(offset, length) : "";
  bytes.resize(*read);
  if (options_.trace != nullptr) {
    options_.trace->add(number(bytes.size()) + " B, crc " + number(crc32c(as_bytes(bytes))));
  }
  if (bytes == expected) return true;
  const size_t common = std::min(bytes.size(), expected.size());
  const auto differs = static_cast<size_t>(
      std::mismatch(bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(common), expected.begin())
          .first -
      bytes.begin());
  problems_.push_back("read " + open.path + " (file " + number(open.model->number()) + ", " +
                      number(content.size()) + " B) at " + number(offset) + ": " +
                      number(bytes.size()) + " B instead of " + number(expected.size()) +
                      ", different at " + number(offset + differs) + ": '" +
                      printable(bytes.substr(differs, 48)) + "' instead of '" +
                      printable(expected.substr(differs, 48)) + "'");
  stopped_ = true;
  return false;
}

bool Session::close(Open& open) {
  Open closing = std::move(open);
  open_.erase(open_.begin() + (&open - open_.data()));
  const FileModel::Mark content = closing.model->mark();
  note("close " + closing.path);
  if (!changed(*closing.model, closing.file->close(), "close " + closing.path)) return false;
  closing.model->flushed(content);
  return true;
}

bool Session::close_all() {
  bool all = true;
  while (!open_.empty()) all = close(open_.back()) && all;
  return all;
}

}  // namespace basalt::crash
