// Verification, repair and inspection of an unmounted file system: FileSystem::check, repair and dump.
//
// On top of what the blob store verifies about itself: every catalog entry decodes, every name leads to an
// inode of its kind and every inode is reached by as many names as it says, directories form one tree, every
// file has a blob and every blob a file, and every byte of every log can be read. Repairing is the blob
// store's: names and logs have no second copy of their own.
#include "base/try.h"
#include "blobfs/async_reads.h"
#include "blobfs/core.h"
#include "blobfs/file_read.h"
#include "blobfs/log_file.h"
#include "blobfs/open_inode.h"

#include <functional>
#include <map>
#include <set>

namespace basalt::blobfs {

namespace {

class NameChecker {
 public:
  NameChecker(blob::BlobStore& store, CheckReport& report) : store_(store), report_(report) {}

  Status run() {
    BASALT_TRY(load());
    check_tree();
    check_links();
    return check_blobs();
  }
  // Ids and records of logs, for reading them.
  std::map<uint64_t, InodeRecord> logs() const {
    std::map<uint64_t, InodeRecord> found;
    for (const auto& [id, record] : inodes_) {
      if (record.kind == InodeKind::log) found.emplace(id, record);
    }
    return found;
  }

 private:
  void problem(std::string text) { report_.problems.push_back(std::move(text)); }
  static std::string inode_name(uint64_t id) { return "inode " + std::to_string(id); }

  Status load() {
    bool has_record = false;
    BASALT_TRY(store_.catalog_scan("", [&](std::string_view key, std::string_view value) {
      uint64_t id = 0;
      std::string_view name;
      if (key == std::string_view(&kFileSystemKey, 1)) {
        has_record = true;
        if (const Status status = check_file_system_record(value); !status.ok()) {
          problem(std::string(status.message()));
        }
      } else if (parse_inode_key(key, id)) {
        const auto record = decode_inode(id, value);
        record ? void(inodes_.emplace(id, *record))
               : problem(std::string(record.error().message()));
      } else if (parse_entry_key(key, id, name)) {
        const auto entry = decode_entry(id, name, value);
        entry ? entries_.push_back({id, std::string(name), *entry})
              : problem(std::string(entry.error().message()));
      } else {
        problem("catalog: a key of " + std::to_string(key.size()) + " bytes that is no name's");
      }
      return true;
    }));
    if (!has_record) problem("there is no file system record");
    return {};
  }

  void check_tree() {
    for (const Named& named : entries_) {
      const std::string where =
          "directory " + std::to_string(named.directory) + ", entry \"" + named.name + "\": ";
      const auto parent = inodes_.find(named.directory);
      if (parent == inodes_.end() || parent->second.kind != InodeKind::directory) {
        problem(where + "its directory does not exist");
      }
      const auto inode = inodes_.find(named.entry.id);
      if (inode == inodes_.end()) {
        problem(where + inode_name(named.entry.id) + " does not exist");
        continue;
      }
      const bool is_directory = inode->second.kind == InodeKind::directory;
      if (is_directory != named.entry.is_directory)
        problem(where + "says another kind than its inode");
      if (is_directory && inode->second.parent != named.directory) {
        problem(where + "is a directory whose parent is said to be " +
                std::to_string(inode->second.parent));
      }
      ++names_[named.entry.id];
    }
  }

  void check_links() {
    const auto root = inodes_.find(kRootDirectory);
    if (root == inodes_.end() || root->second.kind != InodeKind::directory) {
      problem("the root directory has no inode");
    }
    for (const auto& [id, record] : inodes_) {
      const bool is_directory = record.kind == InodeKind::directory;
      ++(is_directory ? report_.directories : report_.files);
      const uint64_t names = id == kRootDirectory ? 1 : names_[id];
      if (names != record.links) {
        problem(inode_name(id) + ": " + std::to_string(names) + " names, but link count " +
                std::to_string(record.links));
      }
      if (is_directory) check_path_to_root(id);
    }
  }

