// See tcp_transport.h.
#include "nvme/tcp/tcp_transport.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/sync.h"
#include "base/try.h"
#include "nvme/commands.h"
#include "nvme/hex.h"
#include "nvme/page.h"
#include "wire/nvme/auth/messages.h"
#include "wire/nvme/fabrics.h"

namespace basalt::nvme {

namespace {

constexpr uint32_t kAdminEntries = 32;
constexpr uint32_t kMaxDataPieces =
    256;  // of a command's data; more cost nothing but somebody's mistake may be long

uint32_t milliseconds_of(Duration duration) {
  return static_cast<uint32_t>(
      std::chrono::duration_cast<std::chrono::milliseconds>(duration).count());
}

// What a failed Connect means, where to look.
Status connect_status(const Completion& completion, const TcpOptions& options) {
  const CompletionStatus status = completion.status();
  if (status.is(kConnectInvalidParameters)) {
    const ConnectFault fault{completion.result};
    if (fault.in_data() && fault.offset() == offsetof(ConnectData, subsystem_nqn)) {
      return {StatusCode::not_found,
              "connect: there is no subsystem \"" + options.subsystem_nqn + "\""};
    }
    if (fault.in_data() && fault.offset() == offsetof(ConnectData, host_nqn)) {
      return {StatusCode::permission_denied,
              "connect: the target does not let host \"" + options.host.nqn + "\" in"};
    }
    return {StatusCode::invalid_argument, "connect: invalid parameter at byte " +
                                              std::to_string(fault.offset()) + " of the " +
                                              (fault.in_data() ? "data" : "command")};
  }
  if (status.is(kConnectInvalidHost)) {
    return {StatusCode::permission_denied,
            "connect: the target does not let host \"" + options.host.nqn + "\" in"};
  }
  if (status.is(kConnectControllerBusy))
    return {StatusCode::busy, "connect: the controller is busy"};
  if (status.is(kCommandSequenceError)) {
    return {StatusCode::busy, "connect: the controller still has a queue with this number"};
  }
  if (status.is(kConnectIncompatibleFormat)) {
    return {StatusCode::unsupported, "connect: incompatible format of the command"};
  }
  if (status.is(kConnectRestartDiscovery)) {
    return {StatusCode::not_found, "connect: the subsystem is elsewhere by now; discover again"};
  }
  if (status.is(kAuthenticationRequired)) {
    return {StatusCode::permission_denied, "connect: the target requires authentication"};
  }
  return {to_status_code(status), "connect: " + describe(status)};
}

std::string name_of(const TcpOptions& options) {
  return options.addresses.empty() ? std::string() : options.addresses.front().to_string();
}

}  // namespace

Result<std::unique_ptr<TcpTransport>> TcpTransport::create(TcpOptions options) {
  if (options.addresses.empty()) {
    return error(StatusCode::invalid_argument, "nvme: no address of a target");
  }
  BASALT_TRY(check_nqn(options.subsystem_nqn));
  BASALT_TRY(check_nqn(options.host.nqn));
  if (options.keep_alive < std::chrono::seconds(1) || options.keep_alive > std::chrono::hours(24)) {
    return error(StatusCode::invalid_argument,
                 "nvme: a keep-alive timeout is one second at least, and a day at most");
  }
  return std::unique_ptr<TcpTransport>(new TcpTransport(std::move(options)));
}

TcpTransport::TcpTransport(TcpOptions options)
    : tcp_(std::move(options)), name_(name_of(tcp_)), admin_data_(AdminQueue::kDataBytes) {}

TcpTransport::~TcpTransport() { hang_up(); }

TransportTraits TcpTransport::traits() const {
  return {.registered_memory = false,
          .max_pieces = kMaxDataPieces,
          .reconnects = true,
          .look_interval = std::min<Duration>(std::chrono::seconds(1), tcp_.keep_alive / 4),
          .admin_only = tcp_.subsystem_nqn == kDiscoveryNqn};
}

void TcpTransport::attach(const HostServices& host, const ControllerOptions& options,
                          std::function<void()> look) {
  host_ = &host;
  options_ = &options;
  look_ = std::move(look);
  sockets_.resize(options.queue_pairs + size_t{1});
  events_.resize(options.queue_pairs + size_t{1});
}

// A controller that does not answer for as long as it would wait for us is lost.
Duration TcpTransport::admin_timeout() const {
  return std::min(options_->admin_timeout, tcp_.keep_alive);
}

// ---- Bring-up

Result<StartedController> TcpTransport::start(AdminQueue*) {
  leave();
  if (!settled()) {
    return error(StatusCode::busy,
                 "waiting " + milliseconds(patience_) +
                     " (by keep_alive) until the target has surely ended what was "
                     "sent over the lost connection");
  }
  Status last;
  for (const TcpAddress& address : tcp_.addresses) {
    {
      const MutexLock lock(mutex_);
      ++association_;
      failure_.clear();
    }
    stopped_ = false;
    Result<StartedController> started = start_at(address);
    if (started) return started;
    const std::string why = failure();
    last = started.error();
    if (tcp_.addresses.size() > 1) last = last.with_context(address.to_string());
    if (!why.empty()) last = Status(last.code(), std::string(last.message()) + " (" + why + ")");
    leave();
  }
  return error(std::move(last));
}

// What there is of an association ends; what was sent in it may be acted on for a while.
void TcpTransport::leave() noexcept {
  if (admin_ == nullptr) return hang_up();
  if (!stopped_) stopped_ = stop_controller();
  hang_up();
  admin_->end();
  admin_ = nullptr;
  if (!stopped_ && may_linger_) quiet_until_ = host_->clock.now() + patience_;
  may_linger_ = false;
}

Result<StartedController> TcpTransport::start_at(const TcpAddress& address) {
  address_ = address;
  controller_id_ = kAnyController;
  BASALT_TRY_ASSIGN(std::unique_ptr<TcpQueue> queue,
                    connect_queue(address, 0, kAdminEntries, tcp::kAdminCapsuleData,
                                  host_->clock.now() + tcp_.connect_timeout));
  admin_ = std::make_shared<AdminQueue>(std::move(queue), std::span(admin_data_), host_->memory,
                                        host_->clock, host_->log);
  uint64_t cap = 0;
  BASALT_TRY(admin_->run(property_get_command(Register::capabilities, true), {}, {},
                         admin_timeout(), &cap));
  capabilities_ = Capabilities{cap};
  BASALT_TRY(check_capabilities(capabilities_));
  BASALT_TRY(write32(Register::configuration, enabling_configuration(capabilities_)));
  BASALT_TRY(wait_ready(*this, host_->clock, true, ready_timeout(capabilities_)));
  last_keep_alive_ = host_->clock.now();
  admin_->keep_alive_every(tcp_.keep_alive / 3);
  return StartedController{capabilities_, admin_};
}

Status TcpTransport::prepare_queues(AdminQueue& admin, const IdentifyController& identity,
                                    uint16_t) {
  max_transfer_bytes_ = kMaxTransferBytes;
  if (identity.max_transfer_shift != 0 && identity.max_transfer_shift < 32) {
    max_transfer_bytes_ =
        std::min(kMaxTransferBytes, capabilities_.min_page_bytes() << identity.max_transfer_shift);
  }
  volatile_cache_ = (identity.volatile_write_cache & 1) != 0;
  if (volatile_cache_) {
    uint64_t enabled = 0;
    BASALT_TRY(admin.run(get_feature_command(Feature::volatile_write_cache), {}, {},
                         admin_timeout(), &enabled));
    volatile_cache_ = (enabled & 1) != 0;
  }
  // A controller whose timer any command restarts looks at the end of each span whether there was one. A second for what
  // is on its way.
  patience_ =
      tcp_.keep_alive * ((identity.controller_attributes & kTrafficKeepsAlive) != 0 ? 2 : 1) +
      std::chrono::milliseconds(100 * identity.keep_alive_granularity) + std::chrono::seconds(1);
  // In units of 16 B, the command among them; data must follow it at once.
  const uint64_t capsule = uint64_t{identity.io_capsule_units} * 16;
  capsule_data_ =
      identity.in_capsule_data_offset == 0 && capsule > sizeof(Command)
          ? static_cast<uint32_t>(std::min<uint64_t>(capsule - sizeof(Command), kMaxTransferBytes))
          : 0;
  return {};
}

// ---- Queues

Duration TcpTransport::until(Duration deadline) const {
  return std::max<Duration>(deadline - host_->clock.now(), std::chrono::milliseconds(1));
}

Result<std::shared_ptr<TcpSocket>> TcpTransport::dial(const TcpAddress& address,
                                                      Duration deadline) {
  using auth::IdentityVersion;
  Status refused;
  for (int tries = 0; tries < 2; ++tries) {
    BASALT_TRY_ASSIGN(std::shared_ptr<TcpSocket> socket,
                      TcpSocket::connect(address, until(deadline)));
    if (!tcp_.tls_key) return socket;
    auto psk = tcp_.tls_key->derive(tcp_.host.nqn, tcp_.subsystem_nqn, identity_);
    const Status status = psk ? socket->secure(*psk, until(deadline)) : psk.error();
    if (status.ok()) return socket;
    // What may pass is said rather than what is final.
    if (refused.ok() || status.code() == StatusCode::io_error) refused = status;
    if (psk && status.code() == StatusCode::timed_out) return error(status);
    // It may know the key by the identity of the other kind; it cannot be asked.
    identity_ = identity_ == IdentityVersion::names ? IdentityVersion::names_and_digest
                                                    : IdentityVersion::names;
  }
  return error(std::move(refused));
}

// All of it by `deadline`.
Result<std::unique_ptr<TcpQueue>> TcpTransport::connect_queue(const TcpAddress& address,
                                                              uint16_t id, uint32_t entries,
                                                              uint32_t capsule_data,
                                                              Duration deadline) {
  if (events_[id] == nullptr) {
    BASALT_TRY_ASSIGN(events_[id], TcpEvents::create());
  }
  BASALT_TRY_ASSIGN(std::shared_ptr<TcpSocket> socket, dial(address, deadline));
  const auto digests = static_cast<uint8_t>((tcp_.header_digest ? tcp::kUseHeaderDigest : 0) |
                                            (tcp_.data_digest ? tcp::kUseDataDigest : 0));
  BASALT_TRY_ASSIGN(const tcp::ConnectionTerms terms,
                    TcpQueue::establish(*socket, digests, until(deadline)));
  if (terms.header_digest != tcp_.header_digest || terms.data_digest != tcp_.data_digest) {
    return error(StatusCode::unsupported, "the target does not do the digests asked for");
  }
  BASALT_TRY(events_[id]->add(socket->fd()));
  TcpQueue::Owner& owner = *this;
  auto queue = std::make_unique<TcpQueue>(TcpQueueShape{.association = association_,
                                                        .id = id,
                                                        .depth = static_cast<uint16_t>(entries - 1),
                                                        .capsule_data = capsule_data,
                                                        .terms = terms},
                                          socket, *events_[id], owner);
  BASALT_TRY(join(*queue, id, entries, deadline));
  queue->serve();
  sockets_[id] = std::move(socket);
  return queue;
}

Status TcpTransport::join(TcpQueue& queue, uint16_t id, uint32_t entries, Duration deadline) {
  ConnectData data{};
  std::copy(tcp_.host.id.begin(), tcp_.host.id.end(), data.host_id);
  data.controller_id = controller_id_;
  tcp_.subsystem_nqn.copy(data.subsystem_nqn, sizeof data.subsystem_nqn - 1);
  tcp_.host.nqn.copy(data.host_nqn, sizeof data.host_nqn - 1);
  const Command command =
      connect_command(id, entries, id == 0 ? milliseconds_of(tcp_.keep_alive) : 0);
  const Result<Completion> completion =
      queue.run_alone(command, std::as_bytes(std::span(&data, 1)), {}, until(deadline));
  if (!completion) return completion.error().with_context("connect");
  if (!completion->status().ok()) return connect_status(*completion, tcp_);
  const ConnectResult result{completion->result};
  if (id == 0) controller_id_ = result.controller_id();
  if (result.wants_secure_channel()) {
    return {
        StatusCode::unsupported,
        "connect: the target wants TLS with a key made by authentication, which is not supported; "
        "give both ends a TLS key"};
  }
  if (!result.wants_authentication()) {
    // A target that was to prove itself and does not ask for it would pass for the right one.
    if (!tcp_.credentials.controller) return {};
    return {StatusCode::permission_denied,
            "connect: the target does not authenticate, and was to prove that it knows a secret"};
  }
  return prove(queue, deadline).with_context("authentication");
}

Status TcpTransport::prove(TcpQueue& queue, Duration deadline) {
  // Authentication Send and Receive on the queue itself.
  class Messages final : public AuthenticationChannel {
   public:
    Messages(TcpQueue& queue, Duration timeout) : queue_(queue), timeout_(timeout) {}
    Status send(std::span<const std::byte> message) override {
      return run(FabricsType::auth_send, message, {}, message.size());
    }
    Status receive(std::span<std::byte> message) override {
      return run(FabricsType::auth_receive, {}, message, message.size());
    }

   private:
    Status run(FabricsType type, std::span<const std::byte> sent, std::span<std::byte> received,
               size_t bytes) {
      Command command = fabrics_command(type);
      command.cdw10 = auth::kSecurityProtocol;
      command.cdw11 = static_cast<uint32_t>(bytes);
      const Result<Completion> completion = queue_.run_alone(command, sent, received, timeout_);
      if (!completion) return completion.error();
      const CompletionStatus status = completion->status();
      if (status.ok()) return {};
      return {to_status_code(status), describe(status)};
    }
    TcpQueue& queue_;
    const Duration timeout_;
  };
  Messages messages(queue, until(deadline));
  return authenticate(messages, tcp_.credentials, tcp_.host.nqn, tcp_.subsystem_nqn,
                      ++transaction_);
}

Result<std::unique_ptr<CommandQueue>> TcpTransport::open_queue(uint16_t id, AdminQueue&) {
  const uint32_t entries =
      std::min<uint32_t>(options_->queue_depth + 1u, capabilities_.max_queue_entries());
  may_linger_ = true;
  // Nobody keeps the connection alive meanwhile.
  const Duration deadline =
      host_->clock.now() + std::min(tcp_.connect_timeout, tcp_.keep_alive / 2);
  // A queue goes with its connection, which the target may take a while to notice.
  for (Duration pause = std::chrono::milliseconds(1);; pause *= 2) {
    Result<std::unique_ptr<TcpQueue>> queue =
        connect_queue(address_, id, entries, capsule_data_, deadline);
    if (queue) return std::unique_ptr<CommandQueue>(std::move(*queue));
    if (queue.error().code() != StatusCode::busy || host_->clock.now() + pause > deadline) {
      return error(queue.error().with_context("queue " + std::to_string(id)));
    }
    sleep_for(pause);
  }
}

void TcpTransport::wake(uint16_t id) noexcept {
  if (events_[id] != nullptr) events_[id]->wake();
}

void TcpTransport::settle(uint16_t id) noexcept {
  if (events_[id] != nullptr) events_[id]->settle();
}

// Its connection ends with the queue itself, and the controller's queue with the connection.
void TcpTransport::close_queue(uint16_t id, AdminQueue&) noexcept { sockets_[id] = nullptr; }

// ---- Properties

Result<uint32_t> TcpTransport::read32(Register which) {
  if (admin_ == nullptr) return error(StatusCode::io_error, "there is no connection");
  uint64_t value = 0;
  BASALT_TRY(admin_->run(property_get_command(which, false), {}, {}, admin_timeout(), &value));
  return static_cast<uint32_t>(value);
}

Status TcpTransport::write32(Register which, uint32_t value) {
  if (admin_ == nullptr) return {StatusCode::io_error, "there is no connection"};
  return admin_->run(property_set_command(which, value), {}, {}, admin_timeout());
}

// ---- Health

void TcpTransport::connection_failed(const TcpQueueShape& queue, const std::string& why) noexcept {
  {
    const MutexLock lock(mutex_);
    if (queue.association != association_ || !failure_.empty()) return;
    failure_ = (queue.id == 0 ? "admin queue" : "queue " + std::to_string(queue.id)) + ": " + why;
  }
  look_();
}

void TcpTransport::distrust(const Status& why) noexcept {
  {
    const MutexLock lock(mutex_);
    if (failure_.empty()) failure_ = why.message();
  }
  look_();
}

std::string TcpTransport::failure() const {
  const MutexLock lock(mutex_);
  return failure_;
}

Status TcpTransport::check() {
  if (std::string why = failure(); !why.empty()) {
    return {StatusCode::io_error, "the connection is lost: " + why};
  }
  // Well within its patience, however late a look comes.
  if (host_->clock.now() - last_keep_alive_ < tcp_.keep_alive / 3) return {};
  last_keep_alive_ = host_->clock.now();
  if (const Status alive =
          admin_->run(admin_command(AdminOpcode::keep_alive), {}, {}, admin_timeout());
      !alive.ok()) {
    return {StatusCode::io_error, std::string(alive.message())};
  }
  const Result<uint32_t> raw = read32(Register::status);
  if (!raw) return {StatusCode::io_error, std::string(raw.error().message())};
  if (ControllerStatus{*raw}.fatal()) {
    return {StatusCode::io_error, "it reports a fatal error (CSTS.CFS)"};
  }
  return {};
}

// CC.EN to 0: after that the controller carries out nothing it was sent before.
bool TcpTransport::stop_controller() noexcept {
  if (admin_ == nullptr || admin_->stuck() || !failure().empty()) return false;
  return write32(Register::configuration, enabling_configuration(capabilities_) & ~kEnable).ok() &&
         wait_ready(*this, host_->clock, false, ready_timeout(capabilities_)).ok();
}

Status TcpTransport::check_state_kept(bool unflushed) {
  stopped_ = stop_controller();  // not, if it was left before: it may be another by now
  if (stopped_ || !unflushed || !volatile_cache_ || tcp_.write_cache_survives) return {};
  return {StatusCode::io_error,
          "the connection is lost (" + failure() +
              "), and if the target has lost power, writes that were not flushed are gone with its "
              "write cache; open it again, or say write_cache_survives if that cannot be"};
}

void TcpTransport::hang_up() noexcept {
  for (size_t id = 0; id < sockets_.size(); ++id) {
    if (sockets_[id] == nullptr) continue;
    events_[id]->remove(sockets_[id]->fd());
    sockets_[id]->abort();
    sockets_[id] = nullptr;
  }
}

}  // namespace basalt::nvme
