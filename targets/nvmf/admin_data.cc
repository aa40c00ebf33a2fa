// A controller's log pages and features.
//
// NVM Express base specification 2.0, §5.15, §5.16, §5.27.
#include <algorithm>
#include <cstring>

#include "targets/nvmf/controller.h"
#include "targets/nvmf/discovery.h"
#include "targets/nvmf/queue.h"
#include "targets/nvmf/target.h"
#include "wire/nvme/log_page.h"

namespace basalt::nvmf {

using nvme::CompletionStatus;
using nvme::Feature;
using nvme::LogPage;

namespace {

template <class Struct>
std::vector<std::byte> bytes_of(const Struct& value) {
  const auto bytes = std::as_bytes(std::span(&value, 1));
  return {bytes.begin(), bytes.end()};
}

nvme::CommandsSupportedLog supported_commands(const OpSet& common) {
  nvme::CommandsSupportedLog log{};
  for (const auto opcode :
       {nvme::AdminOpcode::get_log_page, nvme::AdminOpcode::identify, nvme::AdminOpcode::abort,
        nvme::AdminOpcode::set_features, nvme::AdminOpcode::get_features,
        nvme::AdminOpcode::async_event_request, nvme::AdminOpcode::keep_alive}) {
    log.admin[static_cast<size_t>(opcode)] = nvme::kCommandSupported;
  }
  const auto io = [&](nvme::IoOpcode opcode, bool there, bool changes) {
    if (!there) return;
    log.io[static_cast<size_t>(opcode)] =
        nvme::kCommandSupported | (changes ? nvme::kCommandChangesBlocks : 0);
  };
  io(nvme::IoOpcode::flush, true, false);
  io(nvme::IoOpcode::read, true, false);
  io(nvme::IoOpcode::write, true, true);
  io(nvme::IoOpcode::verify, true, false);
  for (const auto opcode :
       {nvme::IoOpcode::reservation_register, nvme::IoOpcode::reservation_report,
        nvme::IoOpcode::reservation_acquire, nvme::IoOpcode::reservation_release}) {
    io(opcode, true, false);
  }
  io(nvme::IoOpcode::compare, common.has(Op::compare), false);
  io(nvme::IoOpcode::write_zeroes, common.has(Op::write_zeroes), true);
  io(nvme::IoOpcode::dataset_management, common.has(Op::discard), true);
  io(nvme::IoOpcode::copy, common.has(Op::copy), true);
  return log;
}

nvme::HealthLog health() {
  nvme::HealthLog log{};
  log.temperature = 273 + 25;  // nobody measures one
  log.spare = 100;
  log.spare_threshold = 10;
  return log;
}

}  // namespace

std::vector<std::byte> Controller::make_log_page(LogPage page, bool& known) {
  known = true;
  if (subsystem_->is_discovery()) {
    if (page == LogPage::discovery)
      return make_discovery_log(target_, host_.nqn, admin_queue_->transport().local_host());
    known = false;
    return {};
  }
  switch (page) {
    case LogPage::error_information: return bytes_of(nvme::ErrorLogEntry{});
    case LogPage::health: return bytes_of(health());
    case LogPage::firmware_slots: {
      nvme::FirmwareLog log{};
      log.active = 1;
      std::fill(std::begin(log.revisions[0]), std::end(log.revisions[0]), ' ');
      const std::string_view version = BASALT_VERSION;
      std::copy_n(version.begin(), std::min(version.size(), sizeof log.revisions[0]),
                  std::begin(log.revisions[0]));
      return bytes_of(log);
    }
    case LogPage::changed_namespaces: {
      nvme::ChangedNamespacesLog log{};
      size_t count = 0;
      for (const uint32_t nsid : changed_namespaces_) log.nsids[count++] = nsid;
      return bytes_of(log);
    }
    case LogPage::reservation_notification: return reservation_log();
    case LogPage::asymmetric_access:
      known = subsystem_->options().reports_access;
      return known ? access_log() : std::vector<std::byte>();
    case LogPage::commands_supported:
      return bytes_of(supported_commands(common_operations(*namespaces())));
    default: known = false; return {};
  }
}

std::vector<std::byte> Controller::access_log() const {
  const auto table = namespaces();
  nvme::AccessLogHeader header{};
  header.change_count = access_changes_.load();
  header.groups = 1;
  nvme::AccessGroup group{};
  group.id = kAccessGroup;
  group.change_count = access_changes_.load();
  group.state = static_cast<uint8_t>(access());
  std::vector<std::byte> ids;
  uint32_t count = 0;
  for (const auto& space : *table) {
    if (space == nullptr) continue;
    const auto id = bytes_of(le32(space->nsid));
    ids.insert(ids.end(), id.begin(), id.end());
    ++count;
  }
  group.namespaces = count;
  std::vector<std::byte> page = bytes_of(header);
  const auto group_bytes = bytes_of(group);
  page.insert(page.end(), group_bytes.begin(), group_bytes.end());
  page.insert(page.end(), ids.begin(), ids.end());
  return page;
}

CompletionStatus Controller::get_log_page(Request& request) {
  const nvme::Command& command = request.command;
  const auto page = static_cast<LogPage>(command.cdw10 & 0xff);
  const uint64_t dwords = (command.cdw10 >> 16 | uint64_t{command.cdw11 & 0xffff} << 16) + 1;
  const uint64_t offset = command.cdw12 | uint64_t{command.cdw13} << 32;
  if (dwords * 4 != request.data.size()) return nvme::kDataLengthInvalid;
  if (offset % 4 != 0) return nvme::kInvalidField;
  bool known = false;
  const std::vector<std::byte> content = make_log_page(page, known);
  if (!known) return nvme::kInvalidLogPage;
  if (offset > content.size()) return nvme::kInvalidField;
  std::fill(request.data.begin(), request.data.end(), std::byte{});
  const size_t count = std::min<size_t>(request.data.size(), content.size() - offset);
  std::memcpy(request.data.data(), content.data() + offset, count);
  if ((command.cdw10 & nvme::kRetainAsyncEvent) == 0) {
    masked_.erase(page);
    // What it would have told of the page has been read.
    std::erase_if(events_, [&](const nvme::AsyncEvent& event) {
      return event.log_page == static_cast<uint8_t>(page);
    });
    if (page == LogPage::changed_namespaces) changed_namespaces_.clear();
    if (page == LogPage::reservation_notification) reservation_log_was_read();
  }
  return {};
}

CompletionStatus Controller::get_feature(Request& request) {
  const auto which = static_cast<Feature>(request.command.cdw10 & 0xff);
  if (which == Feature::reservation_persistence ||
      which == Feature::reservation_notification_mask) {
    return get_reservation_feature(request);
  }
  const auto select = static_cast<nvme::FeatureSelect>(request.command.cdw10 >> 8 & 7);
  const bool can_be_set = which == Feature::async_event_config ||
                          which == Feature::keep_alive_timer || which == Feature::queue_count ||
                          keeps_feature(which);
  uint32_t value = 0;
  switch (which) {
    case Feature::queue_count: {
      const uint32_t count = target_.options().max_io_queues - 1u;
      value = count << 16 | count;
      break;
    }
    case Feature::async_event_config: value = async_events_enabled_; break;
    case Feature::keep_alive_timer:
      value = static_cast<uint32_t>(keep_alive_ / std::chrono::milliseconds(1));
      break;
    case Feature::volatile_write_cache:
      if (!has_volatile_cache(*namespaces())) return nvme::kInvalidField;
      value = 1;
      break;
    default:
      if (!keeps_feature(which)) return nvme::kInvalidField;
      if (const auto kept = features_.find(static_cast<uint8_t>(which)); kept != features_.end()) {
        value = kept->second;
      }
  }
  if (select == nvme::FeatureSelect::capabilities)
    value = can_be_set ? nvme::kFeatureChangeable : 0;
  request.completion.result = value;
  return {};
}

CompletionStatus Controller::set_feature(Request& request) {
  const auto which = static_cast<Feature>(request.command.cdw10 & 0xff);
  if ((request.command.cdw10 & nvme::kSaveFeature) != 0) return nvme::kFeatureNotSaveable;
  const uint32_t value = request.command.cdw11;
  switch (which) {
    case Feature::queue_count: {
      const uint32_t most = target_.options().max_io_queues - 1u;
      if ((value & 0xffff) == 0xffff || value >> 16 == 0xffff) return nvme::kInvalidField;
      request.completion.result = std::min(value & 0xffff, most) | std::min(value >> 16, most)
                                                                       << 16;
      return {};
    }
    case Feature::async_event_config: async_events_enabled_ = value; return {};
    case Feature::keep_alive_timer: set_keep_alive(std::chrono::milliseconds(value)); return {};
    case Feature::volatile_write_cache: return nvme::kFeatureNotChangeable;
    default:
      if (!keeps_feature(which)) return nvme::kInvalidField;
      features_[static_cast<uint8_t>(which)] = value;
      return {};
  }
}

// Every controller has these; here they change nothing.
bool Controller::keeps_feature(Feature which) const {
  if (subsystem_->is_discovery()) return false;
  switch (which) {
    case Feature::arbitration:
    case Feature::power_management:
    case Feature::temperature_threshold:
    case Feature::error_recovery:
    case Feature::write_atomicity: return true;
    default: return false;
  }
}

}  // namespace basalt::nvmf
