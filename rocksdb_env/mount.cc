// The table of mounts, and how a store is opened or created for it. The table's lock is never held
// while a device is opened, a store mounted or unmounted: an empty entry keeps others waiting instead.
#include "rocksdb_env/mount.h"

#include <basalt/context.h>
#include <basalt/device.h>
#include <basalt/devices.h>

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <string>
#include <utility>

#include "base/sync.h"
#include "base/try.h"
#include "bdev/scheme_table.h"

namespace basalt::rocksdb_env {
namespace {

// A mounted store with all it stands on, in the order of dependence.
struct Mount {
  std::string device;  // canonical URI
  MountOptions options;
  std::unique_ptr<Context> context;
  std::unique_ptr<FileSystem> store;

  ~Mount();
};

class MountTable {
 public:
  Result<std::shared_ptr<Mount>> acquire(const StoreUri& uri);
  void print_stats_of_mounted();

 private:
  void release(Mount* mount);
  void forget(const std::string& device);

  Mutex mutex_;      // protects mounts_
  CondVar changed_;  // an entry has gone, or its mount is there
  // By device URI. An entry whose pointer is empty or expired is being mounted or unmounted;
  // whoever wants it waits, since the device has one owner.
  std::map<std::string, std::weak_ptr<Mount>> mounts_;
};

// Never destroyed: exit handlers of the program may still mount, use and unmount.
MountTable& mount_table() {
  static MountTable* const table = new MountTable;
  return *table;
}

bool stats_wanted() {
  const char* value = std::getenv("BASALT_STATS");
  return value != nullptr && *value != '\0' && std::string_view(value) != "0";
}

void print_stats(const Mount& mount, const char* when) {
  const FileSystemStats s = mount.store->stats();
  const std::pair<const char*, uint64_t> counters[] = {
      {"device_reads", s.device_reads},
      {"device_writes", s.device_writes},
      {"device_flushes", s.device_flushes},
      {"device_read_bytes", s.device_read_bytes},
      {"device_written_bytes", s.device_written_bytes},
      {"journal_commits", s.journal_commits},
      {"journal_bytes", s.journal_bytes},
      {"transactions", s.transactions},
      {"checkpoints", s.checkpoints},
      {"log_syncs", s.log_syncs},
      {"log_blocks_written", s.log_blocks_written},
      {"cache_hits", s.cache_hits},
      {"cache_misses", s.cache_misses},
      {"damaged_copies_used", s.damaged_copies_used},
  };
  std::string line = "basalt: " + mount.device + " " + when + ":";
  for (const auto& [name, value] : counters) {
    line.append(" ").append(name).append("=").append(std::to_string(value));
  }
  std::fprintf(stderr, "%s\n", line.c_str());
}

Mount::~Mount() {
  if (store == nullptr) return;
  Status status = store->unmount();
  if (stats_wanted()) print_stats(*this, "unmounted");
  if (!status.ok()) {
    context->log().log(LogLevel::error, "rocksdb",
                       "unmounting " + device + ": " + status.to_string());
  }
}

// The device's keys and ours look alike in one URI; a complaint about one names them all.
Status explain(const Status& status) {
  if (status.code() != StatusCode::invalid_argument) return status;
  return Status(status.code(), std::string(status.message()) +
                                   " (keys of basalt:// itself: " + store_uri_keys() + ")");
}

Result<std::unique_ptr<Device>> open(Context& context, const StoreUri& uri) {
  DeviceOpenOptions options;
  if (uri.read_only.value_or(false)) options.mode = OpenMode::read_only;
  auto device = open_device(context, uri.device, options);
  if (!device && device.error().code() == StatusCode::not_found && uri.create_bytes) {
    Uri sized = uri.device;  // no such file yet: told its size, the device makes it
    sized.set("size", format_size(*uri.create_bytes));
    device = open_device(context, sized, options);
  }
  if (!device) return error(explain(device.error()));
  return device;
}

Result<std::unique_ptr<FileSystem>> mount_store(Context& context, const StoreUri& uri) {
  BASALT_TRY_ASSIGN(auto device, open(context, uri));
  return FileSystem::mount(context, std::move(device), uri.mount_options());
}

// Formats the device and mounts what it made, without letting go of the device.
Result<std::unique_ptr<FileSystem>> create_store(Context& context, const StoreUri& uri,
                                                 bool force) {
  BASALT_TRY_ASSIGN(auto device, open(context, uri));
  FormatOptions options;
  options.force = force;
  options.data_checksums = uri.checksums;
  BASALT_TRY(FileSystem::format(context, *device, options));
  return FileSystem::mount(context, std::move(device), uri.mount_options());
}

// A store that is there is mounted, whatever the keys say. Without one, a device that holds
// something known is formatted with force= only, and only after a second look: another process may
// have been faster than we.
Result<std::unique_ptr<FileSystem>> mount_or_create(Context& context, const StoreUri& uri) {
  auto store = mount_store(context, uri);
  if (store && uri.checksums && !(*store)->has_data_checksums()) {
    return error(
        StatusCode::invalid_argument,
        "the store on " + (*store)->device_info().uri +
            " was made without checksums; drop checksums=1, or copy its files to a new one");
  }
  if (store || store.error().code() != StatusCode::not_found || !uri.create) return store;
  auto created = create_store(context, uri, false);
  if (created || created.error().code() != StatusCode::already_exists) return created;
  store = mount_store(context, uri);
  if (store || store.error().code() != StatusCode::not_found) return store;
  return uri.force ? create_store(context, uri, true) : std::move(created);
}

Result<std::unique_ptr<Mount>> make_mount(const StoreUri& uri) {
  auto mount = std::make_unique<Mount>();
  mount->device = uri.device_text();
  mount->options = uri.mount_options();
  BASALT_TRY_ASSIGN(mount->context, Context::create());
  register_standard_schemes(*mount->context);
  BASALT_TRY_ASSIGN(mount->store, mount_or_create(*mount->context, uri));
  return mount;
}

// Runs a function when it goes, unless dismissed.
class OnExit {
 public:
  explicit OnExit(std::function<void()> run) : run_(std::move(run)) {}
  ~OnExit() {
    if (run_) run_();
  }
  void dismiss() { run_ = nullptr; }

