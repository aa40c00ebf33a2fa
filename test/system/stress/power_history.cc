// See power_history.h. Going through the history, the number of keys that differ from what was found is
// kept up to date; a change after which it is zero is an explanation. The last such change is taken:
// changes that leave no trace (a deletion of what was not there) are taken as landed.
#include "system/stress/power_history.h"

#include "system/stress/verify.h"

namespace basalt::stress {

void PowerHistory::add(Key key, bool present) {
  const State state = present ? State::put(last_change_) : State::deleted(last_change_);
  newest_[key.index] = state;
  since_.push_back({.change = last_change_, .index = key.index, .state = state});
}

void PowerHistory::is_durable() {
  durable_ = newest_;
  since_.clear();
}

std::optional<std::string> PowerHistory::settle(std::span<const Found> found) {
  std::vector<State> model = durable_;
  size_t wrong = 0;
  for (size_t i = 0; i < model.size(); ++i) wrong += !matches(found[i], model[i]);
  size_t fewest_wrong = wrong;
  size_t best = 0;  // steps
  for (size_t i = 0; i < since_.size();) {
    const uint64_t change = since_[i].change;
    for (; i < since_.size() && since_[i].change == change; ++i) {
      State& state = model[since_[i].index];
      wrong -= !matches(found[since_[i].index], state);
      state = since_[i].state;
      wrong += !matches(found[since_[i].index], state);
    }
    if (wrong > fewest_wrong) continue;
    fewest_wrong = wrong;
    best = i;
  }

  model = durable_;
  for (size_t i = 0; i < best; ++i) model[since_[i].index] = since_[i].state;
  const uint64_t reached = best == 0 ? 0 : since_[best - 1].change;
  const uint64_t first = since_.empty() ? 0 : since_.front().change;
  if (fewest_wrong > 0) {
    std::string text = "no prefix of the " +
                       std::to_string(since_.empty() ? 0 : last_change_ - first + 1) +
                       " changes since the last durable one explains what is there; nearest: ";
    text += best == 0 ? "none of them" : "up to change " + std::to_string(reached);
    text += ", with " + std::to_string(fewest_wrong) + " keys wrong";
    for (uint32_t i = 0, shown = 0; i < model.size() && shown < 5; ++i) {
      if (matches(found[i], model[i])) continue;
      ++shown;
      text += "\n    key " + key_text(i) + ": expected " + model[i].to_string() +
              " (durable: " + durable_[i].to_string() + ", newest: " + newest_[i].to_string() +
              "), found " + to_string(found[i]);
    }
    return text;
  }
  if (best > 0) landed_ += reached - first + 1;
  if (!since_.empty()) vanished_ += last_change_ - (best == 0 ? first - 1 : reached);
  newest_ = model;
  is_durable();
  return {};
}

}  // namespace basalt::stress
