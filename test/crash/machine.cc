// See machine.h.
#include "crash/machine.h"

#include <stdlib.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>

#include "base/check.h"
#include "base/sync.h"
#include "base/try.h"
#include "sim/random.h"
#include "sim/sim_device.h"

namespace basalt::crash {
namespace {

std::string make_base_dir() {
  std::string path =
      (access("/dev/shm", W_OK) == 0 ? "/dev/shm" : std::string(P_tmpdir)) + "/basalt-crash-XXXXXX";
  BASALT_CHECK(mkdtemp(path.data()) != nullptr, "a directory for simulated shared memory");
  return path;
}

}  // namespace

class Machine::Log final : public LogSink {
 public:
  void log(LogLevel, std::string_view module, std::string_view line) override {
    const MutexLock lock(mutex_);
    text_ += std::string(module) + ": " + std::string(line) + "\n";
  }
  std::string text() {
    const MutexLock lock(mutex_);
    return text_;
  }
  void clear() {
    const MutexLock lock(mutex_);
    text_.clear();
  }

 private:
  Mutex mutex_;  // protects text_
  std::string text_;
};

Machine::Machine(const MachineOptions& options)
    : options_(options),
      disk_(std::make_shared<sim::SimDisk>(options.disk)),
      base_dir_(make_base_dir()),
      log_(std::make_unique<Log>()),
      random_(options.seed) {
  shared_memory_dir_ = make_shared_memory_dir();
  boot(false);
}

Machine::~Machine() {
  fs_.reset();
  context_.reset();
  std::error_code ignored;
  std::filesystem::remove_all(base_dir_, ignored);
}

std::string Machine::make_shared_memory_dir() {
  std::string path = base_dir_ + "/" + std::to_string(directories_++);
  BASALT_CHECK(std::filesystem::create_directory(path), "a fresh directory");
  return path;
}

void Machine::boot(bool same_boot_id) {
  fs_.reset();
  context_.reset();
  if (!same_boot_id) ++boots_;
  log_->clear();
  char boot_id[40];
  std::snprintf(boot_id, sizeof(boot_id), "00000000-0000-4000-8000-%012u", boots_);
  ContextOptions options;
  options.log = log_.get();
  options.random = &random_;
  options.clock = options_.clock;
  if (options.clock == nullptr && options_.background == Background::stepped) {
    options.clock = &clock_;
  }
  if (options_.background == Background::stepped) options.executor = &executor_;
  options.boot_id = boot_id;
  options.shared_memory_dir = shared_memory_dir_;
  context_ = std::move(*Context::create(options));
}

Status Machine::format() {
  const auto device = sim::open_sim_device(*context_, disk_);
  return FileSystem::format(*context_, *device, options_.format);
}

Status Machine::mount() { return mount(options_.mount); }

Status Machine::mount(const MountOptions& options) {
  BASALT_TRY_ASSIGN(fs_,
                    FileSystem::mount(*context_, sim::open_sim_device(*context_, disk_), options));
  return {};
}

Status Machine::unmount() {
  const Status status = fs_->unmount();
  fs_.reset();
  return status;
}

Result<CheckReport> Machine::check() {
  auto copy = std::make_shared<sim::SimDisk>(options_.disk, disk_->image());
  const auto device = sim::open_sim_device(*context_, std::move(copy));
  return FileSystem::check(*context_, *device);
}

void Machine::plan(Crash crash) {
  crash_ = crash;
  if (crash == Crash::power_loss) return disk_->on_cut({});
  disk_->on_cut([this] {
    dead_process_dir_ = make_shared_memory_dir();
    for (const auto& entry : std::filesystem::directory_iterator(shared_memory_dir_)) {
      std::filesystem::copy(entry.path(),
                            dead_process_dir_ + "/" + entry.path().filename().string());
    }
  });
}

void Machine::restart(uint64_t seed) {
  fs_.reset();
  if (crash_ == Crash::process_death) {
    disk_ = disk_->image_after_process_death(seed);
    shared_memory_dir_ = dead_process_dir_;
  } else {
    disk_ = disk_->surviving_image(seed);
    if (sim::Random(seed).chance(50)) shared_memory_dir_ = make_shared_memory_dir();
  }
  boot(crash_ == Crash::process_death);
}

void Machine::start_on(std::shared_ptr<sim::SimDisk> disk) {
  fs_.reset();
  disk_ = std::move(disk);
  boot(false);
}

std::string Machine::log_text() { return log_->text(); }

}  // namespace basalt::crash
