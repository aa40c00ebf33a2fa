// Get Log Page, and the error log behind it.
//
// NVMe base 2.0 §5.16. Pages end with zeros where the host asks for more than there is; an offset
// behind the end is an invalid field. Reading a page (without "retain") lets events that pointed at it
// be reported again.
#include <algorithm>
#include <cstring>

#include "nvme/model/controller_model.h"
#include "nvme/model/io_opcodes.h"

namespace basalt::nvme::model {
namespace {

constexpr size_t kMaxLogBytes = 4096;

template <typename T>
size_t put(std::span<std::byte> page, const T& log) {
  std::memcpy(page.data(), &log, sizeof log);
  return sizeof log;
}

le128 number(uint64_t value) { return {le64(value), le64(0)}; }

bool is_admin_command(uint8_t opcode, const ModelOptions& options) {
  switch (static_cast<AdminOpcode>(opcode)) {
    case AdminOpcode::delete_submission_queue:
    case AdminOpcode::create_submission_queue:
    case AdminOpcode::get_log_page:
    case AdminOpcode::delete_completion_queue:
    case AdminOpcode::create_completion_queue:
    case AdminOpcode::identify:
    case AdminOpcode::abort:
    case AdminOpcode::set_features:
    case AdminOpcode::get_features:
    case AdminOpcode::async_event_request:
    case AdminOpcode::keep_alive: return true;
    case AdminOpcode::doorbell_buffer_config:
      return options.shadow_doorbells != ShadowDoorbells::absent;
    case AdminOpcode::format_nvm: return options.format;
    default: return false;
  }
}

CommandsSupportedLog commands_supported(const ModelOptions& options) {
  CommandsSupportedLog log{};
  for (unsigned opcode = 0; opcode < 256; ++opcode) {
    const auto id = static_cast<uint8_t>(opcode);
    if (is_admin_command(id, options)) log.admin[opcode] = kCommandSupported;
    if (!is_io_command(id, options)) continue;
    log.io[opcode] = kCommandSupported | (changes_blocks(id) ? kCommandChangesBlocks : 0);
  }
  return log;
}

}  // namespace

Outcome ControllerModel::get_log_page(const Command& command) {
  const auto id = static_cast<uint8_t>(command.cdw10 & 0xff);
  const uint64_t dwords = (uint64_t{command.cdw11 & 0xffffu} << 16 | command.cdw10 >> 16) + 1;
  const uint64_t offset = uint64_t{command.cdw13} << 32 | command.cdw12;
  if (dwords * 4 > kMaxLogBytes * 4) return {.status = kInvalidField};
  if (offset % 4 != 0) return {.status = kInvalidField};

  std::array<std::byte, kMaxLogBytes * 5> page{};  // with zeros behind the longest log
  const size_t size = fill_log_page(id, std::span(page).first(kMaxLogBytes));
  if (size == 0) return {.status = kInvalidLogPage};
  if (offset > size) return {.status = kInvalidField};
  damage(Faults::Occasion::log_page, id, std::span(page).first(size));
  const CompletionStatus status = send(command, std::span(page).subspan(offset, dwords * 4));
  if (!status.ok()) return {.status = status};

  if ((command.cdw10 & kRetainAsyncEvent) == 0) {
    for (auto& log : masked_by_) {
      if (log == id) log.reset();
    }
    if (id == static_cast<uint8_t>(LogPage::changed_namespaces)) changed_namespaces_.clear();
  }
  return {};
}

// How many bytes the log has; 0: no such page.
size_t ControllerModel::fill_log_page(uint8_t id, std::span<std::byte> page) {
  switch (static_cast<LogPage>(id)) {
    case LogPage::error_information: {
      // The newest first.
      const uint64_t entries = std::min<uint64_t>(error_count_, kErrorEntries);
      for (uint64_t i = 0; i < entries; ++i) {
        put(page.subspan(i * sizeof(ErrorLogEntry)),
            errors_[(error_count_ - 1 - i) % kErrorEntries]);
      }
      return kErrorEntries * sizeof(ErrorLogEntry);
    }
    case LogPage::health: {
      HealthLog log{};
      log.temperature = 300;
      log.spare = 100;
      log.spare_threshold = 10;
      log.host_reads = number(counters_.reads);
      log.host_writes = number(counters_.writes);
      log.power_cycles = number(power_cycles_);
      log.unsafe_shutdowns = number(unsafe_shutdowns_);
      log.media_errors = number(media_errors_);
      log.error_entries = number(error_count_);
      return put(page, log);
    }
    case LogPage::firmware_slots: {
      FirmwareLog log{};
      log.active = 1;
      std::memset(log.revisions[0], ' ', sizeof log.revisions[0]);
      std::memcpy(log.revisions[0], options_.firmware.data(),
                  std::min(sizeof log.revisions[0], options_.firmware.size()));
      return put(page, log);
    }
    case LogPage::changed_namespaces: {
      ChangedNamespacesLog log{};
      constexpr size_t kMost = std::size(log.nsids);
      if (changed_namespaces_.size() > kMost) {
        log.nsids[0] = kAllNamespaces;
      } else {
        std::copy(changed_namespaces_.begin(), changed_namespaces_.end(), log.nsids);
      }
      return put(page, log);
    }
    case LogPage::commands_supported: return put(page, commands_supported(options_));
    default: return 0;
  }
}

void ControllerModel::note_error(uint16_t sq_id, const Command& command, CompletionStatus status) {
  ErrorLogEntry& entry = errors_[error_count_++ % kErrorEntries];
  entry = {};
  entry.count = error_count_;
  entry.sq_id = sq_id;
  entry.cid = command.cid;
  entry.status_and_phase = static_cast<uint16_t>(status.field() << 1);
  entry.location = 0xffff;  // not in one field of the command
  if (sq_id != 0) entry.lba = uint64_t{command.cdw11} << 32 | command.cdw10;
  entry.nsid = command.nsid;
}

}  // namespace basalt::nvme::model
