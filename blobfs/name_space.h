// NameSpace: directories and names, kept in the store's catalog (docs/format/names.md).
//
// Every change is one transaction: it happens whole or not at all, whatever crashes. Nothing of the tree is
// kept in memory; a lookup is a catalog lookup per component. Changes are made one at a time under the
// exclusive side of `lock`, lookups share it. A file that loses its last name goes to the store's orphan
// list in the same transaction; its blob is deleted when the last handle closes (open_inode.h), or by the
// next mount.
// Threads: any.
#pragma once

#include "base/sync.h"
#include "blobfs/open_inode.h"
#include "blobfs/path.h"

#include <shared_mutex>
#include <string>
#include <string_view>
#include <vector>

namespace basalt::blobfs {

class NameSpace {
 public:
  NameSpace(Core& core, InodeTable& inodes) : core_(core), inodes_(inodes) {}

  // Makes an empty name space in a fresh store.
  static Status format(blob::BlobStore& store, uint64_t now_us);
  // Checks the file system record and the root.
  Status check_root();

  Result<InodeRef> open(std::string_view path);
  // A new file under `path`, replacing a file there unless options.exclusive.
  Result<InodeRef> create(std::string_view path, FileKind kind, const CreateOptions& options);
  Status remove(std::string_view path);
  Status rename(std::string_view from, std::string_view to);
  Status link(std::string_view existing, std::string_view created);
  Status make_directory(std::string_view path);
  Status remove_directory(std::string_view path);
  Result<std::vector<DirectoryEntry>> list(std::string_view path);
  // A directory's record, or a file's inode.
  struct Found {
    Entry entry;
    InodeRecord directory;  // entry.is_directory
    InodeRef inode;         // else
  };
  Result<Found> find(std::string_view path);

 private:
  using SharedLock = std::shared_lock<SharedMutex>;
  using ExclusiveLock = std::unique_lock<SharedMutex>;
  // A name and the directory it is, or would be, in.
  struct Place {
    uint64_t directory = 0;
    std::string_view name;
    std::string path;  // for messages
  };

  Result<Entry> lookup(uint64_t directory, std::string_view name, std::string_view path);
  Result<Entry> walk(std::span<const std::string_view> components, std::string_view path);
  Result<Place> place_of(const PathComponents& components);
  Result<InodeRecord> directory_record(uint64_t id);
  Result<bool> is_empty(uint64_t directory);
  Result<bool> is_below(uint64_t directory, uint64_t ancestor);
  // The directory's time follows a change in it.
  Status touch_directory(blob::Transaction& txn, uint64_t directory);
  // Adds to `txn` that `inode`, whose mutex is held, loses a name; finish_unlink() with its ticket once it is
  // applied.
  void add_unlink(blob::Transaction& txn, const OpenInode& inode);
  void finish_unlink(OpenInode& inode, blob::Ticket ticket);
  Status apply(blob::Transaction& txn, blob::Ticket& ticket);
  Status replace_directory(blob::Transaction& txn, const Entry& moved, const Entry& target,
                           std::string_view path);
  // Ends a change: releases the lock, then waits as far as surviving the process asks for it. `removed` has lost a name.
  Status finish(ExclusiveLock& lock, blob::Ticket ticket, OpenInode* removed = nullptr);

  Core& core_;
  InodeTable& inodes_;
  SharedMutex lock_;
};

}  // namespace basalt::blobfs
