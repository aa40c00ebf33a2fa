// See state_store.h.
#include "targets/daemon/state_store.h"

#include <basalt/devices.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <map>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/crc32c.h"
#include "base/endian.h"
#include "base/try.h"
#include "base/unique_fd.h"
#include "bdev/uri.h"

namespace basalt {

using blob::Ticket;
using blob::Transaction;

namespace {

constexpr std::string_view kMarkerKey = "S";
constexpr std::string_view kMarker{"\1\0\0\0", 4};  // the version
constexpr char kHeadPrefix = 'V', kPiecePrefix = 'P';
// A sparse file: what the metadata regions take, which values lie in, and little else.
constexpr uint64_t kFileBytes = uint64_t{128} << 20, kMetadataBytes = uint64_t{32} << 20,
                   kJournalBytes = uint64_t{4} << 20;
// Of a transaction. Each may touch pages of its own, for which there has to be room before.
constexpr unsigned kEntries = 64;
static_assert(kEntries * (blob::kMaxKeyBytes + blob::kMaxValueBytes + 32) <=
              blob::Transaction::kMaxBytes);

struct HeadRecord {
  le64 version;
  le32 pieces;
  le32 bytes;     // of the value
  le32 checksum;  // its CRC-32C
};
struct PieceNumber {
  be64 version;
  be32 index;
};
static_assert(sizeof(HeadRecord) == 20 && sizeof(PieceNumber) == 12 &&
              std::has_unique_object_representations_v<HeadRecord>);
constexpr size_t kMostInHead = blob::kMaxValueBytes - sizeof(HeadRecord);
static_assert(1 + StateStore::kMaxKeyBytes + sizeof(PieceNumber) <= blob::kMaxKeyBytes);

template <class Struct>
std::string bytes_of(const Struct& value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof value);
}

std::string head_key(std::string_view key) { return kHeadPrefix + std::string(key); }

std::string piece_key(std::string_view key, uint64_t version, uint32_t index) {
  return kPiecePrefix + std::string(key) + bytes_of(PieceNumber{version, index});
}

uint32_t checksum_of(std::string_view value) {
  return crc32c(std::as_bytes(std::span(value.data(), value.size())));
}

uint32_t piece_count(size_t bytes) {
  return static_cast<uint32_t>((bytes + blob::kMaxValueBytes - 1) / blob::kMaxValueBytes);
}

// Small, as its values are; nothing of it is kept in shared memory.
blob::StoreOptions store_options() {
  blob::StoreOptions options;
  options.metadata_cache_bytes = uint64_t{4} << 20;
  options.max_channels = 4;
  options.has_tail = false;
  return options;
}

// Its name stays after power loss.
Status sync_directory(const std::string& directory) {
  const UniqueFd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (fd.get() >= 0 && ::fsync(fd.get()) == 0) return {};
  return {StatusCode::io_error, directory + ": fsync: " + std::strerror(errno)};
}

enum class Space : uint8_t { as_it_is, sparse, reserved };

std::string uri_of(const std::string& path, Space space) {
  Uri uri;
  uri.scheme = "file";
  uri.argument = path;
  uri.set("direct", "0");  // on any file system; what is waited for is flushed
  if (space != Space::as_it_is) uri.set("size", format_size(kFileBytes));
  if (space == Space::reserved) uri.set("reserve", "1");
  return uri.to_string();
}

Result<std::unique_ptr<Context>> make_context(LogSink* log) {
  ContextOptions options;
  options.log = log;
  BASALT_TRY_ASSIGN(auto context, Context::create(options));
  register_standard_schemes(*context);
  return context;
}

// Whole, or not there: under another name until it is.
Status make_file(const std::string& directory, const std::string& path, LogSink* log) {
  const std::string unfinished = path + ".new";
  BASALT_TRY_ASSIGN(const auto context, make_context(log));
  {
    // Reserved: when others fill the file system, what fences hosts off can still be written.
    auto device = open_device(*context, uri_of(unfinished, Space::reserved));
    if (!device && device.error().code() == StatusCode::unsupported) {
      context->log().log(LogLevel::warning, "state",
                         path +
                             ": no space can be reserved on this file system; should it become "
                             "full, nothing more is kept");
      device = open_device(*context, uri_of(unfinished, Space::sparse));
    }
    if (!device) return device.error();
    BASALT_TRY(StateStore::make(*context, **device));
    context->log().log(LogLevel::warning, "state", path + ": made anew; nothing was kept here");
  }
  // Another process may have been faster.
  if (::renameat2(AT_FDCWD, unfinished.c_str(), AT_FDCWD, path.c_str(), RENAME_NOREPLACE) != 0) {
    const int failure = errno;
    ::unlink(unfinished.c_str());
    if (failure != EEXIST) {
      return {StatusCode::io_error, "rename to " + path + ": " + std::strerror(failure)};
    }
  }
  return sync_directory(directory);
}

}  // namespace