  void check_path_to_root(uint64_t id) {
    std::set<uint64_t> seen;
    for (uint64_t at = id; at != kRootDirectory;) {
      const auto record = inodes_.find(at);
      if (record == inodes_.end() || !seen.insert(at).second) {
        return problem("directory " + std::to_string(id) + ": its parents do not lead to the root");
      }
      at = record->second.parent;
    }
  }

  Status check_blobs() {
    std::set<uint64_t> blobs;
    std::vector<uint64_t> strays;
    BASALT_TRY(store_.for_each_blob([&](BlobId id, const blob::BlobInfo&) {
      blobs.insert(id.value);
      const auto inode = inodes_.find(id.value);
      if (inode == inodes_.end() || inode->second.kind == InodeKind::directory)
        strays.push_back(id.value);
      return true;
    }));
    for (const auto& [id, record] : inodes_) {
      if (record.kind != InodeKind::directory && !blobs.contains(id)) {
        problem(inode_name(id) + ": its blob does not exist");
      }
    }
    // After an unclean end some deletions may not be finished; the next mount does that.
    for (const uint64_t id : strays) {
      std::string text = "blob " + std::to_string(id) + " belongs to no file";
      if (store_.identity().previous_open_was_writer) {
        report_.notes.push_back(text + "; the store was not closed, the next mount deletes it");
      } else {
        problem(std::move(text));
      }
    }
    return {};
  }

