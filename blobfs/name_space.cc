#include "blobfs/name_space.h"

#include "base/planted.h"
#include "base/try.h"
#include "blobfs/file_space.h"
#include "blobfs/log_file.h"
#include "blobfs/log_writeback.h"

namespace basalt::blobfs {

namespace {

tl::unexpected<Status> name_error(StatusCode code, std::string_view path, std::string_view why) {
  return error(code, "\"" + std::string(path) + "\": " + std::string(why));
}

InodeRecord new_directory_record(uint64_t parent, uint64_t now_us) {
  InodeRecord record;
  record.kind = InodeKind::directory;
  record.modified_us = now_us;
  record.parent = parent;
  return record;
}

}  // namespace

Status NameSpace::format(blob::BlobStore& store, uint64_t now_us) {
  blob::Transaction txn;
  txn.catalog_put(std::string(1, kFileSystemKey), encode_file_system_record());
  txn.catalog_put(inode_key(kRootDirectory), encode(new_directory_record(kRootDirectory, now_us)));
  BASALT_TRY_ASSIGN(const blob::Ticket ticket, store.apply(txn));
  return store.wait_durable(ticket);
}

Status NameSpace::check_root() {
  auto value = core_.store.catalog_get(std::string(1, kFileSystemKey));
  if (!value && value.error().code() == StatusCode::not_found) {
    return {StatusCode::corruption, "the store holds no file system (no file system record)"};
  }
  BASALT_TRY_ASSIGN(const std::string record, std::move(value));
  BASALT_TRY(check_file_system_record(record));
  BASALT_TRY_ASSIGN([[maybe_unused]] const InodeRecord root, directory_record(kRootDirectory));
  return {};
}

// ---- Lookup; lock_ is held

Result<Entry> NameSpace::lookup(uint64_t directory, std::string_view name, std::string_view path) {
  auto value = core_.store.catalog_get(entry_key(directory, name));
  if (!value && value.error().code() == StatusCode::not_found) {
    return name_error(StatusCode::not_found, path, "does not exist");
  }
  BASALT_TRY_ASSIGN(const std::string bytes, std::move(value));
  return decode_entry(directory, name, bytes);
}

Result<Entry> NameSpace::walk(std::span<const std::string_view> components, std::string_view path) {
  Entry entry{true, kRootDirectory};
  for (const std::string_view name : components) {
    if (!entry.is_directory) {
      return name_error(StatusCode::not_a_directory, path, "a component before the last is a file");
    }
    BASALT_TRY_ASSIGN(entry, lookup(entry.id, name, path));
  }
  return entry;
}

Result<NameSpace::Place> NameSpace::place_of(const PathComponents& components) {
  std::string path = join_path(components);
  if (components.empty()) return name_error(StatusCode::invalid_argument, path, "is the root");
  BASALT_TRY_ASSIGN(const Entry parent,
                    walk(std::span(components).first(components.size() - 1), path));
  if (!parent.is_directory) {
    return name_error(StatusCode::not_a_directory, path, "a component before the last is a file");
  }
  return Place{parent.id, components.back(), std::move(path)};
}

Result<InodeRecord> NameSpace::directory_record(uint64_t id) {
  auto value = core_.store.catalog_get(inode_key(id));
  if (!value && value.error().code() == StatusCode::not_found) {
    return error(StatusCode::corruption,
                 "directory " + std::to_string(id) + " has no inode record");
  }
  BASALT_TRY_ASSIGN(const std::string bytes, std::move(value));
  BASALT_TRY_ASSIGN(const InodeRecord record, decode_inode(id, bytes));
  if (record.kind != InodeKind::directory) {
    return error(StatusCode::corruption, "inode " + std::to_string(id) + " is no directory");
  }
  return record;
}

Result<bool> NameSpace::is_empty(uint64_t directory) {
  const std::string prefix = directory_prefix(directory);
  bool empty = true;
  BASALT_TRY(core_.store.catalog_scan(prefix, [&](std::string_view key, std::string_view) {
    empty = !key.starts_with(prefix);
    return false;
  }));
  return empty;
}

Result<bool> NameSpace::is_below(uint64_t directory, uint64_t ancestor) {
  // A path has at most 4096 bytes, so a longer chain of parents is a cycle.
  for (size_t depth = 0; depth <= kMaxPathBytes; ++depth) {
    if (directory == ancestor) return true;
    if (directory == kRootDirectory) return false;
    BASALT_TRY_ASSIGN(const InodeRecord record, directory_record(directory));
    directory = record.parent;
  }
  return error(StatusCode::corruption,
               "directory " + std::to_string(directory) + ": its parents do not lead to the root");
}

Result<InodeRef> NameSpace::open(std::string_view path) {
  BASALT_TRY_ASSIGN(Found found, find(path));
  if (found.entry.is_directory)
    return name_error(StatusCode::is_a_directory, path, "is a directory");
  return std::move(found.inode);
}

Result<NameSpace::Found> NameSpace::find(std::string_view path) {
  BASALT_TRY_ASSIGN(const PathComponents components, split_path(path));
  const SharedLock lock(lock_);
  Found found;
  BASALT_TRY_ASSIGN(found.entry, walk(components, path));
  if (found.entry.is_directory) {
    BASALT_TRY_ASSIGN(found.directory, directory_record(found.entry.id));
  } else {
    BASALT_TRY_ASSIGN(found.inode, inodes_.acquire(found.entry.id));
  }
  return found;
}

Result<std::vector<DirectoryEntry>> NameSpace::list(std::string_view path) {
  BASALT_TRY_ASSIGN(const PathComponents components, split_path(path));
  const SharedLock lock(lock_);
  BASALT_TRY_ASSIGN(const Entry entry, walk(components, path));
  if (!entry.is_directory) return name_error(StatusCode::not_a_directory, path, "is a file");
  std::vector<DirectoryEntry> entries;
  Status problem;
  const std::string prefix = directory_prefix(entry.id);
  BASALT_TRY(core_.store.catalog_scan(prefix, [&](std::string_view key, std::string_view value) {
    if (!key.starts_with(prefix)) return false;
    const std::string_view name = key.substr(prefix.size());
    const Result<Entry> child = decode_entry(entry.id, name, value);
    if (child) {
      entries.push_back({std::string(name), child->is_directory});
    } else if (problem.ok()) {
      problem = child.error();
    }
    return true;
  }));
  BASALT_TRY(problem);
  return entries;
}

// ---- Changes

Status NameSpace::touch_directory(blob::Transaction& txn, uint64_t directory) {
  BASALT_TRY_ASSIGN(InodeRecord record, directory_record(directory));
  record.modified_us = core_.now_us();
  txn.catalog_put(inode_key(directory), encode(record));
  return {};
}

void NameSpace::add_unlink(blob::Transaction& txn, const OpenInode& inode) {
  if (inode.record.links <= 1) {
    txn.catalog_erase(inode_key(inode.id));
    if (!planted("orphan_not_listed")) txn.orphan(BlobId{inode.id});
    return;
  }
  InodeRecord record = inode.record;
  --record.links;
  txn.catalog_put(inode_key(inode.id), encode(record));
}

void NameSpace::finish_unlink(OpenInode& inode, blob::Ticket ticket) {
  if (inode.record.links <= 1) {
    inode.unlinked = true;
    // Its record does not follow it any more. Should the power go before the removal is durable, the file
    // is back as that record says: a truncation since then must not have touched the device.
    if (!planted("removal_not_awaited")) inode.meta_ticket = inode.epoch_ticket = ticket;
  } else {
    --inode.record.links;
  }
}

Status NameSpace::apply(blob::Transaction& txn, blob::Ticket& ticket) {
  BASALT_TRY_ASSIGN(ticket, core_.store.apply(txn));
  core_.note_names(ticket);
  return {};
}

Status NameSpace::finish(ExclusiveLock& lock, blob::Ticket ticket, OpenInode* removed) {
  lock.unlock();
  if (removed != nullptr && core_.logs != nullptr) core_.logs->forget(*removed);
  return core_.survive_process(ticket);
}

Result<InodeRef> NameSpace::create(std::string_view path, FileKind kind,
                                   const CreateOptions& options) {
  BASALT_TRY_ASSIGN(const PathComponents components, split_path(path));
  InodeRef replaced, made;  // released after the lock
  ExclusiveLock lock(lock_);
  BASALT_TRY_ASSIGN(const Place place, place_of(components));
  const Result<Entry> present = lookup(place.directory, place.name, place.path);
  if (!present && present.error().code() != StatusCode::not_found) return error(present.error());
  if (present && options.exclusive) {
    return name_error(StatusCode::already_exists, place.path, "already exists");
  }
  if (present && present->is_directory) {
    return name_error(StatusCode::is_a_directory, place.path, "is a directory");
  }
  const BlobId id = core_.store.new_blob_id();
  InodeRecord record = kind == FileKind::log ? new_log_record(core_) : InodeRecord{};
  record.modified_us = core_.now_us();
  record.lifetime = options.lifetime;

  blob::Transaction txn;
  // Logs carry checksums of their own.
  txn.create_blob(id, {.checksums = kind == FileKind::table && core_.store.has_data_checksums()});
  if (options.preallocate_bytes > 0) {
    // A wish: where there is not so much space, the file is made without.
    const blob::BlockRange range{0, round_up(options.preallocate_bytes, kBlock) / kBlock};
    const Status status = core_.store.allocate(txn, id, range);
    if (!status.ok() && status.code() != StatusCode::no_space) return error(status);
  }
  txn.catalog_put(inode_key(id.value), encode(record));
  txn.catalog_put(entry_key(place.directory, place.name), encode(Entry{false, id.value}));
  BASALT_TRY(touch_directory(txn, place.directory));
  blob::Ticket ticket;
  if (present) {
    BASALT_TRY_ASSIGN(replaced, inodes_.acquire(present->id));
    const MutexLock inode_lock(replaced->mutex);
    add_unlink(txn, *replaced);
    BASALT_TRY(apply(txn, ticket));
    finish_unlink(*replaced, ticket);
  } else {
    BASALT_TRY(apply(txn, ticket));
  }
  made = inodes_.adopt(id.value, record, ticket);
  BASALT_TRY(finish(lock, ticket, replaced.get()));
  return made;
}

Status NameSpace::remove(std::string_view path) {
  BASALT_TRY_ASSIGN(const PathComponents components, split_path(path));
  InodeRef inode;  // released, and with it perhaps the blob, after the lock
  ExclusiveLock lock(lock_);
  BASALT_TRY_ASSIGN(const Place place, place_of(components));
  BASALT_TRY_ASSIGN(const Entry entry, lookup(place.directory, place.name, place.path));
  if (entry.is_directory) {
    return Status(StatusCode::is_a_directory, "\"" + place.path + "\": is a directory");
  }
  BASALT_TRY_ASSIGN(inode, inodes_.acquire(entry.id));
  blob::Transaction txn;
  txn.catalog_erase(entry_key(place.directory, place.name));
  BASALT_TRY(touch_directory(txn, place.directory));
  blob::Ticket ticket;
  {
    const MutexLock inode_lock(inode->mutex);
    add_unlink(txn, *inode);
    BASALT_TRY(apply(txn, ticket));
    finish_unlink(*inode, ticket);
  }
  return finish(lock, ticket, inode.get());
}

Status NameSpace::link(std::string_view existing, std::string_view created) {
  BASALT_TRY_ASSIGN(const PathComponents from, split_path(existing));
  BASALT_TRY_ASSIGN(const PathComponents to, split_path(created));
  InodeRef inode;
  ExclusiveLock lock(lock_);
  BASALT_TRY_ASSIGN(const Entry entry, walk(from, existing));
  if (entry.is_directory) {
    return Status(StatusCode::is_a_directory,
                  "\"" + std::string(existing) + "\": a directory has only one name");
  }
  BASALT_TRY_ASSIGN(const Place place, place_of(to));
  const Result<Entry> present = lookup(place.directory, place.name, place.path);
  if (present) return Status(StatusCode::already_exists, "\"" + place.path + "\": already exists");
  if (present.error().code() != StatusCode::not_found) return present.error();
  BASALT_TRY_ASSIGN(inode, inodes_.acquire(entry.id));
  blob::Transaction txn;
  txn.catalog_put(entry_key(place.directory, place.name), encode(entry));
  BASALT_TRY(touch_directory(txn, place.directory));
  blob::Ticket ticket;
  {
    const MutexLock inode_lock(inode->mutex);
    InodeRecord record = inode->record;
    if (record.links == ~uint32_t{0}) return Status(StatusCode::too_large, "too many links");
    ++record.links;
    txn.catalog_put(inode_key(inode->id), encode(record));
    BASALT_TRY(apply(txn, ticket));
    inode->record = record;
  }
  return finish(lock, ticket);
}

Status NameSpace::make_directory(std::string_view path) {
  BASALT_TRY_ASSIGN(const PathComponents components, split_path(path));
  ExclusiveLock lock(lock_);
  if (components.empty()) return Status(StatusCode::already_exists, "\"/\": already exists");
  BASALT_TRY_ASSIGN(const Place place, place_of(components));
  const Result<Entry> present = lookup(place.directory, place.name, place.path);
  if (present) return Status(StatusCode::already_exists, "\"" + place.path + "\": already exists");
  if (present.error().code() != StatusCode::not_found) return present.error();
  const BlobId id = core_.store.new_blob_id();
  blob::Transaction txn;
  // A blob of this id comes and goes: so the store remembers that the id was given.
  if (!planted("directory_id_forgotten")) {
    txn.create_blob(id, {});
    txn.delete_blob(id);
  }
  txn.catalog_put(inode_key(id.value),
                  encode(new_directory_record(place.directory, core_.now_us())));
  txn.catalog_put(entry_key(place.directory, place.name), encode(Entry{true, id.value}));
  BASALT_TRY(touch_directory(txn, place.directory));
  blob::Ticket ticket;
  BASALT_TRY(apply(txn, ticket));
  return finish(lock, ticket);
}

Status NameSpace::remove_directory(std::string_view path) {
  BASALT_TRY_ASSIGN(const PathComponents components, split_path(path));
  ExclusiveLock lock(lock_);
  BASALT_TRY_ASSIGN(const Place place, place_of(components));
  BASALT_TRY_ASSIGN(const Entry entry, lookup(place.directory, place.name, place.path));
  if (!entry.is_directory) {
    return Status(StatusCode::not_a_directory, "\"" + place.path + "\": is a file");
  }
  BASALT_TRY_ASSIGN(const bool empty, is_empty(entry.id));
  if (!empty) return Status(StatusCode::not_empty, "\"" + place.path + "\": is not empty");
  blob::Transaction txn;
  txn.catalog_erase(entry_key(place.directory, place.name));
  txn.catalog_erase(inode_key(entry.id));
  BASALT_TRY(touch_directory(txn, place.directory));
  blob::Ticket ticket;
  BASALT_TRY(apply(txn, ticket));
  return finish(lock, ticket);
}

Status NameSpace::replace_directory(blob::Transaction& txn, const Entry& moved, const Entry& target,
                                    std::string_view path) {
  const std::string where = "\"" + std::string(path) + "\": ";
  if (!moved.is_directory) return {StatusCode::is_a_directory, where + "is a directory"};
  BASALT_TRY_ASSIGN(const bool empty, is_empty(target.id));
  if (!empty) return {StatusCode::not_empty, where + "is not empty"};
  txn.catalog_erase(inode_key(target.id));
  return {};
}

Status NameSpace::rename(std::string_view from_path, std::string_view to_path) {
  BASALT_TRY_ASSIGN(const PathComponents from_components, split_path(from_path));
  BASALT_TRY_ASSIGN(const PathComponents to_components, split_path(to_path));
  InodeRef replaced;
  ExclusiveLock lock(lock_);
  BASALT_TRY_ASSIGN(const Place from, place_of(from_components));
  BASALT_TRY_ASSIGN(const Entry moved, lookup(from.directory, from.name, from.path));
  BASALT_TRY_ASSIGN(const Place to, place_of(to_components));
  const Result<Entry> target = lookup(to.directory, to.name, to.path);
  if (!target && target.error().code() != StatusCode::not_found) return target.error();
  if (target && *target == moved) return {};  // two names of one file, or the same name
  if (moved.is_directory) {
    BASALT_TRY_ASSIGN(const bool below, is_below(to.directory, moved.id));
    if (below) {
      return Status(StatusCode::invalid_argument,
                    "\"" + from.path + "\" cannot be moved below itself to \"" + to.path + "\"");
    }
  }
  blob::Transaction txn;
  txn.catalog_erase(entry_key(from.directory, from.name));
  txn.catalog_put(entry_key(to.directory, to.name), encode(moved));
  BASALT_TRY(touch_directory(txn, from.directory));
  if (to.directory != from.directory) BASALT_TRY(touch_directory(txn, to.directory));
  if (moved.is_directory && to.directory != from.directory) {
    BASALT_TRY_ASSIGN(InodeRecord record, directory_record(moved.id));
    record.parent = to.directory;
    txn.catalog_put(inode_key(moved.id), encode(record));
  }
  if (target && target->is_directory) BASALT_TRY(replace_directory(txn, moved, *target, to.path));
  blob::Ticket ticket;
  if (target && !target->is_directory) {
    if (moved.is_directory) {
      return Status(StatusCode::not_a_directory, "\"" + to.path + "\": is a file");
    }
    BASALT_TRY_ASSIGN(replaced, inodes_.acquire(target->id));
    const MutexLock inode_lock(replaced->mutex);
    add_unlink(txn, *replaced);
    BASALT_TRY(apply(txn, ticket));
    finish_unlink(*replaced, ticket);
  } else {
    BASALT_TRY(apply(txn, ticket));
  }
  return finish(lock, ticket, replaced.get());
}

}  // namespace basalt::blobfs