Result<std::unique_ptr<StateStore>> StateStore::open(const std::string& directory, LogSink* log) {
  struct stat info {};
  if (::stat(directory.c_str(), &info) != 0 || !S_ISDIR(info.st_mode)) {
    return error(StatusCode::not_found, directory + ": there is no such directory for the state");
  }
  const std::string path = directory + "/state";
  if (::stat(path.c_str(), &info) != 0) {
    if (errno != ENOENT) {
      return error(StatusCode::permission_denied, path + ": " + std::strerror(errno));
    }
    BASALT_TRY(make_file(directory, path, log));
  } else if (!S_ISREG(info.st_mode)) {
    return error(StatusCode::invalid_argument, path + ": is not a file, which the state would be");
  }
  BASALT_TRY_ASSIGN(auto context, make_context(log));
  BASALT_TRY_ASSIGN(auto device, open_device(*context, uri_of(path, Space::as_it_is)));
  return open(std::move(context), std::move(device));
}

Status StateStore::make(Context& context, Device& device) {
  BASALT_TRY(blob::BlobStore::format(context, device,
                                     {.journal_bytes = kJournalBytes,
                                      .metadata_bytes = kMetadataBytes,
                                      .label = "basaltd state",
                                      .force = true}));
  BASALT_TRY_ASSIGN(const auto store, blob::BlobStore::open(context, device, store_options()));
  Transaction marker;
  marker.catalog_put(kMarkerKey, kMarker);
  BASALT_TRY_ASSIGN(const Ticket ticket, store->apply(marker));
  BASALT_TRY(store->wait_durable(ticket));
  return store->close();
}

Result<std::unique_ptr<StateStore>> StateStore::open(std::unique_ptr<Context> context,
                                                     std::unique_ptr<Device> device) {
  std::unique_ptr<StateStore> state(new StateStore(std::move(context), std::move(device)));
  if (const Status status = state->recover(); !status.ok()) {
    return error(status.with_context(state->name_));
  }
  return state;
}

StateStore::StateStore(std::unique_ptr<Context> context, std::unique_ptr<Device> device)
    : context_(std::move(context)), device_(std::move(device)), name_(device_->info().uri) {}

StateStore::~StateStore() {
  if (store_ == nullptr) return;
  if (const Status status = store_->close(); !status.ok()) {
    context_->log().log(LogLevel::error, "state", name_ + ": " + status.to_string());
  }
}

Status StateStore::recover() {
  BASALT_TRY_ASSIGN(claim_, device_->claim(ClaimMode::exclusive_writer, "basaltd's state"));
  auto opened = blob::BlobStore::open(*context_, *device_, store_options());
  if (!opened) return opened.error();
  const auto marker = (*opened)->catalog_get(kMarkerKey);
  if (!marker || *marker != kMarker) {
    (*opened)->abandon();
    return {StatusCode::invalid_argument,
            marker ? "the state of another version of basaltd, of which 1 is known"
                   : "a Basalt store that is not basaltd's state"};
  }
  store_ = std::move(*opened);
  for (const std::string& note : store_->recovery_notes()) {
    context_->log().log(LogLevel::info, "state", name_ + ": " + note);
  }
  if (const Status swept = sweep(); !swept.ok()) {
    // They take up space, and no more.
    context_->log().log(LogLevel::warning, "state",
                        name_ + ": pieces of values that are no more: " + swept.to_string());
  }
  return {};
}

Status StateStore::sweep() {
  std::map<std::string, Head, std::less<>> heads;
  BASALT_TRY(store_->catalog_scan(
      std::string(1, kHeadPrefix), [&](std::string_view key, std::string_view value) {
        if (key.front() != kHeadPrefix) return false;
        HeadRecord record;
        if (value.size() < sizeof record) return true;  // get() says that it is damaged
        std::memcpy(static_cast<void*>(&record), value.data(), sizeof record);
        heads[std::string(key.substr(1))] = {record.version, record.pieces};
        next_version_ = std::max<uint64_t>(next_version_, record.version + 1);
        return true;
      }));
  std::vector<std::string> lost;
  BASALT_TRY(store_->catalog_scan(
      std::string(1, kPiecePrefix), [&](std::string_view key, std::string_view) {
        if (key.front() != kPiecePrefix) return false;
        PieceNumber number;
        if (key.size() < 1 + sizeof number) return true;
        std::memcpy(static_cast<void*>(&number), key.end() - sizeof number, sizeof number);
        const auto head = heads.find(key.substr(1, key.size() - 1 - sizeof number));
        const bool is_used = head != heads.end() && head->second.version == number.version &&
                             number.index < head->second.pieces;
        if (!is_used) lost.emplace_back(key);
        return true;
      }));
  for (size_t at = 0; at < lost.size();) {
    Transaction txn;
    for (; at < lost.size() && txn.op_count() < kEntries; ++at) {
      txn.catalog_erase(lost[at]);
    }
    BASALT_TRY_ASSIGN([[maybe_unused]] const Ticket ticket, store_->apply(txn));
  }
  return {};
}

