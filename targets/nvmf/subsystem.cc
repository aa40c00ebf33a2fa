// See subsystem.h.
#include "targets/nvmf/subsystem.h"

#include <algorithm>
#include <cctype>

#include "base/try.h"
#include "targets/nvmf/controller.h"
#include "wire/nvme/fabrics.h"

namespace basalt::nvmf {

namespace {

bool is_printable(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c >= ' ' && c <= '~'; });
}

}  // namespace

Status check_nqn(std::string_view nqn) {
  const auto wrong = [&](const char* what) {
    return Status(
        StatusCode::invalid_argument,
        "\"" + std::string(nqn) + "\": " + what +
            "; expected nqn.YYYY-MM.REVERSE.DOMAIN:NAME, as nqn.2024-01.com.example:disk");
  };
  if (nqn.size() > nvme::kMaxNqnBytes) return wrong("a qualified name has at most 223 bytes");
  if (!is_printable(nqn)) return wrong("a qualified name has no control characters");
  const auto digit = [&](size_t at) {
    return std::isdigit(static_cast<unsigned char>(nqn[at])) != 0;
  };
  if (nqn.size() < 13 || !nqn.starts_with("nqn.") || !digit(4) || !digit(5) || !digit(6) ||
      !digit(7) || nqn[8] != '-' || !digit(9) || !digit(10) || nqn[11] != '.') {
    return wrong("not a qualified name");
  }
  return {};
}

Result<std::shared_ptr<Subsystem>> Subsystem::create(SubsystemOptions options) {
  BASALT_TRY(check_nqn(options.nqn));
  const auto wrong = [&](const std::string& what) {
    return error(StatusCode::invalid_argument, "subsystem " + options.nqn + ": " + what);
  };
  if (options.serial.size() > 20 || !is_printable(options.serial)) {
    return wrong("a serial number has at most 20 printable characters");
  }
  if (options.model.empty() || options.model.size() > 40 || !is_printable(options.model)) {
    return wrong("a model number has 1 to 40 printable characters");
  }
  if (options.max_namespaces == 0 || options.max_namespaces > 1024) {
    return wrong("max_namespaces is 1 … 1024");
  }
  if (options.min_controller_id == 0 || options.min_controller_id > options.max_controller_id ||
      options.max_controller_id > 0xffef) {
    return wrong("controller ids are 1 … 65519, the least first");
  }
  return std::make_shared<Subsystem>(std::move(options));
}

bool Subsystem::is_discovery() const { return options_.nqn == nvme::kDiscoveryNqn; }

bool Subsystem::allows(std::string_view host_nqn) const {
  const MutexLock lock(mutex_);
  return any_host_ || hosts_.count(std::string(host_nqn)) != 0;
}

void Subsystem::allow_any_host(bool allow) {
  const MutexLock lock(mutex_);
  any_host_ = allow;
}

bool Subsystem::any_host_allowed() const {
  const MutexLock lock(mutex_);
  return any_host_;
}

Status Subsystem::add_host(const std::string& host_nqn, HostKeys keys) {
  BASALT_TRY(check_nqn(host_nqn));
  const MutexLock lock(mutex_);
  accounts_.set_listed(host_nqn, true);
  if (hosts_.try_emplace(host_nqn, std::move(keys)).second) return {};
  return {StatusCode::already_exists, nqn() + ": host " + host_nqn + " is allowed already"};
}

Status Subsystem::remove_host(const std::string& host_nqn) {
  const MutexLock lock(mutex_);
  accounts_.set_listed(host_nqn, false);
  if (hosts_.erase(host_nqn) != 0) return {};
  return {StatusCode::not_found, nqn() + ": host " + host_nqn + " is not in its list"};
}

std::vector<std::string> Subsystem::hosts() const {
  const MutexLock lock(mutex_);
  std::vector<std::string> all;
  for (const auto& [host, keys] : hosts_) all.push_back(host);
  return all;
}

Result<nvme::auth::TlsKey> Subsystem::tls_key_of(const std::string& host_nqn) const {
  const MutexLock lock(mutex_);
  const auto found = hosts_.find(host_nqn);
  if (found != hosts_.end() && found->second.tls) return *found->second.tls;
  return error(StatusCode::permission_denied, "host " + host_nqn + " has no TLS key for " + nqn());
}

Status Subsystem::add_listener(const std::string& address, nvme::AccessState state) {
  const MutexLock lock(mutex_);
  if (listeners_.try_emplace(address, state).second) return {};
  return {StatusCode::already_exists, nqn() + ": listens on " + address + " already"};
}

Status Subsystem::remove_listener(const std::string& address) {
  const MutexLock lock(mutex_);
  if (listeners_.erase(address) != 0) return {};
  return {StatusCode::not_found, nqn() + ": does not listen on " + address};
}

bool Subsystem::listens_on(const std::string& address) const {
  const MutexLock lock(mutex_);
  return listeners_.count(address) != 0;
}

std::vector<std::string> Subsystem::listeners() const {
  const MutexLock lock(mutex_);
  std::vector<std::string> all;
  for (const auto& [address, access] : listeners_) all.push_back(address);
  return all;
}

