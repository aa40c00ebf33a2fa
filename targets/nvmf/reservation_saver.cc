// See reservation_saver.h.
#include "targets/nvmf/reservation_saver.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "targets/nvmf/namespace.h"
#include "targets/nvmf/reservations.h"

namespace basalt::nvmf {

namespace {

std::string nqn_in(const std::string& key) { return key.substr(0, key.find('\0')); }

}  // namespace

ReservationSaver::ReservationSaver(Context& context, ReservationStore& store)
    : context_(context), store_(store), executor_(context.clock()) {
  task_.run = [this] { run(); };
}

ReservationSaver::~ReservationSaver() {
  executor_.cancel(task_);
  BASALT_CHECK(jobs_.empty(), "hosts' commands end before what saves for them");
}

// The name first, which has no NUL, then the identifiers.
std::string ReservationSaver::key_of(std::string_view nqn, const NamespaceIds& ids) {
  std::string key(nqn);
  key += '\0';
  key.append(reinterpret_cast<const char*>(ids.nguid.data()), ids.nguid.size());
  key.append(reinterpret_cast<const char*>(ids.eui64.data()), ids.eui64.size());
  key.append(reinterpret_cast<const char*>(ids.uuid.data()), ids.uuid.size());
  return key;
}

Result<std::shared_ptr<Reservations>> ReservationSaver::restore(std::string_view nqn,
                                                                const NamespaceIds& ids) {
  const std::string key = key_of(nqn, ids);
  {
    MutexLock lock(mutex_);
    while (is_saving(key)) done_.wait(lock);
  }
  Result<std::string> value = store_.load(key);
  if (!value && value.error().code() == StatusCode::not_found) {
    return std::make_shared<Reservations>(*this, key, ReservationState{});
  }
  Result<ReservationState> state =
      value ? ReservationState::decode(*value) : Result<ReservationState>(error(value.error()));
  if (!state) {
    const Status status = state.error().with_context(
        "its reservations cannot be restored, without which it is not exported");
    context_.log().log(LogLevel::error, "nvmf",
                       "namespace of " + std::string(nqn) + ": " + status.to_string());
    return error(status);
  }
  return std::make_shared<Reservations>(*this, key, std::move(*state));
}

bool ReservationSaver::is_saving(const std::string& key) const {
  return std::any_of(jobs_.begin(), jobs_.end(), [&](const Job& job) { return job.key == key; });
}

void ReservationSaver::save(std::shared_ptr<Reservations> reservations, std::string key,
                            std::optional<std::string> value) {
  const MutexLock lock(mutex_);
  jobs_.push_back({std::move(reservations), std::move(key), std::move(value)});
  executor_.post(task_, Duration::zero());
}

void ReservationSaver::run() {
  const Job* job = nullptr;
  {
    const MutexLock lock(mutex_);
    if (jobs_.empty()) return;
    job = &jobs_.front();  // stays where it is when others are added
  }
  const Status status = job->value ? store_.save(job->key, *job->value) : store_.erase(job->key);
  if (!status.ok()) {
    context_.log().log(LogLevel::error, "nvmf",
                       "reservations of a namespace of " + nqn_in(job->key) +
                           " stay as they were: " + status.to_string());
  }
  job->reservations->saved(status.ok());  // which may add a job for the same key
  Job last;                               // let go of after the lock
  const MutexLock lock(mutex_);
  last = std::move(jobs_.front());
  jobs_.pop_front();
  done_.notify_all();
  if (!jobs_.empty()) executor_.post(task_, Duration::zero());
}

}  // namespace basalt::nvmf