Result<std::optional<StateStore::Head>> StateStore::head_of(std::string_view key) {
  const auto value = store_->catalog_get(head_key(key));
  if (!value && value.error().code() == StatusCode::not_found) return std::optional<Head>();
  if (!value) return error(value.error());
  HeadRecord record{};
  if (value->size() >= sizeof record) {
    std::memcpy(static_cast<void*>(&record), value->data(), sizeof record);
  }
  const uint32_t most = piece_count(kMaxValueBytes);
  return std::optional<Head>({record.version, std::min<uint32_t>(record.pieces, most)});
}

Result<std::string> StateStore::get(std::string_view key) {
  const MutexLock lock(mutex_);
  auto head = store_->catalog_get(head_key(key));
  if (!head) return head;
  const auto damaged = [&] {
    return error(StatusCode::corruption,
                 name_ + ": the value of \"" + std::string(key) + "\" is not what was written");
  };
  HeadRecord record;
  if (head->size() < sizeof record) return damaged();
  std::memcpy(static_cast<void*>(&record), head->data(), sizeof record);
  std::string value = head->substr(sizeof record);
  if (record.bytes > kMaxValueBytes || record.pieces > piece_count(record.bytes)) return damaged();
  for (uint32_t i = 0; i < record.pieces; ++i) {
    const auto piece = store_->catalog_get(piece_key(key, record.version, i));
    if (!piece && piece.error().code() == StatusCode::not_found) return damaged();
    if (!piece) return piece;
    value += *piece;
  }
  if (value.size() != record.bytes || checksum_of(value) != record.checksum) return damaged();
  return value;
}

Status StateStore::put(std::string_view key, std::string_view value) {
  if (key.size() > kMaxKeyBytes || value.size() > kMaxValueBytes) {
    return {StatusCode::too_large, name_ + ": a key of " + std::to_string(key.size()) +
                                       " bytes with a value of " + std::to_string(value.size()) +
                                       "; at most " + std::to_string(kMaxKeyBytes) + " and " +
                                       std::to_string(kMaxValueBytes) + " are kept"};
  }
  const MutexLock lock(mutex_);
  BASALT_TRY_ASSIGN(const std::optional<Head> old, head_of(key));
  HeadRecord record{};
  record.version = next_version_++;
  record.pieces = value.size() <= kMostInHead ? 0 : piece_count(value.size());
  record.bytes = static_cast<uint32_t>(value.size());
  record.checksum = checksum_of(value);
  if (record.pieces > 0) {
    if (const Status written = write_pieces(key, record.version, value); !written.ok()) {
      // As far as that goes; the next opening finds the rest.
      static_cast<void>(erase_pieces(key, {record.version, record.pieces}));
      return written.with_context(name_);
    }
  }
  Transaction txn;
  txn.catalog_put(head_key(key),
                  bytes_of(record) + std::string(record.pieces == 0 ? value : std::string_view()));
  const Result<Ticket> ticket = store_->apply(txn);
  if (!ticket) return ticket.error().with_context(name_);
  if (const Status durable = store_->wait_durable(*ticket); !durable.ok()) {
    return durable.with_context(name_);
  }
  if (old) static_cast<void>(erase_pieces(key, *old));  // as above
  return {};
}

Status StateStore::erase(std::string_view key) {
  const MutexLock lock(mutex_);
  BASALT_TRY_ASSIGN(const std::optional<Head> old, head_of(key));
  if (!old) return {};
  Transaction txn;
  txn.catalog_erase(head_key(key));
  const Result<Ticket> ticket = store_->apply(txn);
  if (!ticket) return ticket.error().with_context(name_);
  if (const Status durable = store_->wait_durable(*ticket); !durable.ok()) {
    return durable.with_context(name_);
  }
  static_cast<void>(erase_pieces(key, *old));
  return {};
}

// Durable with the next transaction that is waited for.
Status StateStore::write_pieces(std::string_view key, uint64_t version, std::string_view value) {
  for (uint32_t index = 0; !value.empty();) {
    Transaction txn;
    while (!value.empty() && txn.op_count() < kEntries) {
      const std::string_view piece = value.substr(0, blob::kMaxValueBytes);
      txn.catalog_put(piece_key(key, version, index++), piece);
      value.remove_prefix(piece.size());
    }
    BASALT_TRY_ASSIGN([[maybe_unused]] const Ticket ticket, store_->apply(txn));
  }
  return {};
}

Status StateStore::erase_pieces(std::string_view key, const Head& head) {
  for (uint32_t index = 0; index < head.pieces;) {
    Transaction txn;
    for (; index < head.pieces && txn.op_count() < kEntries; ++index) {
      txn.catalog_erase(piece_key(key, head.version, index));
    }
    BASALT_TRY_ASSIGN([[maybe_unused]] const Ticket ticket, store_->apply(txn));
  }
  return {};
}

}  // namespace basalt
