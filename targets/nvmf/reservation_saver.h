// ReservationSaver: keeps reservations through power loss, off the reactors.
//
// Where they are kept is its store's; that they come back with the namespace, under a key of the subsystem's name and the
// namespace's identifiers, is its own. One state after the other is saved, on a thread of its own: fencing does not wait for what other devices are slow at.
//
// Threads: any but the executor's.
#pragma once

#include <basalt/context.h>
#include <basalt/status.h>

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/sync.h"
#include "bdev/executor.h"
#include "targets/nvmf/reservation_state.h"

namespace basalt::nvmf {

class Reservations;
struct NamespaceIds;

// Keeps values by keys of any bytes. Any thread; may block for as long as its device takes.
class ReservationStore {
 public:
  virtual ~ReservationStore() = default;
  // Errors: not_found (there is none), the device's.
  virtual Result<std::string> load(std::string_view key) = 0;
  // Durable, or gone for good, when it returns.
  virtual Status save(std::string_view key, std::string_view value) = 0;
  virtual Status erase(std::string_view key) = 0;
};

class ReservationSaver {
 public:
  // Both outlive it.
  ReservationSaver(Context& context, ReservationStore& store);
  // Nothing is being saved any more.
  ~ReservationSaver();
  ReservationSaver(const ReservationSaver&) = delete;

  static std::string key_of(std::string_view nqn, const NamespaceIds& ids);
  // Those of a namespace, as they were saved last; none, where none were. Waits for what is being saved of it. Errors:
  // corruption, unsupported (not to be read), the store's: the namespace must not be exported without them.
  Result<std::shared_ptr<Reservations>> restore(std::string_view nqn, const NamespaceIds& ids);
  // Nothing: to be forgotten. `reservations` are told by saved().
  void save(std::shared_ptr<Reservations> reservations, std::string key,
            std::optional<std::string> value);

 private:
  struct Job {
    std::shared_ptr<Reservations> reservations;
    std::string key;
    std::optional<std::string> value;
  };

  void run();
  bool is_saving(const std::string& key) const;

  Context& context_;
  ReservationStore& store_;
  ThreadExecutor executor_;
  BackgroundTask task_;
  mutable Mutex mutex_;   // protects what follows
  CondVar done_;          // a job is
  std::deque<Job> jobs_;  // the first is being done
};

}  // namespace basalt::nvmf
