// Goal: whatever was kept, reservations are refused in words or are what they would be kept as again.
#include <cstdint>
#include <cstdlib>

#include "targets/nvmf/reservation_state.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using basalt::nvmf::ReservationState;
  const auto state =
      ReservationState::decode(std::string_view(reinterpret_cast<const char*>(data), size));
  if (!state) {
    if (state.error().message().empty()) std::abort();
    return 0;
  }
  const auto again = ReservationState::decode(state->encode());
  if (!again || *again != *state) std::abort();
  return 0;
}
