// TcpTransport: a controller reached over NVMe/TCP.
//
// NVM Express base specification 2.0, §3.5.2 (message-based initialisation), §6.3 (Connect), §3.9 (keep alive); TCP
// transport specification 1.0. An association is one admin connection and one connection per I/O queue. When one of
// them fails all are hung up, and start() makes a new association with the first of its addresses that answers.
//
// What an association leaves behind. Commands that were on their way when it was lost may still be carried out by the
// target, also after the host has connected anew and sent them again; a write that arrives late over a newer one would
// be silent corruption. So unless the controller has confirmed that it stopped (CC.EN to 0), start() answers `busy`
// until the keep-alive timeout has passed since the connections were cut (twice, if any command restarts the target's
// timer): by then a target has ended the association by itself. A controller that is given up meanwhile gives its
// commands back no earlier. And a target with a volatile write cache may have lost what it acknowledged, if it went away
// because its power did: check_state_kept() fails then if anything was not flushed.
// Threads: as Transport.
#pragma once

#include <atomic>
#include <optional>
#include <string>
#include <vector>

#include "base/sync.h"
#include "nvme/tcp/authentication.h"
#include "nvme/tcp/host_identity.h"
#include "nvme/tcp/socket.h"
#include "nvme/tcp/tcp_events.h"
#include "nvme/tcp/tcp_queue.h"
#include "nvme/transport.h"
#include "wire/nvme/auth/tls_key.h"

namespace basalt::nvme {

struct TcpOptions {
  std::vector<TcpAddress> addresses;  // of one subsystem; tried in turn
  std::string subsystem_nqn;
  HostIdentity host;
  Credentials credentials;
  std::optional<auth::TlsKey> tls_key;  // given: nothing travels but through TLS
  bool header_digest = false;
  bool data_digest = false;
  Duration keep_alive =
      std::chrono::seconds(5);  // the controller's patience with a silent host; at least 1 s
  Duration connect_timeout = std::chrono::seconds(5);
  // The target's write cache outlives whatever ends a connection to it (it is protected against loss of power).
  bool write_cache_survives = false;
};

class TcpTransport final : public Transport, private TcpQueue::Owner {
 public:
  // invalid_argument: names and numbers that cannot be meant.
  static Result<std::unique_ptr<TcpTransport>> create(TcpOptions options);
  ~TcpTransport() override;

  const std::string& name() const override { return name_; }
  TransportTraits traits() const override;
  void attach(const HostServices& host, const ControllerOptions& options,
              std::function<void()> look) override;

  Result<StartedController> start(AdminQueue* previous) override;
  Status prepare_queues(AdminQueue& admin, const IdentifyController& identity,
                        uint16_t queue_pairs) override;
  uint16_t queue_limit() const override { return options_->queue_pairs; }
  uint64_t max_transfer_bytes() const override { return max_transfer_bytes_; }

  Result<std::unique_ptr<CommandQueue>> open_queue(uint16_t id, AdminQueue& admin) override;
  void close_queue(uint16_t id, AdminQueue& admin) noexcept override;
  void wake(uint16_t id) noexcept override;
  void settle(uint16_t id) noexcept override;

  Result<uint32_t> read32(Register which) override;
  Status write32(Register which, uint32_t value) override;

  Status check() override;
  Status check_state_kept(bool unflushed) override;
  bool may_lose_writes(const IdentifyController&) const override {
    return volatile_cache_ && !tcp_.write_cache_survives;
  }
  void reset_harder() noexcept override {}
  void distrust(const Status& why) noexcept override;
  void cut_off() noexcept override { leave(); }
  bool settled() const override { return host_->clock.now() >= quiet_until_; }

 private:
  explicit TcpTransport(TcpOptions options);

  void connection_failed(const TcpQueueShape& queue, const std::string& why) noexcept override;
  std::string failure() const;
  bool stop_controller() noexcept;
  void leave() noexcept;
  void hang_up() noexcept;
  Result<std::shared_ptr<TcpSocket>> dial(const TcpAddress& address, Duration deadline);
  Result<StartedController> start_at(const TcpAddress& address);
  Result<std::unique_ptr<TcpQueue>> connect_queue(const TcpAddress& address, uint16_t id,
                                                  uint32_t entries, uint32_t capsule_data,
                                                  Duration deadline);
  Status join(TcpQueue& queue, uint16_t id, uint32_t entries, Duration deadline);
  Status prove(TcpQueue& queue, Duration deadline);
  Duration until(Duration deadline) const;
  Duration admin_timeout() const;

  const TcpOptions tcp_;
  const std::string name_;
  const HostServices* host_ = nullptr;
  const ControllerOptions* options_ = nullptr;
  std::function<void()> look_;
  std::vector<std::byte> admin_data_;
  std::vector<std::unique_ptr<TcpEvents>> events_;   // by queue id; made once
  std::shared_ptr<AdminQueue> admin_;                // of this association; null: there is none
  std::vector<std::shared_ptr<TcpSocket>> sockets_;  // by queue id
  TcpAddress address_;                               // of this association
  Capabilities capabilities_;
  uint16_t controller_id_ = 0xffff;
  uint32_t capsule_data_ = 0;  // in an I/O command
  uint64_t max_transfer_bytes_ = 0;
  bool volatile_cache_ = false;
  bool stopped_ = false;      // the controller has confirmed that it carries nothing out any more
  bool may_linger_ = false;   // there were I/O queues
  uint16_t transaction_ = 0;  // of the last authentication
  // Which kind of identity the target knows, as far as that is known.
  auth::IdentityVersion identity_ = auth::IdentityVersion::names_and_digest;
  Duration quiet_until_{};  // before that, a lost association may still be at work
  Duration last_keep_alive_{};

  Duration patience_{};  // after which the controller has ended an association it hears nothing of

  mutable Mutex mutex_;  // protects what follows
  uint64_t association_ = 0;
  std::string failure_;  // why a connection has failed; empty: none has
};

}  // namespace basalt::nvme