nvme::AccessState Subsystem::access(const std::string& address) const {
  const MutexLock lock(mutex_);
  const auto found = listeners_.find(address);
  return found == listeners_.end() ? nvme::AccessState::optimized : found->second;
}

Status Subsystem::check_reports_access() const {
  if (options_.reports_access) return {};
  return {StatusCode::unsupported,
          nqn() + ": does not report how it is reached (ana_reporting, when it is created)"};
}

Status Subsystem::set_access(const std::string& address, nvme::AccessState state) {
  BASALT_TRY(check_reports_access());
  const MutexLock lock(mutex_);
  const auto found = listeners_.find(address);
  if (found == listeners_.end()) {
    return {StatusCode::not_found, nqn() + ": does not listen on " + address};
  }
  found->second = state;
  return {};
}

std::shared_ptr<const NamespaceTable> Subsystem::namespaces() const {
  const MutexLock lock(mutex_);
  return namespaces_;
}

std::shared_ptr<const NamespaceTable> Subsystem::namespaces_for(const std::string& host_nqn) const {
  const MutexLock lock(mutex_);
  if (limited_.empty()) return namespaces_;
  auto seen = std::make_shared<NamespaceTable>(*namespaces_);
  for (const auto& [nsid, hosts] : limited_) {
    if (hosts.count(host_nqn) == 0) (*seen)[nsid - 1] = nullptr;
  }
  return seen;
}

// With `mutex_` held.
Status Subsystem::check_limited(uint32_t nsid, const std::string& host_nqn) const {
  BASALT_TRY(check_nqn(host_nqn));
  const std::string name = nqn() + ": namespace " + std::to_string(nsid);
  if (find_namespace(*namespaces_, nsid) == nullptr) {
    return {StatusCode::not_found, nqn() + ": there is no namespace " + std::to_string(nsid)};
  }
  if (limited_.count(nsid) != 0) return {};
  return {StatusCode::invalid_argument,
          name + " is for all hosts (no_auto_visible, when it is added, makes it for some)"};
}

Status Subsystem::show(uint32_t nsid, const std::string& host_nqn) {
  const MutexLock lock(mutex_);
  BASALT_TRY(check_limited(nsid, host_nqn));
  if (limited_[nsid].insert(host_nqn).second) return {};
  return {StatusCode::already_exists,
          nqn() + ": host " + host_nqn + " sees namespace " + std::to_string(nsid) + " already"};
}

Status Subsystem::hide(uint32_t nsid, const std::string& host_nqn) {
  const MutexLock lock(mutex_);
  BASALT_TRY(check_limited(nsid, host_nqn));
  if (limited_[nsid].erase(host_nqn) != 0) return {};
  return {StatusCode::not_found,
          nqn() + ": host " + host_nqn + " does not see namespace " + std::to_string(nsid)};
}

std::optional<std::set<std::string>> Subsystem::hosts_that_see(uint32_t nsid) const {
  const MutexLock lock(mutex_);
  const auto found = limited_.find(nsid);
  if (found == limited_.end()) return {};
  return found->second;
}

void Subsystem::namespace_changed(uint32_t nsid, const std::string* host_nqn) {
  const auto hosts = hosts_that_see(nsid);
  for (const auto& controller : controllers()) {
    const std::string& name = controller->host().nqn;
    if (!hosts || hosts->count(name) != 0 || (host_nqn != nullptr && name == *host_nqn)) {
      controller->namespaces_changed(nsid);
    }
  }
}

void Subsystem::device_changed(const Device& device) {
  std::vector<uint32_t> changed;
  {
    // Not by a copy of the table: it may turn out to be the last.
    const MutexLock lock(mutex_);
    for (const auto& space : *namespaces_) {
      if (space != nullptr && space->device.get() == &device) changed.push_back(space->nsid);
    }
  }
  for (const uint32_t nsid : changed) namespace_changed(nsid);
}

Result<Namespace> Subsystem::place(Namespace space, RandomSource& random) const {
  const auto table = namespaces();
  if (space.nsid == 0) {
    const auto free = std::find(table->begin(), table->end(), nullptr);
    space.nsid = static_cast<uint32_t>(free - table->begin()) + 1;
  }
  const uint32_t nsid = space.nsid;
  if (nsid > options_.max_namespaces) {
    return error(StatusCode::too_large, nqn() + ": namespace " + std::to_string(nsid) +
                                            " is beyond its limit of " +
                                            std::to_string(options_.max_namespaces) +
                                            " (max_namespaces, when it is created)");
  }
  if (find_namespace(*table, nsid) != nullptr) {
    return error(StatusCode::already_exists,
                 nqn() + ": there is a namespace " + std::to_string(nsid) + " already");
  }
  if (space.ids == NamespaceIds{}) space.ids = make_namespace_ids(nqn(), space, random);
  for (const auto& other : *table) {
    if (other == nullptr || other->ids != space.ids) continue;
    return error(
        StatusCode::already_exists,
        nqn() + ": namespace " + std::to_string(other->nsid) +
            " has the same identifiers, which hosts would take for one (nguid, eui64, uuid)");
  }
  return space;
}