 private:
  std::function<void()> run_;
};

void MountTable::forget(const std::string& device) {
  MutexLock lock(mutex_);
  mounts_.erase(device);
  changed_.notify_all();
}

void MountTable::release(Mount* mount) {
  const std::string device = mount->device;
  delete mount;  // unmounts, while the entry keeps others away from the device
  forget(device);
}

Result<std::shared_ptr<Mount>> MountTable::acquire(const StoreUri& uri) {
  const std::string device = uri.device_text();
  MutexLock lock(mutex_);
  while (mounts_.contains(device)) {
    if (std::shared_ptr<Mount> mount = mounts_[device].lock()) {
      lock.unlock();  // the pointer may turn out to be the last
      BASALT_TRY(uri.check_shares(mount->options));
      return mount;
    }
    changed_.wait(lock);
  }
  mounts_[device];  // empty: being mounted
  lock.unlock();
  OnExit forget_it([&] { forget(device); });
  BASALT_TRY_ASSIGN(std::unique_ptr<Mount> made, make_mount(uri));
  std::shared_ptr<Mount> mount(made.release(), [this](Mount* last) { release(last); });
  forget_it.dismiss();
  lock.lock();
  mounts_[device] = mount;
  changed_.notify_all();
  return mount;
}

void MountTable::print_stats_of_mounted() {
  MutexLock lock(mutex_, std::try_to_lock);
  if (!lock) return;  // some thread is still busy with mounts while the process ends
  for (auto& [device, entry] : mounts_) {
    if (std::shared_ptr<Mount> mount = entry.lock()) {
      print_stats(*mount, "still mounted at exit");
      // Kept for good: unmounting under the lock, this late, is nobody's wish.
      new std::shared_ptr<Mount>(std::move(mount));
    }
  }
}

// Runs after the program's own exit handlers and static destructors.
[[gnu::destructor]] void report_at_exit() {
  if (stats_wanted()) mount_table().print_stats_of_mounted();
}

}  // namespace

Result<std::shared_ptr<FileSystem>> acquire_store(const StoreUri& uri) {
  BASALT_TRY_ASSIGN(std::shared_ptr<Mount> mount, mount_table().acquire(uri));
  return std::shared_ptr<FileSystem>(mount, mount->store.get());
}

}  // namespace basalt::rocksdb_env
