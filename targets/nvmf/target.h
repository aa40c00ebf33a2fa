// Target: exports devices as NVMe namespaces to hosts over fabrics.
//
// NVM Express base specification 2.0 (fabrics), TCP transport specification 1.0. What is exported is told by the calls
// below, which SPDK's users know by their RPCs' names; connections are spread over the reactors in turn, and each stays
// on its own.
//
//   nvmf::Target target(context, {reactor}, {});
//   target.create_subsystem({.nqn = "nqn.2024-01.com.example:disk", .allow_any_host = true});
//   target.add_namespace("nqn.2024-01.com.example:disk", device);
//   target.add_listener("nqn.2024-01.com.example:disk", {"127.0.0.1", "4420"});
//
// Threads: any but the reactors'. Configuration changes are made one after the other.
#pragma once

#include <basalt/context.h>
#include <basalt/device.h>
#include <basalt/status.h>

#include <atomic>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/sync.h"
#include "bdev/executor.h"
#include "reactor/reactor.h"
#include "targets/nvmf/controller.h"
#include "targets/nvmf/poll_group.h"
#include "targets/nvmf/reservation_saver.h"
#include "targets/nvmf/subsystem.h"
#include "targets/nvmf/tcp/listener.h"
#include "wire/nvme/fabrics.h"

namespace basalt::nvmf {

struct TargetOptions {
  // Of each host's controller.
  uint16_t max_io_queues = 127;
  // What a write may bring along with its command, instead of being asked for it.
  uint32_t io_capsule_data = 4096;
  // Memory for data on each reactor; a connection may take one buffer of each size more.
  size_t buffer_bytes_per_reactor = size_t{64} << 20;
  // A connection that has not sent a valid Connect by then ends.
  Duration connect_timeout = std::chrono::seconds(10);
  // A connection that has been asked for a write's data and has sent none in that time, or has taken nothing of what it is to
  // be sent, ends; at the latest after twice it.
  Duration data_timeout = std::chrono::seconds(30);
  // How long preempt-and-abort waits for what the preempted hosts have at devices before it fails. Below the half minute after
  // which hosts give a command up.
  Duration preempt_timeout = std::chrono::seconds(20);
  // Where reservations are kept that are to survive power loss; outlives the target. Null: none do, and hosts are told so.
  ReservationStore* reservations = nullptr;
};

struct NamespaceOptions {
  uint32_t nsid = 0;  // 0: the lowest that is free
  // All zero: made from the subsystem's name, the number and the device's URI, so that hosts recognize the namespace when
  // the target has been away; by chance where the device forgets everything then.
  NamespaceIds ids{};
  // Every host the subsystem lets in sees it; otherwise those that show_namespace() names.
  bool for_all = true;
};

// Another discovery service, which hosts are told of.
struct Referral {
  ListenAddress address;
  Security security = Security::none;
  std::string nqn{nvme::kDiscoveryNqn};
  friend bool operator==(const Referral&, const Referral&) = default;
};

class Target {
 public:
  // Both outlive it. At least one reactor. There is a discovery subsystem from the beginning, for every host and on every
  // listener.
  Target(Context& context, std::vector<Reactor*> reactors, const TargetOptions& options);
  // Listeners close, all hosts' connections end, and what they have left in the devices' volatile caches is flushed; a
  // flush that fails is logged.
  ~Target();
  Target(const Target&) = delete;

  // Errors: invalid_argument, already_exists.
  Status create_subsystem(const SubsystemOptions& options);
  // Its hosts' controllers end. Errors: not_found.
  Status delete_subsystem(const std::string& nqn);
  // Claims the device for writing, as one of several exports of it may. Answers the namespace's number. Errors: not_found,
  // already_exists, busy, too_large; the store's, if what it keeps of the namespace's reservations cannot be restored.
  Result<uint32_t> add_namespace(const std::string& nqn, std::shared_ptr<Device> device,
                                 const NamespaceOptions& options = {});
  // Returns when no reactor has a channel to its device for it any more. Errors: not_found.
  Status remove_namespace(const std::string& nqn, uint32_t nsid);
  // Of a namespace that is not for all. Errors: not_found, already_exists, invalid_argument.
  Status show_namespace(const std::string& nqn, uint32_t nsid, const std::string& host_nqn);
  Status hide_namespace(const std::string& nqn, uint32_t nsid, const std::string& host_nqn);
  // Errors: already_exists, not_found, invalid_argument.
  Status add_referral(const Referral& referral);
  Status remove_referral(const Referral& referral);
  std::vector<Referral> referrals() const;
  Status allow_any_host(const std::string& nqn, bool allow);
  // Hosts that are connected stay until they are removed, and then end. Errors: not_found, already_exists, invalid_argument.
  Status add_host(const std::string& nqn, const std::string& host_nqn, HostKeys keys = {});
  Status remove_host(const std::string& nqn, const std::string& host_nqn);
  // Port "0": any that is free. Answers where it listens. Subsystems that share an address share its security. Errors:
  // not_found, already_exists, invalid_argument, permission_denied, busy, unsupported (another state than optimized, of a
  // subsystem that does not report access).
  Result<ListenAddress> add_listener(const std::string& nqn, const ListenAddress& address,
                                     Security security = Security::none,
                                     nvme::AccessState state = nvme::AccessState::optimized);
  // Connections that came in by it to this subsystem stay. Errors: not_found.
  Status remove_listener(const std::string& nqn, const ListenAddress& address);