Result<uint32_t> Subsystem::add_namespace(Namespace space, RandomSource& random, bool for_all) {
  BASALT_TRY_ASSIGN(space, place(std::move(space), random));
  const uint32_t nsid = space.nsid;
  const MutexLock lock(mutex_);
  auto table = std::make_shared<NamespaceTable>(*namespaces_);
  table->resize(std::max<size_t>(table->size(), nsid));
  (*table)[nsid - 1] = std::make_shared<const Namespace>(std::move(space));
  namespaces_ = std::move(table);
  if (!for_all) limited_[nsid] = {};
  return nsid;
}

Result<std::shared_ptr<const Namespace>> Subsystem::remove_namespace(uint32_t nsid) {
  const MutexLock lock(mutex_);
  if (find_namespace(*namespaces_, nsid) == nullptr) {
    return error(StatusCode::not_found, nqn() + ": there is no namespace " + std::to_string(nsid));
  }
  auto table = std::make_shared<NamespaceTable>(*namespaces_);
  std::shared_ptr<const Namespace> removed = std::move((*table)[nsid - 1]);
  (*table)[nsid - 1] = nullptr;
  namespaces_ = std::move(table);
  limited_.erase(nsid);
  return removed;
}

// With `mutex_` held. Who has not proven its name yet keeps nobody out.
Status Subsystem::check_identifier(const HostIdentity& host) const {
  for (const auto& [id, known] : controllers_) {
    if (known->is_proven() && known->host().id == host.id && known->host().nqn != host.nqn) {
      return {StatusCode::permission_denied, "its identifier is that of " + known->host().nqn};
    }
  }
  return {};
}

Status Subsystem::confirm(Controller& controller) {
  const MutexLock lock(mutex_);
  BASALT_TRY(check_identifier(controller.host()));
  controller.set_proven();
  return {};
}

Status Subsystem::attach(const std::shared_ptr<Controller>& controller, bool secured) {
  const HostIdentity& host = controller->host();
  const MutexLock lock(mutex_);
  const auto listed = hosts_.find(host.nqn);
  if (closed_ || (!any_host_ && listed == hosts_.end())) {
    return {StatusCode::permission_denied, "it is not allowed in " + nqn()};
  }
  if (!secured && listed != hosts_.end() && listed->second.tls) {
    return {StatusCode::permission_denied,
            "it has a TLS key for " + nqn() + " and connects in the clear"};
  }
  BASALT_TRY(check_identifier(host));
  // The next number in turn, so that one is not given again soon after its controller has gone.
  const uint32_t count = options_.max_controller_id - options_.min_controller_id + 1u;
  for (uint32_t tries = 0; tries < count; ++tries) {
    const uint16_t id = next_controller_id_;
    next_controller_id_ = id == options_.max_controller_id ? options_.min_controller_id
                                                           : static_cast<uint16_t>(id + 1);
    const bool taken = std::any_of(controllers_.begin(), controllers_.end(),
                                   [&](const auto& known) { return known.first == id; });
    if (taken) continue;
    controller->admit(id, listed == hosts_.end() ? std::nullopt : listed->second.secrets);
    controllers_.emplace_back(id, controller);
    return {};
  }
  return {StatusCode::no_space,
          nqn() + ": all its " + std::to_string(count) + " controllers are taken"};
}

void Subsystem::close() {
  const MutexLock lock(mutex_);
  closed_ = true;
}

void Subsystem::detach(const Controller& controller) {
  std::shared_ptr<Controller> last;  // released after the lock
  const MutexLock lock(mutex_);
  const auto found = std::find_if(controllers_.begin(), controllers_.end(), [&](const auto& known) {
    return known.second.get() == &controller;
  });
  if (found == controllers_.end()) return;
  last = std::move(found->second);
  controllers_.erase(found);
}

std::shared_ptr<Controller> Subsystem::find_controller(uint16_t id) const {
  const MutexLock lock(mutex_);
  for (const auto& [known, controller] : controllers_) {
    if (known == id) return controller;
  }
  return nullptr;
}

std::vector<std::shared_ptr<Controller>> Subsystem::controllers() const {
  const MutexLock lock(mutex_);
  std::vector<std::shared_ptr<Controller>> all;
  for (const auto& known : controllers_) all.push_back(known.second);
  return all;
}

// ---- Queues

std::shared_ptr<QueueRecord> Subsystem::begin_queue(QueueIdentity identity) {
  const MutexLock lock(mutex_);
  const bool listed = hosts_.count(identity.host) != 0;
  return accounts_.begin(std::move(identity), listed);
}

void Subsystem::end_queue(const QueueRecord& record) {
  const MutexLock lock(mutex_);
  accounts_.end(record);
}

AccountsState Subsystem::accounts() const {
  const MutexLock lock(mutex_);
  return accounts_.state();
}

}  // namespace basalt::nvmf
