// See fence.h.
#include "targets/nvmf/fence.h"

namespace basalt::nvmf {

Fence::Fence(Reactor& reactor, std::function<void(bool)> done)
    : reactor_(reactor), done_(std::move(done)) {
  timer_.expired = [this] { end(false); };
}

Fence::Pass Fence::raise(Duration patience) {
  self_ = shared_from_this();
  reactor_.set(timer_, patience);
  return Pass(self_);
}

void Fence::gave_back() {
  // Pairs with the others': what the last one saw has happened.
  if (out_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  reactor_.post([self = shared_from_this()] { self->end(true); });
}

void Fence::end(bool in_time) {
  if (done_ == nullptr) return;
  reactor_.cancel(timer_);
  const std::shared_ptr<Fence> last = std::move(self_);
  std::exchange(done_, nullptr)(in_time);
}

}  // namespace basalt::nvmf