  // Serves a connected socket, non-blocking, that came by `listener` ("address:port") from `peer`. Any thread.
  void serve(UniqueFd fd, const std::string& listener, std::string peer,
             Security security = Security::none);
  // The key with that identity: of a host for a subsystem, or for discovery of a host that has one for any. Errors:
  // invalid_argument, permission_denied, both for the log.
  Result<nvme::auth::TlsPsk> find_tls_key(std::string_view identity) const;

  // As Queue::abort_preempted(), for all queues there are; the reactors do it soon. Any thread.
  void abort_preempted(const Subsystem& subsystem, uint32_t nsid,
                       const std::vector<HostIdentity>& hosts, const Fence::Pass& pass);

  // Of all reactors together; forgotten when the device's owner says so.
  DeviceTotals totals(const Device& device) const;
  void forget_totals(const Device& device);
  std::vector<GroupState> groups() const;
  // Of all devices that had a channel. A device may have gone: its address is a name here.
  std::map<const Device*, DeviceTotals> all_totals() const;
  // Before anything listens. Errors: busy.
  Status configure(const TargetOptions& options);
  // How the subsystem is reached through that listener from now on; hosts are told. Errors: not_found, unsupported.
  Status set_access(const std::string& nqn, const ListenAddress& address, nvme::AccessState state);
  const TargetOptions& options() const { return options_; }
  Context& context() { return context_; }
  // A thread of its own: hosts that nobody knows yet make it compute, and the Context's has the devices' work to do.
  Executor& authentication_executor() { return authentication_executor_; }
  std::shared_ptr<Subsystem> find_subsystem(const std::string& nqn) const;
  std::vector<std::shared_ptr<Subsystem>> subsystems() const;
  struct Listening {
    ListenAddress address;
    Security security;
  };
  std::vector<Listening> listeners_of(const Subsystem& subsystem) const;
  bool leads_to(const std::string& listener, const Subsystem& subsystem) const;
  uint64_t discovery_generation() const { return discovery_generation_.load(); }
  // Connections at present; any thread.
  size_t connection_count() const;
  void log(LogLevel level, std::string_view line);
  // Work off the reactors that knows of the target; it is waited for when that ends.
  void begin_background_work() { background_work_.fetch_add(1); }
  void end_background_work() { background_work_.fetch_sub(1); }

 private:
  struct Home;  // what lives on one reactor

  Result<std::shared_ptr<Subsystem>> get(const std::string& nqn) const;
  void discovery_changed();
  void flush(Device& device);
  void refresh(const Subsystem& subsystem);
  void end_controllers(const Subsystem& subsystem, const std::string* host_nqn, const char* why);

  Context& context_;
  ThreadExecutor authentication_executor_;
  TargetOptions options_;                    // settled before the first listener
  std::unique_ptr<ReservationSaver> saver_;  // null: reservations do not survive power loss
  std::vector<std::unique_ptr<Home>> homes_;
  std::atomic<size_t> next_home_{0};
  std::atomic<uint64_t> discovery_generation_{1};
  std::atomic<unsigned> background_work_{0};

  Mutex changing_;       // one change at a time
  mutable Mutex mutex_;  // protects what follows, for moments
  std::map<std::string, std::shared_ptr<Subsystem>> subsystems_;
  std::map<std::string, std::shared_ptr<TcpListener>> listeners_;  // by "address:port"
  std::vector<Referral> referrals_;
};

}  // namespace basalt::nvmf
