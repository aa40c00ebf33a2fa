#include "blobfs/scrubber.h"

#include <algorithm>

namespace basalt::blobfs {

namespace {

constexpr uint64_t kPieceBytes = blob::kBlockBytes;

bool is_gone(const Status& status) {
  return status.code() == StatusCode::not_found || status.code() == StatusCode::not_a_directory;
}

}  // namespace

Scrubber::Scrubber(FileSystem& files, blob::BlobStore& store)
    : files_(files), store_(store), tables_have_checksums_(files.has_data_checksums()) {}

bool Scrubber::step() {
  step_bytes_ = 0;
  if (!metadata_done_) {
    verify_metadata();
  } else if (file_ != nullptr) {
    read_some();
  } else if (!names_.empty()) {
    const std::string path = std::move(names_.back());
    names_.pop_back();
    open_file(path);
  } else if (!directories_.empty()) {
    const std::string path = std::move(directories_.back());
    directories_.pop_back();
    list_directory(path);
  } else {
    report_.complete = true;
  }
  return !report_.complete;
}

void Scrubber::verify_metadata() {
  const uint64_t damaged_before = store_.stats().damaged_copies_used;
  const Result<bool> more = store_.verify_metadata(metadata_, step_bytes_);
  report_.metadata_bytes += step_bytes_;
  report_.damaged_copies += store_.stats().damaged_copies_used - damaged_before;
  if (more) {
    metadata_done_ = !*more;
    return;
  }
  report_.damages.push_back({"metadata", 0, 0, more.error()});
}

void Scrubber::list_directory(const std::string& path) {
  const auto entries = files_.list(path);
  if (!entries) {
    path_ = path;
    if (!is_gone(entries.error())) damaged(0, 0, entries.error());
    return;
  }
  for (const DirectoryEntry& entry : *entries) {
    std::string name = (path == "/" ? "" : path) + "/" + entry.name;
    (entry.is_directory ? directories_ : names_).push_back(std::move(name));
  }
}

void Scrubber::open_file(const std::string& path) {
  path_ = path;
  offset_ = 0;
  auto file = files_.open(path, OpenMode::read_only);
  if (!file) {
    if (!is_gone(file.error())) damaged(0, 0, file.error());
    return;
  }
  const auto info = files_.stat(path);
  if (info && info->link_count > 1 && !seen_.insert(info->file_id).second) return;
  ++report_.files;
  file_ = std::move(*file);
}

void Scrubber::read_some() {
  const uint64_t size = file_->size();
  const size_t wanted = offset_ < size ? std::min<uint64_t>(kStepBytes, size - offset_) : 0;
  const auto read = file_->read(offset_, buffer_.span().first(wanted), Caching::uncached);
  step_bytes_ = wanted;
  if (!read) read_in_pieces(wanted);
  const uint64_t count = read ? *read : wanted;
  report_.bytes_read += count;
  if (file_->kind() == FileKind::log || tables_have_checksums_) report_.bytes_verified += count;
  offset_ += count;
  if (count < kStepBytes) file_.reset();  // the end, also of a file cut short meanwhile
}

void Scrubber::read_in_pieces(size_t length) {
  for (uint64_t at = 0; at < length; at += kPieceBytes) {
    const size_t count = std::min<uint64_t>(kPieceBytes, length - at);
    const auto read = file_->read(offset_ + at, buffer_.span().first(count), Caching::uncached);
    if (!read) damaged(offset_ + at, count, read.error());
  }
}

// Pieces that follow each other are one damage, told in the words of the first.
void Scrubber::damaged(uint64_t offset, uint64_t length, const Status& status) {
  if (!report_.damages.empty()) {
    ScrubDamage& last = report_.damages.back();
    if (last.path == path_ && last.offset + last.length == offset && length > 0) {
      last.length += length;
      return;
    }
  }
  report_.damages.push_back({path_, offset, length, status});
}

}  // namespace basalt::blobfs

namespace basalt {

std::string to_string(const ScrubDamage& damage) {
  std::string text = damage.path;
  if (damage.length > 0) {
    text += ": bytes [" + std::to_string(damage.offset) + ", " +
            std::to_string(damage.offset + damage.length) + ")";
  }
  return text + ": " + damage.status.to_string();
}

}  // namespace basalt
