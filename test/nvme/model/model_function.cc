// See model_function.h.
#include "nvme/model/model_function.h"

#include <mutex>
#include <utility>

#include "base/check.h"

namespace basalt::nvme::model {
namespace {

constexpr uint64_t kPage = 4096;

}  // namespace

ModelFunction::ModelFunction(ControllerModel& model, ModelFunctionOptions options)
    : model_(model), options_(std::move(options)), dma_mode_(options_.dma_mode) {
  BASALT_CHECK(options_.iova_offset % kPage == 0, "device addresses keep offsets within pages");
  model_.set_bus_master(false);
}

ModelFunction::~ModelFunction() {
  for (uint32_t vector = 0; vector < interrupt_count(); ++vector) {
    model_.set_interrupt(static_cast<uint16_t>(vector), -1);
  }
  for (const auto& [iova, bytes] : mapped_) {
    BASALT_CHECK(model_.unmap(iova, bytes).ok(), "what was mapped can be unmapped");
  }
}

Status ModelFunction::check_present() const {
  if (options_.after_removal == AfterRemoval::all_ones || !model_.removed()) return {};
  return {StatusCode::device_removed, options_.name + ": the function is gone"};
}

Result<uint32_t> ModelFunction::read32(uint32_t offset) {
  const uint32_t value = model_.read32(offset);
  const std::lock_guard guard(mutex_);
  ++counters_.register_reads;
  if (Status status = check_present(); !status.ok()) return error(std::move(status));
  return value;
}

Result<uint64_t> ModelFunction::read64(uint32_t offset) {
  const uint64_t value = model_.read64(offset);
  const std::lock_guard guard(mutex_);
  ++counters_.register_reads;
  if (Status status = check_present(); !status.ok()) return error(std::move(status));
  return value;
}

Status ModelFunction::write32(uint32_t offset, uint32_t value) {
  model_.write32(offset, value);
  const std::lock_guard guard(mutex_);
  ++(offset >= kFirstDoorbell ? counters_.doorbell_writes : counters_.register_writes);
  return check_present();
}

Status ModelFunction::write64(uint32_t offset, uint64_t value) {
  model_.write64(offset, value);
  const std::lock_guard guard(mutex_);
  ++counters_.register_writes;
  return check_present();
}

std::span<volatile std::byte> ModelFunction::doorbells() {
  if (!options_.mapped_doorbells) return {};
  return model_.doorbells();
}

Status ModelFunction::check_memory(const DmaMemory& memory) const {
  const auto address = reinterpret_cast<uintptr_t>(memory.bytes.data());
  if (memory.bytes.empty() || address % kPage != 0 || memory.bytes.size() % kPage != 0) {
    return {StatusCode::invalid_argument,
            options_.name + ": memory to be mapped is not whole pages"};
  }
  if (dma_mode_ == DmaMode::files_only && memory.fd < 0) {
    return {StatusCode::unsupported,
            options_.name + ": memory without a file cannot be mapped; use shared memory"};
  }
  if (dma_mode_ == DmaMode::none ||
      memory.bytes.size() > options_.max_mapped_bytes - counters_.mapped_bytes) {
    return {StatusCode::no_space, options_.name + ": no device addresses left; raise the limit"};
  }
  return {};
}

Result<uint64_t> ModelFunction::map_dma(const DmaMemory& memory) {
  const std::lock_guard guard(mutex_);
  if (Status status = check_present(); !status.ok()) return error(std::move(status));
  Status status = check_memory(memory);
  const uint64_t iova = reinterpret_cast<uintptr_t>(memory.bytes.data()) + options_.iova_offset;
  if (status.ok()) status = model_.map(iova, memory.bytes);
  if (!status.ok()) {
    ++counters_.dma_refusals;
    return error(std::move(status));
  }
  mapped_.emplace(iova, memory.bytes.size());
  ++counters_.dma_maps;
  counters_.mapped_bytes += memory.bytes.size();
  return iova;
}

Status ModelFunction::unmap_dma(uint64_t address, size_t bytes) {
  const std::lock_guard guard(mutex_);
  Status status = model_.unmap(address, bytes);  // also when gone: nothing of it may stay reachable
  if (!status.ok()) return status;
  mapped_.erase(address);
  ++counters_.dma_unmaps;
  counters_.mapped_bytes -= bytes;
  return check_present();
}

uint32_t ModelFunction::interrupt_count() const { return model_.options().interrupt_vectors; }

Status ModelFunction::set_interrupts(std::span<const int> event_fds) {
  const std::lock_guard guard(mutex_);
  ++counters_.interrupt_setups;
  if (Status status = check_present(); !status.ok()) return status;
  if (event_fds.size() > interrupt_count()) {
    return {StatusCode::invalid_argument, options_.name + ": " + std::to_string(event_fds.size()) +
                                              " vectors asked for, there are " +
                                              std::to_string(interrupt_count())};
  }
  for (uint32_t vector = 0; vector < interrupt_count(); ++vector) {
    model_.set_interrupt(static_cast<uint16_t>(vector),
                         vector < event_fds.size() ? event_fds[vector] : -1);
  }
  return {};
}

Status ModelFunction::set_bus_master(bool on) {
  const std::lock_guard guard(mutex_);
  ++counters_.bus_master_changes;
  if (Status status = check_present(); !status.ok()) return status;
  model_.set_bus_master(on);
  return {};
}

Status ModelFunction::reset() {
  const std::lock_guard guard(mutex_);
  if (!options_.function_reset) {
    return {StatusCode::unsupported, options_.name + ": no function level reset"};
  }
  ++counters_.resets;
  if (Status status = check_present(); !status.ok()) return status;
  model_.function_reset();
  return {};
}

void ModelFunction::set_dma_mode(DmaMode mode) {
  const std::lock_guard guard(mutex_);
  dma_mode_ = mode;
}

FunctionCounters ModelFunction::counters() const {
  const std::lock_guard guard(mutex_);
  return counters_;
}

ModelThread::ModelThread(ControllerModel& model, Duration idle_sleep)
    : thread_("nvme model", [this, &model, idle_sleep] {
        while (!stop_.load(std::memory_order_relaxed)) {
          if (model.step() != 0) continue;
          if (idle_sleep > Duration::zero()) {
            sleep_for(idle_sleep);
          } else {
            yield_thread();
          }
        }
      }) {}

ModelThread::~ModelThread() {
  stop_.store(true, std::memory_order_relaxed);
  thread_.join();
}

}  // namespace basalt::nvme::model
