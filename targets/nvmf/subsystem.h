// Subsystem: a named set of namespaces, who may see it, and where it is reached.
//
// NVM Express base specification 2.0, §3.1: a host that connects gets a controller of its own, which lives until the host
// leaves. The discovery subsystem has no namespaces; its controllers tell where the others are.
//
// Threads: any. `mutex_` is held for moments only; nothing else is called under it.
#pragma once

#include <basalt/context.h>
#include <basalt/status.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/sync.h"
#include "targets/nvmf/authentication.h"
#include "targets/nvmf/host_accounts.h"
#include "targets/nvmf/namespace.h"
#include "wire/nvme/asymmetric_access.h"
#include "wire/nvme/auth/tls_key.h"

namespace basalt::nvmf {

class Controller;

// What a host has to prove. With a TLS key it is let in only through TLS with that key, with secrets it has to authenticate
// itself; with both, both.
struct HostKeys {
  std::optional<HostSecrets> secrets = {};
  std::optional<nvme::auth::TlsKey> tls = {};
};

struct SubsystemOptions {
  std::string nqn;
  std::string serial = "00000000000000000000";  // at most 20 printable characters
  std::string model = "Basalt Controller";      // at most 40
  bool allow_any_host = false;
  uint32_t max_namespaces = 32;
  bool reports_access = false;  // ANA: how well it is reached, by listener
  uint16_t min_controller_id = 1, max_controller_id = 0xffef;
};

// "nqn.yyyy-mm.reverse.domain[:name]", or "nqn.2014-08.org.nvmexpress:uuid:…". Errors: invalid_argument.
Status check_nqn(std::string_view nqn);

class Subsystem : public std::enable_shared_from_this<Subsystem> {
 public:
  // Errors: invalid_argument.
  static Result<std::shared_ptr<Subsystem>> create(SubsystemOptions options);
  explicit Subsystem(SubsystemOptions options) : options_(std::move(options)) {}

  const SubsystemOptions& options() const { return options_; }
  const std::string& nqn() const { return options_.nqn; }
  bool is_discovery() const;

  bool allows(std::string_view host_nqn) const;
  void allow_any_host(bool allow);
  bool any_host_allowed() const;
  // already_exists; not_found.
  Status add_host(const std::string& host_nqn, HostKeys keys = {});
  Status remove_host(const std::string& host_nqn);
  std::vector<std::string> hosts() const;
  // Errors: permission_denied (no such host, or it has none).
  Result<nvme::auth::TlsKey> tls_key_of(const std::string& host_nqn) const;

  // "address:port" of a listener that leads here.
  Status add_listener(const std::string& address,
                      nvme::AccessState state = nvme::AccessState::optimized);
  Status remove_listener(const std::string& address);
  bool listens_on(const std::string& address) const;
  // How its namespaces are reached through that listener; optimized, unless somebody has said otherwise.
  nvme::AccessState access(const std::string& address) const;
  // Errors: unsupported.
  Status check_reports_access() const;
  // Errors: not_found; unsupported (it does not report access).
  Status set_access(const std::string& address, nvme::AccessState state);
  std::vector<std::string> listeners() const;

  std::shared_ptr<const NamespaceTable> namespaces() const;
  // Those that the host sees.
  std::shared_ptr<const NamespaceTable> namespaces_for(const std::string& host_nqn) const;
  // What add_namespace() would make of it: nsid 0 is the lowest that is free, ids that are all zero are made up (namespace.h).
  // Errors: already_exists (its number or ids are another's), too_large.
  Result<Namespace> place(Namespace space, RandomSource& random) const;
  // Answers the number it got. One change of the table at a time. Not `for_all`: no host sees it before show() says so.
  // Errors: place()'s.
  Result<uint32_t> add_namespace(Namespace space, RandomSource& random, bool for_all = true);
  // Whether the host sees a namespace that is not for all. Errors: not_found, already_exists, invalid_argument (it is for
  // all).
  Status show(uint32_t nsid, const std::string& host_nqn);
  Status hide(uint32_t nsid, const std::string& host_nqn);
  // Nothing: all do.
  std::optional<std::set<std::string>> hosts_that_see(uint32_t nsid) const;
  // Controllers whose hosts see it, and the one of `host_nqn` which may not any more, are told that it is another.
  void namespace_changed(uint32_t nsid, const std::string* host_nqn = nullptr);
  // … of each that is of that device.
  void device_changed(const Device& device);
  // Answers what it was. Errors: not_found.
  Result<std::shared_ptr<const Namespace>> remove_namespace(uint32_t nsid);

  // Lets the controller in, with a number and what its host has to prove. `secured`: it comes through TLS with its host's key.
  // Errors: permission_denied (its host is not allowed, comes in the clear though it has a TLS key, calls itself otherwise
  // elsewhere, or the subsystem is closed), no_space.
  Status attach(const std::shared_ptr<Controller>& controller, bool secured);
  // Its host has proven who it is: from now on others cannot call themselves by its identifier. Errors: permission_denied
  // (another has come first).
  Status confirm(Controller& controller);
  // No controller is let in any more.
  void close();
  void detach(const Controller& controller);
  std::shared_ptr<Controller> find_controller(uint16_t id) const;
  std::vector<std::shared_ptr<Controller>> controllers() const;

  // A queue of a host's is connected, and has ended. Between them it is among those of accounts().
  std::shared_ptr<QueueRecord> begin_queue(QueueIdentity identity);
  void end_queue(const QueueRecord& record);
  AccountsState accounts() const;

 private:
  const SubsystemOptions options_;
  mutable Mutex mutex_;
  bool any_host_ = options_.allow_any_host;
  bool closed_ = false;
  std::map<std::string, HostKeys> hosts_;
  std::map<std::string, nvme::AccessState> listeners_;
  Status check_limited(uint32_t nsid, const std::string& host_nqn) const;
  Status check_identifier(const HostIdentity& host) const;

  std::shared_ptr<const NamespaceTable> namespaces_ = std::make_shared<NamespaceTable>();
  std::map<uint32_t, std::set<std::string>>
      limited_;  // those that are not for all, and who sees them
  std::vector<std::pair<uint16_t, std::shared_ptr<Controller>>> controllers_;
  HostAccounts accounts_;
  uint16_t next_controller_id_ = options_.min_controller_id;
};

}  // namespace basalt::nvmf
