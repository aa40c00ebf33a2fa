// Claim: the holder's side of DeviceBase's claims.
#include <basalt/device.h>

#include <utility>

namespace basalt {

Claim::Claim(Claim&& other) noexcept
    : device_(std::exchange(other.device_, nullptr)), token_(std::exchange(other.token_, 0)) {}

Claim& Claim::operator=(Claim&& other) noexcept {
  Claim released(std::move(*this));
  std::swap(device_, other.device_);
  std::swap(token_, other.token_);
  return *this;
}

Claim::~Claim() {
  if (device_ != nullptr) device_->release_claim(token_);
}

}  // namespace basalt
