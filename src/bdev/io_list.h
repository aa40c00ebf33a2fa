// IoList: a first-in first-out list of Ios, linked through Io::next; allocates nothing, owns
// nothing.
#pragma once

#include <basalt/device.h>

namespace basalt {

class IoList {
 public:
  bool empty() const noexcept { return head_ == nullptr; }
  // Only of a list that is not empty.
  Io* back() const noexcept { return tail_; }

  void push_back(Io& io) noexcept {
    io.next = nullptr;
    *(head_ == nullptr ? &head_ : &tail_->next) = &io;
    tail_ = &io;
  }
  void push_front(Io& io) noexcept {
    io.next = head_;
    if (head_ == nullptr) tail_ = &io;
    head_ = &io;
  }
  // Null when empty.
  Io* pop_front() noexcept {
    Io* io = head_;
    if (io != nullptr) head_ = io->next;
    return io;
  }
  // These two walk the list: for cancel, not for the data path.
  bool contains(const Io& io) const noexcept {
    const Io* at = head_;
    while (at != nullptr && at != &io) at = at->next;
    return at != nullptr;
  }
  // False when `io` is not in the list.
  bool remove(Io& io) noexcept {
    Io* before = nullptr;
    for (Io* at = head_; at != nullptr; before = at, at = at->next) {
      if (at != &io) continue;
      (before == nullptr ? head_ : before->next) = io.next;
      if (tail_ == &io) tail_ = before;
      return true;
    }
    return false;
  }

 private:
  Io* head_ = nullptr;
  Io* tail_ = nullptr;  // meaningful only when head_ is not null
};

}  // namespace basalt
