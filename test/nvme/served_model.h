// ServedModel: a ControllerModel as a VfioUserServer serves it. The model stays its owner's, who runs its steps.
// Thread rules: the server's thread.
#pragma once

#include "nvme/model/controller_model.h"
#include "nvme/vfio_user_server.h"

namespace basalt::nvme {

class ServedModel final : public ServedDevice {
 public:
  explicit ServedModel(model::ControllerModel& model) : model_(model) {
    model_.set_bus_master(false);  // as a function starts
  }

  uint64_t bar0_bytes() const override { return kFirstDoorbell + model_.doorbells().size(); }
  uint64_t read_register(uint32_t offset, uint32_t bytes) override {
    return bytes == 8 ? model_.read64(offset) : model_.read32(offset);
  }
  void write_register(uint32_t offset, uint32_t bytes, uint64_t value) override {
    if (bytes == 8) {
      model_.write64(offset, value);
    } else {
      model_.write32(offset, static_cast<uint32_t>(value));
    }
  }
  int doorbell_fd() const override { return model_.doorbell_fd(); }

  Status map(uint64_t iova, std::span<std::byte> memory) override {
    return model_.map(iova, memory);
  }
  Status unmap(uint64_t iova, size_t bytes) override { return model_.unmap(iova, bytes); }

  uint16_t interrupt_count() const override { return model_.options().interrupt_vectors; }
  void set_interrupt(uint16_t vector, int event_fd) override {
    model_.set_interrupt(vector, event_fd);
  }
  void set_bus_master(bool on) override { model_.set_bus_master(on); }
  void reset() override { model_.function_reset(); }

 private:
  model::ControllerModel& model_;
};

}  // namespace basalt::nvme
