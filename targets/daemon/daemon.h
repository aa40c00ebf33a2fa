// Daemon: the devices, the target and the control plane of one process.
//
// It is configured by calls alone: those of the config file when it starts, those that come over the socket later. What it is
// can be written down as such calls again (save_config). With a state directory (state_store.h) it is written there after each
// call that changed something, before the call is answered, so that what was acknowledged is there after power loss; hosts'
// reservations are, too.
// Threads: configure(), call() and serve_metrics() one at a time; calls are the socket's thread's once serve() has been called.
#pragma once

#include <basalt/context.h>
#include <basalt/status.h>

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "reactor/reactor.h"
#include "targets/daemon/bdev_table.h"
#include "targets/daemon/log_filter.h"
#include "targets/daemon/metrics.h"
#include "targets/daemon/notifications.h"
#include "targets/daemon/nvme_attachment.h"
#include "targets/daemon/state_store.h"
#include "targets/nvmf/target.h"
#include "targets/rpc/dispatcher.h"
#include "targets/rpc/server.h"

namespace basalt {

struct DaemonOptions {
  std::vector<int> cores;  // a reactor on each; none: one, anywhere
  LogSink* log = nullptr;  // null: lines of text on stderr
  LogFilter::Level log_level = LogLevel::info;
  // Where configuration and reservations are kept (StateStore::open()); empty: nowhere.
  std::string state_directory{};
};

class Daemon {
 public:
  static Result<std::unique_ptr<Daemon>> create(const DaemonOptions& options);
  ~Daemon();
  Daemon(const Daemon&) = delete;

  // Makes the calls of a configuration as save_config writes it; at the first that fails it stops, and says which it was.
  Status configure(const rpc::Json& config);
  Result<rpc::Json> call(const std::string& method, const rpc::Json& params) {
    return dispatcher_.call(method, params);
  }
  // Makes the calls of the configuration that was kept last, as configure(). False: there is none, or no state directory.
  Result<bool> restore();
  // Keeps the configuration as it is, and from here on whenever a call has changed it. What cannot be kept fails the call, which
  // was made all the same, and those that follow until it can be; not those that only ask. Without a state directory: nothing.
  Status keep();
  // From here on calls come by the socket.
  Status serve(const std::string& socket_path);
  // From here on Prometheus is answered. Answers the URL. Errors: already_exists; MetricsServer::open()'s.
  Result<std::string> serve_metrics(const nvmf::ListenAddress& address);
  // Any thread.
  MetricsSnapshot metrics() const { return take_snapshot(bdevs_, *target_, reactors_); }

 private:
  Daemon(std::unique_ptr<LogSink> own_log, std::unique_ptr<LogFilter> log,
         std::unique_ptr<Context> context);
  void add_log_methods();
  void add_framework_methods();
  void add_bdev_methods();
  void add_layer_methods();
  void add_nvme_methods();
  void add_nvmf_methods();
  void add_nvmf_visibility_methods();
  void add_keyring_methods();
  void add_metrics_methods();
  // The contents of a key of the keyring, as nvme::auth::Secret or nvme::auth::TlsKey. Errors: not_found, invalid_argument,
  // permission_denied.
  template <class Key>
  Result<Key> read_key(const std::string& name) const;
  Status make_calls(const rpc::Json& config);
  rpc::Json config() const;
  Status keep_config();
  rpc::Json keyring_config() const;
  rpc::Json bdev_config() const;
  rpc::Json nvmf_config() const;
  // The bdev `name`. Errors: not_found; invalid_argument (it is of another kind).
  Result<const Bdev*> find_bdev(const std::string& name, const std::string& product) const;
  // Those that stand on it go first, as with SPDK, and namespaces go before their bdev: hosts are told.
  Status delete_bdev(const std::string& name);
  Status remove_namespace(const std::string& nqn, uint32_t nsid);
  // Errors: busy (a host's or a controller's).
  Status check_unused(const std::string& key) const;
  // The file of a key of the keyring. Errors: not_found; those of the file.
  Result<std::string> key_path(const std::string& key) const;
  Result<rpc::Json> attach_controller(NvmeAttachment attachment);
  Status detach_controller(const std::string& name);
  // The name of the bdev whose device it is; empty: none.
  std::string name_of(const Device& device) const;

  const std::unique_ptr<LogSink> own_log_;  // null: the log is another's
  const std::unique_ptr<LogFilter> log_;
  std::unique_ptr<Context> context_;
  std::unique_ptr<StateStore> state_;  // null: nothing is kept
  std::unique_ptr<nvmf::ReservationStore> kept_reservations_;
  std::string kept_config_;   // as it is in state_
  bool configuring_ = false;  // calls within a call: the outer one is kept
  std::vector<std::unique_ptr<Reactor>> reactors_;
  Notifications notifications_;
  std::map<std::string, NvmeAttachment> attachments_;  // by name
  BdevTable bdevs_;
  std::unique_ptr<nvmf::Target> target_;
  rpc::Json transport_;                      // the parameters it was made with; null: it was not
  std::map<std::string, std::string> keys_;  // files, by the names of the keys in them
  // The parameters that hosts with keys were added with, by subsystem and host.
  std::map<std::pair<std::string, std::string>, rpc::Json> host_keys_;
  rpc::Dispatcher dispatcher_;
  std::unique_ptr<MetricsServer> metrics_server_;
  std::unique_ptr<rpc::RpcServer> server_;
};

}  // namespace basalt
