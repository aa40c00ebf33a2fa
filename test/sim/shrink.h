// shrink(): a list that makes something fail, made smaller as long as it still does.
//
// Delta debugging in its plainest form: pieces are left out, halves first, then ever smaller ones, down to
// single items; what fails without a piece goes on without it. If the runs suffice, no single item of the
// result can be left out. `fails` is called once per run and must answer the same for the same list.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

namespace basalt::sim {

template <typename Item>
struct Shrunk {
  std::vector<Item> items;
  uint64_t runs = 0;
  bool minimal = false;  // no single item can be left out; else the runs were used up
};

template <typename Item>
Shrunk<Item> shrink(std::vector<Item> failing,
                    const std::function<bool(const std::vector<Item>&)>& fails, uint64_t max_runs) {
  Shrunk<Item> best{std::move(failing)};
  for (size_t piece = std::max<size_t>(best.items.size(), 1);;) {
    bool smaller = false;
    // From the back: what comes after the failure goes first.
    for (size_t end = best.items.size(); end > 0;) {
      if (best.runs == max_runs) return best;
      const size_t begin = end - std::min(piece, end);
      std::vector<Item> rest(best.items.begin(),
                             best.items.begin() + static_cast<std::ptrdiff_t>(begin));
      rest.insert(rest.end(), best.items.begin() + static_cast<std::ptrdiff_t>(end),
                  best.items.end());
      ++best.runs;
      if (fails(rest)) {
        best.items = std::move(rest);
        smaller = true;
      }
      end = begin;
    }
    if (piece > 1) {
      piece /= 2;
    } else if (!smaller) {
      best.minimal = true;
      return best;
    }
  }
}

}  // namespace basalt::sim