  struct Named {
    uint64_t directory;
    std::string name;
    Entry entry;
  };
  blob::BlobStore& store_;
  CheckReport& report_;
  std::map<uint64_t, InodeRecord> inodes_;
  std::vector<Named> entries_;
  std::map<uint64_t, uint64_t> names_;
};

// Reads a log from front to back.
void check_log(Core& core, uint64_t id, const InodeRecord& record, CheckReport& report) {
  OpenInode inode(core, id, record);
  Status status = find_log_end(core, inode);
  if (status.ok()) status = inode.damage;
  const uint64_t size = inode.size.load();
  report.log_blocks += inode.shape.block_count(size);
  if (status.ok()) {
    const IoBuffers::Lease buffer = core.buffers.take(IoBuffers::kLargeBytes);
    Readahead readahead;
    for (uint64_t at = 0; at < size && status.ok(); at += buffer.span().size()) {
      const auto count = read_file(core, inode, readahead, at, buffer.span(), Caching::uncached);
      if (!count) status = count.error();
    }
  }
  if (!status.ok()) report.problems.push_back(std::string(status.message()));
}

Status check_names(Context& context, Device& device, CheckReport& report,
                   const std::function<void(double)>& progress) {
  blob::StoreOptions options;
  options.mode = OpenMode::read_only;
  BASALT_TRY_ASSIGN(const auto store, blob::BlobStore::open(context, device, options));
  NameChecker names(*store, report);
  BASALT_TRY(names.run());
  MountOptions mount;
  mount.mode = OpenMode::read_only;
  mount.cache_bytes = 0;
  PageCache cache;
  Core core(context, *store, cache, mount);
  AsyncReads reads(core);
  core.reads = &reads;
  const auto logs = names.logs();
  size_t done = 0;
  for (const auto& [id, record] : logs) {
    check_log(core, id, record, report);
    progress(static_cast<double>(++done) / static_cast<double>(logs.size()));
  }
  return {};
}

// A catalog key for people: what it is the key of.
std::string name_catalog_key(std::string_view key) {
  uint64_t id = 0;
  std::string_view name;
  if (parse_inode_key(key, id)) return "inode " + std::to_string(id);
  if (parse_entry_key(key, id, name)) {
    return "directory " + std::to_string(id) + ", entry \"" + std::string(name) + "\"";
  }
  if (key == std::string_view(&kFileSystemKey, 1)) return "the file system record";
  return "a key of " + std::to_string(key.size()) + " bytes that is no name's";
}

Result<CheckReport> verify(Context& context, Device& device, blob::CheckMode mode,
                           void (*progress)(double fraction)) {
  const bool repair = mode == blob::CheckMode::repair;
  BASALT_TRY_ASSIGN(const Claim claim,
                    device.claim(repair ? ClaimMode::exclusive_writer : ClaimMode::read_only,
                                 repair ? "Basalt repair" : "Basalt check"));
  const auto part = [progress](double from, double to) {
    return [progress, from, to](double fraction) {
      if (progress != nullptr) progress(from + (to - from) * fraction);
    };
  };
  const blob::CheckOptions options{
      .mode = mode, .progress = part(0, 0.5), .name_catalog_key = name_catalog_key};
  BASALT_TRY_ASSIGN(blob::StoreReport store, blob::check_store(context, device, options));
  CheckReport report;
  report.problems = std::move(store.problems);
  report.notes = std::move(store.notes);
  report.repairs = std::move(store.repairs);
  report.blobs = store.blobs;
  report.metadata_pages = store.metadata_pages;
  // What the store cannot vouch for is not looked into.
  if (report.clean()) {
    const Status status = check_names(context, device, report, part(0.5, 1));
    if (!status.ok()) report.problems.push_back(std::string(status.message()));
  }
  if (progress != nullptr) progress(1);
  return report;
}

std::string describe(uint64_t id, const InodeRecord& record) {
  std::string line = "inode " + std::to_string(id) + ": ";
  if (record.kind == InodeKind::directory)
    return line + "directory, parent " + std::to_string(record.parent);
  line += record.kind == InodeKind::log ? "log" : "table";
  line += ", " + std::to_string(record.length) + " B, links " + std::to_string(record.links) +
          ", modified " + std::to_string(record.modified_us) + " us, lifetime " +
          std::to_string(record.lifetime);
  if (record.kind == InodeKind::log) {
    line += ", epoch " + std::to_string(record.log_epoch) + ", sealed blocks of " +
            std::to_string(record.sealed_bytes) + " B" + (record.open_log ? ", open" : "");
  }
  return line;
}

std::string describe_entry(std::string_view key, std::string_view value) {
  uint64_t id = 0;
  std::string_view name;
  if (parse_inode_key(key, id)) {
    const auto record = decode_inode(id, value);
    return record ? describe(id, *record) : record.error().to_string();
  }
  if (parse_entry_key(key, id, name)) {
    const auto entry = decode_entry(id, name, value);
    if (!entry) return entry.error().to_string();
    return "directory " + std::to_string(id) + ": \"" + std::string(name) + "\" is " +
           (entry->is_directory ? "directory " : "file ") + std::to_string(entry->id);
  }
  if (key == std::string_view(&kFileSystemKey, 1)) {
    const Status status = check_file_system_record(value);
    return status.ok() ? "file system record: version 1" : status.to_string();
  }
  return "unknown catalog key of " + std::to_string(key.size()) + " bytes";
}

}  // namespace

}  // namespace basalt::blobfs

namespace basalt {

Result<CheckReport> FileSystem::check(Context& context, Device& device,
                                      void (*progress)(double fraction)) {
  return blobfs::verify(context, device, blob::CheckMode::report, progress);
}

Result<CheckReport> FileSystem::repair(Context& context, Device& device,
                                       void (*progress)(double fraction)) {
  return blobfs::verify(context, device, blob::CheckMode::repair, progress);
}

Status FileSystem::dump(Context& context, Device& device, std::string& out) {
  BASALT_TRY_ASSIGN(const Claim claim, device.claim(ClaimMode::read_only, "Basalt dump"));
  BASALT_TRY(blob::dump_store(context, device, out));
  blob::StoreOptions options;
  options.mode = OpenMode::read_only;
  BASALT_TRY_ASSIGN(const auto store, blob::BlobStore::open(context, device, options));
  return store->catalog_scan("", [&](std::string_view key, std::string_view value) {
    out += blobfs::describe_entry(key, value) + "\n";
    return true;
  });
}

}  // namespace basalt
