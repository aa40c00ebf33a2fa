// Controller::bring_up(): from a function nobody knows anything of to a controller with queues.
//
// NVM Express base specification 2.0, §3.5 (initialisation), §3.6 (shutdown); the same steps serve the first time
// and after a reset. The first of them, up to a ready controller with an admin queue, are the transport's
// (pcie_transport.cc, tcp/tcp_transport.cc). Every wait has a deadline, and an error names the step, what was
// waited for and what the controller showed.
#include <algorithm>
#include <array>
#include <optional>

#include "base/sync.h"
#include "base/try.h"
#include "nvme/commands.h"
#include "nvme/controller.h"
#include "nvme/hex.h"
#include "wire/nvme/admin.h"

namespace basalt::nvme {

namespace {

// It may be another answer the next time.
bool is_passing(const Status& status) {
  return status.code() == StatusCode::io_error || status.code() == StatusCode::timed_out ||
         status.code() == StatusCode::busy;
}

}  // namespace

Status Controller::bring_up() {
  BASALT_TRY_ASSIGN(const StartedController started, transport_->start(admin_.get()));
  {
    const MutexLock lock(mutex_);
    admin_ = started.admin;
  }
  AdminQueue& admin = *admin_;
  Identity identity;
  identity.more_command_sets = started.capabilities.more_command_sets();
  BASALT_TRY(identify(admin, identity.data));
  if (!transport_->traits().admin_only) BASALT_TRY(grant_queues(admin, identity));
  BASALT_TRY(transport_->prepare_queues(admin, identity.data, identity.queue_pairs));
  identity.max_transfer_bytes = transport_->max_transfer_bytes();
  if (!transport_->traits().admin_only) {
    BASALT_TRY(read_namespaces(admin, identity, OnFailure::keep_known));
  }
  if (transport_->traits().reconnects) BASALT_TRY(check_namespaces(identity));
  if (!transport_->traits().admin_only) BASALT_TRY(ask_about_changes(admin, identity));
  admin.request_events(
      std::min<unsigned>(AdminQueue::kEventRequests, identity.data.async_event_limit + 1u));
  may_lose_writes_.store(transport_->may_lose_writes(identity.data));
  const MutexLock lock(mutex_);
  remember_namespaces(identity.namespaces);
  identity_ = std::move(identity);
  access_generation_.fetch_add(1, std::memory_order_release);
  listeners_are_due_.store(true);
  return {};
}

Status Controller::identify(AdminQueue& admin, IdentifyController& data) {
  BASALT_TRY(admin.run(identify_command(IdentifyKind::controller), {},
                       std::as_writable_bytes(std::span(&data, 1)), options_.admin_timeout));
  if ((data.submission_entry_size & 0xf) > 6 || (data.completion_entry_size & 0xf) > 4) {
    return {StatusCode::unsupported,
            "the controller wants queue entries larger than 64 and 16 B (SQES " +
                hex(data.submission_entry_size) + ", CQES " + hex(data.completion_entry_size) +
                ")"};
  }
  for (unsigned i = 0; i < 3; ++i) retry_delays_[i + 1].store(data.retry_delay[i]);
  if (data.retry_delay[0] != 0) {
    // Host behaviour support, byte 0: the controller may say how long to wait before a retry.
    std::array<std::byte, 512> behavior{};
    behavior[0] = std::byte{1};
    BASALT_TRY(admin.run(set_feature_command(Feature::host_behavior, 0), behavior, {},
                         options_.admin_timeout));
  }
  return {};
}

Status Controller::grant_queues(AdminQueue& admin, Identity& identity) {
  const uint32_t wanted = transport_->queue_limit();
  uint64_t granted = 0;
  BASALT_TRY(admin.run(set_feature_command(Feature::queue_count, (wanted - 1) << 16 | (wanted - 1)),
                       {}, {}, options_.admin_timeout, &granted));
  identity.queue_pairs = static_cast<uint16_t>(
      std::min<uint64_t>({wanted, (granted & 0xffff) + 1, (granted >> 16 & 0xffff) + 1}));
  return {};
}

Status Controller::read_namespaces(AdminQueue& admin, Identity& identity, OnFailure on_failure) {
  std::array<le32, kIdentifyBytes / 4> ids;
  for (uint32_t after = 0;;) {
    BASALT_TRY(admin.run(identify_command(IdentifyKind::active_namespaces, after), {},
                         std::as_writable_bytes(std::span(ids)), options_.admin_timeout));
    for (const uint32_t nsid : ids) {
      if (nsid == 0) return {};
      if (nsid <= after) {
        return {StatusCode::corruption, "the list of namespaces goes from " +
                                            std::to_string(after) + " to " + std::to_string(nsid)};
      }
      after = nsid;
      const Result<NamespaceInfo> info = read_namespace(admin, identity, nsid);
      if (info) {
        identity.namespaces.push_back(*info);
        continue;
      }
      const bool passing = is_passing(info.error());
      if (admin.stuck() || (passing && on_failure == OnFailure::fail)) return info.error();
      host_.log.log(LogLevel::warning, "nvme", info.error().with_context(name()).to_string());
      if (!passing || on_failure == OnFailure::leave_out) continue;
      // Somebody may have it open: without it, it would be called removed.
      const std::optional<NamespaceInfo> known = known_namespace(nsid);
      if (!known) continue;
      // Whether it is the one it was has to be seen, where another may have come in its place.
      if (transport_->traits().reconnects) return info.error();
      identity.namespaces.push_back(*known);
      namespaces_are_old_.store(true);
    }
  }
}

// Of namespaces, and of how they are reached. A controller that refuses is used all the same.
Status Controller::ask_about_changes(AdminQueue& admin, Identity& identity) {
  const auto warn_unless_stuck = [&](const Status& status) -> Status {
    if (admin.stuck()) return status;
    host_.log.log(LogLevel::warning, "nvme", status.with_context(name()).to_string());
    return {};
  };
  constexpr uint32_t kHealth = 0x1f;  // every warning of the health log
  const uint32_t wanted =
      identity.data.optional_async_events & (kReportNamespaces | kReportAsymmetricAccess);
  if (wanted != 0) {
    const Status asked =
        admin.run(set_feature_command(Feature::async_event_config, wanted | kHealth), {}, {},
                  options_.admin_timeout);
    if (!asked.ok()) BASALT_TRY(warn_unless_stuck(asked));
  }
  if ((identity.data.multipath & kReportsAccess) == 0) return {};
  auto states = read_access_states(admin, identity.data, identity.max_transfer_bytes);
  if (!states) {
    access_is_old_.store(true);
    return warn_unless_stuck(states.error());
  }
  identity.access = std::move(*states);
  identity.access_known = true;
  return {};
}

Result<AccessStates> Controller::read_access_states(AdminQueue& admin,
                                                    const IdentifyController& data,
                                                    uint64_t max_bytes) {
  constexpr uint64_t kMostBytes = 1 << 20;
  const uint64_t bytes = access_log_bytes(data);
  if (bytes > kMostBytes) {
    return error(StatusCode::corruption, "an ANA log page of " + std::to_string(bytes) +
                                             " B, by what the controller says of itself");
  }
  const uint64_t piece = std::min<uint64_t>(AdminQueue::kDataBytes,
                                            max_bytes != 0 ? max_bytes : AdminQueue::kDataBytes);
  std::vector<std::byte> page(bytes);
  const auto read = [&](size_t at, size_t count) {
    Command command = log_page_command(LogPage::asymmetric_access, static_cast<uint32_t>(count), 0);
    command.cdw12 = static_cast<uint32_t>(at);
    return admin.run(command, {}, std::span(page).subspan(at, count), options_.admin_timeout);
  };
  // In pieces it may change in between; the header, with its count of changes, is read once more then.
  constexpr int kTries = 5;
  for (int i = 0; i < kTries; ++i) {
    for (size_t at = 0; at < bytes; at += piece) {
      BASALT_TRY(read(at, std::min<uint64_t>(piece, bytes - at)));
    }
    const std::vector<std::byte> header(page.begin(), page.begin() + sizeof(AccessLogHeader));
    if (bytes > piece) BASALT_TRY(read(0, sizeof(AccessLogHeader)));
    if (!std::equal(header.begin(), header.end(), page.begin())) continue;
    BASALT_TRY_ASSIGN(AccessStates states, parse_access_log(page));
    for (const auto& [nsid, state] : states) {
      if (state == AccessState::change) access_is_old_.store(true);  // whatever it changes to
    }
    return states;
  }
  return error(StatusCode::busy, "the ANA log page keeps changing");
}

std::optional<NamespaceInfo> Controller::known_namespace(uint32_t nsid) const {
  const MutexLock lock(mutex_);
  const auto found = known_.find(nsid);
  if (found == known_.end()) return {};
  return found->second;
}

void Controller::remember_namespaces(const std::vector<NamespaceInfo>& spaces) {
  for (const NamespaceInfo& space : spaces) {
    const auto [known, is_new] = known_.try_emplace(space.nsid, space);
    if (!is_new) known->second.block_count = space.block_count;
  }
}

// What was sent to the namespaces of the time before is going to be sent again to these.
Status Controller::check_namespaces(const Identity& identity) const {
  const MutexLock lock(mutex_);
  for (const NamespaceInfo& now : identity.namespaces) {
    const auto before = known_.find(now.nsid);
    if (before != known_.end() && !is_same_namespace(before->second, now)) {
      return {StatusCode::corruption, "namespace " + std::to_string(now.nsid) +
                                          " is not the one it was before the connection was lost"};
    }
  }
  return {};
}

// not_found: it has just been deleted.
Result<NamespaceInfo> Controller::read_namespace(AdminQueue& admin, const Identity& identity,
                                                 uint32_t nsid) {
  const auto ask = [&](const Command& command, auto& data) {
    return admin.run(command, {}, std::as_writable_bytes(std::span(&data, 1)),
                     options_.admin_timeout);
  };
  IdentifyNamespace data;
  BASALT_TRY(ask(identify_command(IdentifyKind::name_space, nsid), data));
  BASALT_TRY_ASSIGN(NamespaceInfo info, namespace_info(nsid, identity.data, data));
  constexpr uint32_t kVersion13 = 0x10300;  // has descriptors
  if (!identity.more_command_sets && identity.data.version < kVersion13) return info;
  std::array<std::byte, kIdentifyBytes> descriptors{};
  if (Status asked = ask(identify_command(IdentifyKind::namespace_descriptors, nsid), descriptors);
      !asked.ok()) {
    if (identity.more_command_sets || admin.stuck()) return error(std::move(asked));
    return info;  // not everybody has what the specification demands
  }
  NamespaceInfo described = info;
  if (const Status added = add_descriptors(described, descriptors); added.ok()) {
    info = described;
  } else if (identity.more_command_sets) {
    return error(added);
  }
  if (info.command_set != CommandSet::zoned) return info;
  IdentifyZonedNamespace zoned;
  BASALT_TRY(
      ask(identify_command(IdentifyKind::command_set_namespace, nsid, CommandSet::zoned), zoned));
  BASALT_TRY(add_zones(info, data, zoned));
  return info;
}

// CC.SHN, so that what the controller holds in memory is on its media when the power goes.
Status Controller::shut_down() {
  BASALT_TRY_ASSIGN(const uint32_t configuration, transport_->read32(Register::configuration));
  if ((configuration & kEnable) == 0) return {};  // it has lost its power, or was reset by others
  BASALT_TRY(transport_->write32(Register::configuration,
                                 (configuration & ~kShutdownMask) | kShutdownNormal));
  for (const Duration end = host_.clock.now() + options_.shutdown_timeout;;
       sleep_for(std::chrono::milliseconds(1))) {
    BASALT_TRY_ASSIGN(const uint32_t raw, transport_->read32(Register::status));
    if (ControllerStatus{raw}.gone()) return {StatusCode::device_removed, "shutdown: it is gone"};
    if (ControllerStatus{raw}.shutdown_complete()) return {};
    if (host_.clock.now() >= end) {
      return {StatusCode::timed_out, "shutdown: not complete after " +
                                         milliseconds(options_.shutdown_timeout) + " (CSTS " +
                                         hex(raw) + ")"};
    }
  }
}

}  // namespace basalt::nvme
