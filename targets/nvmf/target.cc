// See target.h.
#include "targets/nvmf/target.h"

#include <algorithm>
#include <set>

#include "base/check.h"
#include "base/try.h"
#include "targets/nvmf/tcp/connection.h"
#include "wire/nvme/fabrics.h"

namespace basalt::nvmf {

namespace {

// A call on a device ends within its own time; this is for messages when one does not.
constexpr Duration kLookAgain = std::chrono::milliseconds(1);

}  // namespace

struct Target::Home {
  explicit Home(Reactor& reactor_in) : reactor(reactor_in) {}
  Reactor& reactor;
  // The reactor's.
  std::unique_ptr<PollGroup> group;
  std::vector<std::unique_ptr<TcpConnection>> connections;
  std::atomic<size_t> count{0};
};

Target::Target(Context& context, std::vector<Reactor*> reactors, const TargetOptions& options)
    : context_(context), authentication_executor_(context.clock()), options_(options) {
  BASALT_CHECK(!reactors.empty(), "a target lives on reactors");
  if (options_.reservations != nullptr) {
    saver_ = std::make_unique<ReservationSaver>(context_, *options_.reservations);
  }
  for (Reactor* reactor : reactors) {
    Home& home = *homes_.emplace_back(std::make_unique<Home>(*reactor));
    reactor->run([&] {
      home.group = std::make_unique<PollGroup>(context_, home.reactor, homes_.size() - 1,
                                               options_.buffer_bytes_per_reactor);
    });
  }
  SubsystemOptions discovery;
  discovery.nqn = nvme::kDiscoveryNqn;
  discovery.allow_any_host = true;
  subsystems_[discovery.nqn] = std::make_shared<Subsystem>(discovery);
}

Target::~Target() {
  {
    std::map<std::string, std::shared_ptr<TcpListener>> closed;  // outside of the lock
    const MutexLock lock(mutex_);
    closed.swap(listeners_);
  }
  for (const auto& home : homes_) {
    home->reactor.run([&] {
      for (const auto& connection : home->connections) connection->hang_up("the target ends");
    });
  }
  for (const auto& home : homes_) {
    while (home->count.load() > 0) sleep_for(kLookAgain);
  }
  // Not before: what one home's connections end with may look at the others' groups.
  for (const auto& home : homes_) {
    home->reactor.run([&] { home->group.reset(); });
  }
  while (background_work_.load() > 0) sleep_for(kLookAgain);
  std::set<Device*> flushed;
  for (const auto& subsystem : subsystems()) {
    const size_t count = subsystem->namespaces()->size();
    for (uint32_t nsid = 1; nsid <= count; ++nsid) {
      const auto removed = subsystem->remove_namespace(nsid);
      if (!removed || !flushed.insert((*removed)->device.get()).second) continue;
      flush(*(*removed)->device);
    }
  }
}

void Target::log(LogLevel level, std::string_view line) { context_.log().log(level, "nvmf", line); }

// ---- Subsystems

Result<std::shared_ptr<Subsystem>> Target::get(const std::string& nqn) const {
  std::shared_ptr<Subsystem> found = find_subsystem(nqn);
  if (found == nullptr) return error(StatusCode::not_found, "no subsystem " + nqn);
  return found;
}

std::shared_ptr<Subsystem> Target::find_subsystem(const std::string& nqn) const {
  const MutexLock lock(mutex_);
  const auto found = subsystems_.find(nqn);
  return found == subsystems_.end() ? nullptr : found->second;
}

std::vector<std::shared_ptr<Subsystem>> Target::subsystems() const {
  const MutexLock lock(mutex_);
  std::vector<std::shared_ptr<Subsystem>> all;
  for (const auto& [nqn, subsystem] : subsystems_) all.push_back(subsystem);
  return all;
}

Status Target::create_subsystem(const SubsystemOptions& options) {
  BASALT_TRY_ASSIGN(std::shared_ptr<Subsystem> subsystem, Subsystem::create(options));
  const MutexLock change(changing_);
  const MutexLock lock(mutex_);
  if (subsystems_.try_emplace(options.nqn, std::move(subsystem)).second) return {};
  return {StatusCode::already_exists, "there is a subsystem " + options.nqn + " already"};
}

Status Target::delete_subsystem(const std::string& nqn) {
  BASALT_TRY_ASSIGN(const auto subsystem, get(nqn));
  if (subsystem->is_discovery()) {
    return {StatusCode::invalid_argument, "the discovery subsystem stays"};
  }
  for (const std::string& address : subsystem->listeners()) {
    BASALT_TRY_ASSIGN(const auto listening, ListenAddress::parse(address));
    BASALT_TRY(remove_listener(nqn, listening));
  }
  const auto table = subsystem->namespaces();
  for (const auto& space : *table) {
    if (space != nullptr) BASALT_TRY(remove_namespace(nqn, space->nsid));
  }
  {
    const MutexLock change(changing_);
    const MutexLock lock(mutex_);
    subsystems_.erase(nqn);
  }
  subsystem->close();
  end_controllers(*subsystem, nullptr, "its subsystem is deleted");
  return {};
}

void Target::end_controllers(const Subsystem& subsystem, const std::string* host_nqn,
                             const char* why) {
  for (const auto& controller : subsystem.controllers()) {
    if (host_nqn == nullptr || controller->host().nqn == *host_nqn) controller->end(why);
  }
}

// ---- Namespaces

void Target::refresh(const Subsystem& subsystem) {
  for (const auto& home : homes_) {
    home->reactor.run([&] { home->group->refresh(subsystem); });
  }
}

Result<uint32_t> Target::add_namespace(const std::string& nqn, std::shared_ptr<Device> device,
                                       const NamespaceOptions& options) {
  const MutexLock change(changing_);
  BASALT_TRY_ASSIGN(const auto subsystem, get(nqn));
  if (subsystem->is_discovery()) {
    return error(StatusCode::invalid_argument, "the discovery subsystem has no namespaces");
  }
  Namespace space;
  space.nsid = options.nsid;
  space.ids = options.ids;
  space.counters = std::make_shared<ReactorCounters>(homes_.size());
  const ClaimMode mode = device->info().read_only ? ClaimMode::read_only : ClaimMode::shared_writer;
  BASALT_TRY_ASSIGN(space.claim, device->claim(mode, "NVMe-oF subsystem " + nqn));
  space.watch = std::make_unique<DeviceWatch>(subsystem, device);
  space.device = std::move(device);
  BASALT_TRY_ASSIGN(space, subsystem->place(std::move(space), context_.random()));
  if (saver_ != nullptr) {
    BASALT_TRY_ASSIGN(space.reservations, saver_->restore(nqn, space.ids));
  }
  BASALT_TRY_ASSIGN(const uint32_t nsid,
                    subsystem->add_namespace(std::move(space), context_.random(), options.for_all));
  refresh(*subsystem);
  subsystem->namespace_changed(nsid);
  return nsid;
}

Status Target::show_namespace(const std::string& nqn, uint32_t nsid, const std::string& host_nqn) {
  const MutexLock change(changing_);
  BASALT_TRY_ASSIGN(const auto subsystem, get(nqn));
  BASALT_TRY(subsystem->show(nsid, host_nqn));
  refresh(*subsystem);
  subsystem->namespace_changed(nsid, &host_nqn);
  return {};
}

Status Target::hide_namespace(const std::string& nqn, uint32_t nsid, const std::string& host_nqn) {
  const MutexLock change(changing_);
  BASALT_TRY_ASSIGN(const auto subsystem, get(nqn));
  BASALT_TRY(subsystem->hide(nsid, host_nqn));
  refresh(*subsystem);
  subsystem->namespace_changed(nsid, &host_nqn);
  flush(*find_namespace(*subsystem->namespaces(), nsid)->device);
  return {};
}

Status Target::remove_namespace(const std::string& nqn, uint32_t nsid) {
  const MutexLock change(changing_);
  BASALT_TRY_ASSIGN(const auto subsystem, get(nqn));
  const auto saw_it = subsystem->hosts_that_see(nsid);
  BASALT_TRY_ASSIGN(const auto removed, subsystem->remove_namespace(nsid));
  refresh(*subsystem);
  for (const auto& controller : subsystem->controllers()) {
    if (!saw_it || saw_it->count(controller->host().nqn) != 0) {
      controller->namespaces_changed(nsid);
    }
  }
  for (const auto& home : homes_) {
    bool gone = false;
    while (!gone) {
      home->reactor.run([&] { gone = home->group->lets_go_of(*removed->device); });
      if (!gone) sleep_for(kLookAgain);
    }
  }
  flush(*removed->device);
  return {};
}

// What hosts have written to a device that a shutdown of theirs will not find any more.
void Target::flush(Device& device) {
  if (const Status status = flush_device(device); !status.ok()) {
    log(LogLevel::error, status.to_string());
  }
}

void Target::abort_preempted(const Subsystem& subsystem, uint32_t nsid,
                             const std::vector<HostIdentity>& hosts, const Fence::Pass& pass) {
  for (const auto& home : homes_) {
    home->reactor.post([home = home.get(), kept = subsystem.shared_from_this(), nsid, hosts, pass] {
      home->group->abort_preempted(*kept, nsid, hosts, pass);
    });
  }
}

DeviceTotals Target::totals(const Device& device) const {
  DeviceTotals sum;
  for (const auto& home : homes_) {
    home->reactor.run([&] { sum.add(home->group->totals(device)); });
  }
  return sum;
}

void Target::forget_totals(const Device& device) {
  for (const auto& home : homes_) {
    home->reactor.run([&] { home->group->forget(device); });
  }
}

std::map<const Device*, DeviceTotals> Target::all_totals() const {
  std::map<const Device*, DeviceTotals> sum;
  for (const auto& home : homes_) {
    std::map<const Device*, DeviceTotals> its;
    home->reactor.run([&] { its = home->group->all_totals(); });
    for (const auto& [device, totals] : its) sum[device].add(totals);
  }
  return sum;
}

std::vector<GroupState> Target::groups() const {
  std::vector<GroupState> all;
  for (const auto& home : homes_) {
    GroupState& state = all.emplace_back();
    home->reactor.run([&] { state = home->group->state(); });
  }
  return all;
}

Status Target::configure(const TargetOptions& options) {
  const MutexLock change(changing_);
  const MutexLock lock(mutex_);
  if (!listeners_.empty() || connection_count() > 0) {
    return {StatusCode::busy, "the transport is in use already"};
  }
  ReservationStore* const reservations = options_.reservations;  // stays
  options_ = options;
  options_.reservations = reservations;
  for (const auto& home : homes_) {
    home->reactor.run([&] { home->group->buffers().set_limit(options.buffer_bytes_per_reactor); });
  }
  return {};
}

// ---- Hosts

Status Target::allow_any_host(const std::string& nqn, bool allow) {
  const MutexLock change(changing_);
  BASALT_TRY_ASSIGN(const auto subsystem, get(nqn));
  subsystem->allow_any_host(allow);
  discovery_changed();
  return {};
}

Status Target::add_host(const std::string& nqn, const std::string& host_nqn, HostKeys keys) {
  const MutexLock change(changing_);
  BASALT_TRY_ASSIGN(const auto subsystem, get(nqn));
  BASALT_TRY(subsystem->add_host(host_nqn, std::move(keys)));
  discovery_changed();
  return {};
}

Status Target::remove_host(const std::string& nqn, const std::string& host_nqn) {
  const MutexLock change(changing_);
  BASALT_TRY_ASSIGN(const auto subsystem, get(nqn));
  BASALT_TRY(subsystem->remove_host(host_nqn));
  if (!subsystem->any_host_allowed()) {
    end_controllers(*subsystem, &host_nqn, "its host is not allowed any more");
  }
  discovery_changed();
  return {};
}

Result<nvme::auth::TlsPsk> Target::find_tls_key(std::string_view text) const {
  BASALT_TRY_ASSIGN(const auto identity, nvme::auth::TlsIdentity::parse(text));
  std::vector<std::shared_ptr<Subsystem>> wanted;
  if (identity.subsystem_nqn == nvme::kDiscoveryNqn) {
    wanted = subsystems();
  } else if (auto subsystem = find_subsystem(identity.subsystem_nqn)) {
    wanted.push_back(std::move(subsystem));
  } else {
    return error(StatusCode::permission_denied,
                 "host " + identity.host_nqn + ": no subsystem " + identity.subsystem_nqn);
  }
  bool has_other = false;
  for (const auto& subsystem : wanted) {
    const auto key = subsystem->tls_key_of(identity.host_nqn);
    if (!key) continue;
    auto psk = key->derive(identity.host_nqn, identity.subsystem_nqn, identity.version);
    if (psk && psk->identity == text) return psk;
    has_other = true;
  }
  return error(StatusCode::permission_denied, "host " + identity.host_nqn + " has " +
                                                  (has_other ? "another" : "no") + " TLS key for " +
                                                  identity.subsystem_nqn);
}

Status Target::add_referral(const Referral& referral) {
  BASALT_TRY(check_nqn(referral.nqn));
  const MutexLock change(changing_);
  {
    const MutexLock lock(mutex_);
    if (std::find(referrals_.begin(), referrals_.end(), referral) != referrals_.end()) {
      return {StatusCode::already_exists,
              "hosts are referred to " + referral.address.to_string() + " already"};
    }
    referrals_.push_back(referral);
  }
  discovery_changed();
  return {};
}

Status Target::remove_referral(const Referral& referral) {
  const MutexLock change(changing_);
  {
    const MutexLock lock(mutex_);
    const auto same = [&](const Referral& known) {
      return known.address == referral.address && known.nqn == referral.nqn;
    };
    if (std::erase_if(referrals_, same) == 0) {
      return {StatusCode::not_found,
              "hosts are not referred to " + referral.address.to_string() + ", " + referral.nqn};
    }
  }
  discovery_changed();
  return {};
}

std::vector<Referral> Target::referrals() const {
  const MutexLock lock(mutex_);
  return referrals_;
}

void Target::discovery_changed() {
  discovery_generation_.fetch_add(1);
  const auto discovery = find_subsystem(std::string(nvme::kDiscoveryNqn));
  for (const auto& controller : discovery->controllers()) controller->discovery_changed();
}

// ---- Listeners and connections

Result<ListenAddress> Target::add_listener(const std::string& nqn, const ListenAddress& address,
                                           Security security, nvme::AccessState state) {
  const MutexLock change(changing_);
  BASALT_TRY_ASSIGN(const auto subsystem, get(nqn));
  if (state != nvme::AccessState::optimized) BASALT_TRY(subsystem->check_reports_access());
  std::shared_ptr<TcpListener> listener;
  {
    const MutexLock lock(mutex_);
    if (const auto known = listeners_.find(address.to_string()); known != listeners_.end()) {
      listener = known->second;
    }
  }
  if (listener == nullptr) {
    // Known by the address it got, which the listener does not know yet when it is made.
    const auto name = std::make_shared<std::string>();
    BASALT_TRY_ASSIGN(listener, TcpListener::open(homes_[0]->reactor, address, security,
                                                  [=, this](UniqueFd fd, std::string peer) {
                                                    serve(std::move(fd), *name, std::move(peer),
                                                          security);
                                                  }));
    homes_[0]->reactor.run([&] { *name = listener->address().to_string(); });
    const MutexLock lock(mutex_);
    listeners_[*name] = listener;
  } else if (listener->security() != security) {
    const bool is_tls = listener->security() == Security::tls;
    return error(StatusCode::invalid_argument,
                 address.to_string() + ": is listened on " +
                     (is_tls ? "through TLS" : "in the clear") +
                     " already, for another subsystem; take another port");
  }
  BASALT_TRY(subsystem->add_listener(listener->address().to_string(), state));
  discovery_changed();
  return listener->address();
}

Status Target::remove_listener(const std::string& nqn, const ListenAddress& address) {
  const MutexLock change(changing_);
  BASALT_TRY_ASSIGN(const auto subsystem, get(nqn));
  const std::string name = address.to_string();
  BASALT_TRY(subsystem->remove_listener(name));
  discovery_changed();
  const auto all = subsystems();
  const bool needed = std::any_of(all.begin(), all.end(),
                                  [&](const auto& other) { return other->listens_on(name); });
  if (needed) return {};
  std::shared_ptr<TcpListener> closed;  // outside of the lock
  const MutexLock lock(mutex_);
  if (const auto found = listeners_.find(name); found != listeners_.end()) {
    closed = std::move(found->second);
    listeners_.erase(found);
  }
  return {};
}

Status Target::set_access(const std::string& nqn, const ListenAddress& address,
                          nvme::AccessState state) {
  const MutexLock change(changing_);
  BASALT_TRY_ASSIGN(const auto subsystem, get(nqn));
  BASALT_TRY(subsystem->set_access(address.to_string(), state));
  for (const auto& controller : subsystem->controllers()) {
    if (controller->listener() == address.to_string()) controller->set_access(state);
  }
  return {};
}

std::vector<Target::Listening> Target::listeners_of(const Subsystem& subsystem) const {
  const MutexLock lock(mutex_);
  std::vector<Listening> all;
  for (const auto& [name, listener] : listeners_) {
    if (subsystem.is_discovery() || subsystem.listens_on(name)) {
      all.push_back({listener->address(), listener->security()});
    }
  }
  return all;
}

bool Target::leads_to(const std::string& listener, const Subsystem& subsystem) const {
  return subsystem.is_discovery() || subsystem.listens_on(listener);
}

void Target::serve(UniqueFd fd, const std::string& listener, std::string peer, Security security) {
  Home& home = *homes_[next_home_.fetch_add(1) % homes_.size()];
  home.count.fetch_add(1);
  const auto shared = std::make_shared<UniqueFd>(std::move(fd));
  home.reactor.post([this, &home, shared, listener, peer = std::move(peer), security] {
    auto connection = std::make_unique<TcpConnection>(
        *this, *home.group, std::move(*shared), listener, peer, [&home](TcpConnection& ended) {
          const auto found = std::find_if(home.connections.begin(), home.connections.end(),
                                          [&](const auto& known) { return known.get() == &ended; });
          std::swap(*found, home.connections.back());
          home.connections.pop_back();
          home.count.fetch_sub(1);
        });
    TcpConnection& started = *home.connections.emplace_back(std::move(connection));
    if (const Status status = started.start(security); !status.ok()) {
      log(LogLevel::error, peer + ": " + status.to_string());
      started.hang_up("it cannot be served");
    }
  });
}

size_t Target::connection_count() const {
  size_t count = 0;
  for (const auto& home : homes_) count += home->count.load();
  return count;
}

}  // namespace basalt::nvmf
