#include "blob/space_map.h"

#include "base/try.h"

#include <algorithm>
#include <cstring>

namespace basalt::blob {
namespace {

// How many free runs one search looks at before it takes the longest it has seen.
constexpr unsigned kSearchRuns = 1024;

be64 key_of(uint64_t cluster) { return be64(cluster); }

uint64_t decode_key(std::string_view key) {
  be64 value;
  if (key.size() != sizeof value) return ~uint64_t{0};
  std::memcpy(&value, key.data(), sizeof value);
  return value;
}

uint64_t decode_count(std::string_view text) {
  le64 value;
  if (text.size() != sizeof value) return 0;
  std::memcpy(&value, text.data(), sizeof value);
  return value;
}

}  // namespace

Status SpaceMap::put(Run run) {
  if (run.count == 0) return {};
  const be64 key = key_of(run.first);
  const le64 count = run.count;
  return tree_.put(struct_text(key), struct_text(count));
}

// The run holding `cluster`; count 0 if that cluster is not free.
Result<SpaceMap::Run> SpaceMap::run_covering(uint64_t cluster) {
  const be64 after = key_of(cluster + 1);
  Tree::Cursor cursor(tree_);
  BASALT_TRY(cursor.seek_before(struct_text(after)));
  if (!cursor.valid()) return Run{};
  const Run run{decode_key(cursor.key()), decode_count(cursor.value())};
  return run.end() > cluster ? run : Run{};
}

Result<bool> SpaceMap::all_free(uint64_t first, uint64_t count) {
  BASALT_TRY_ASSIGN(const Run run, run_covering(first));
  return run.count != 0 && count <= run.end() - first;
}

Status SpaceMap::take(uint64_t first, uint64_t count) {
  BASALT_TRY_ASSIGN(const Run run, run_covering(first));
  if (run.count == 0 || run.end() < first + count) {
    return Status(StatusCode::corruption, "clusters " + std::to_string(first) + " … " +
                                              std::to_string(first + count - 1) +
                                              " are to be allocated but not free");
  }
  const be64 key = key_of(run.first);
  if (run.first == first) {
    BASALT_TRY_ASSIGN([[maybe_unused]] const bool was, tree_.erase(struct_text(key)));
  } else {
    BASALT_TRY(put({run.first, first - run.first}));
  }
  BASALT_TRY(put({first + count, run.end() - first - count}));
  free_ -= count;
  return {};
}

Status SpaceMap::give(uint64_t first, uint64_t count) {
  Run merged{first, count};
  BASALT_TRY_ASSIGN(const Run inside, run_covering(first));
  Tree::Cursor cursor(tree_);
  const be64 key = key_of(first);
  BASALT_TRY(cursor.seek(struct_text(key)));
  const Run after = cursor.valid() ? Run{decode_key(cursor.key()), decode_count(cursor.value())}
                                   : Run{~uint64_t{0}, 0};
  if (inside.count != 0 || after.first < first + count) {
    return Status(StatusCode::corruption, "clusters " + std::to_string(first) + " … " +
                                              std::to_string(first + count - 1) +
                                              " are to be freed but already free");
  }
  if (after.first == merged.end()) {
    const be64 after_key = key_of(after.first);
    BASALT_TRY_ASSIGN([[maybe_unused]] const bool was, tree_.erase(struct_text(after_key)));
    merged.count += after.count;
  }
  if (first > 0) {
    BASALT_TRY_ASSIGN(const Run before, run_covering(first - 1));
    if (before.count != 0) merged = {before.first, before.count + merged.count};
  }
  BASALT_TRY(put(merged));
  free_ += count;
  return {};
}

SpaceMap::Run SpaceMap::usable(Run run, uint64_t wanted) const {
  Run best;
  for (uint64_t at = run.first; at < run.end();) {
    if (const uint64_t busy_end = excluded_.end_of_range_at(at)) {
      at = busy_end;
      continue;
    }
    const uint64_t end = std::min(run.end(), excluded_.next_range_after(at));
    if (end - at > best.count) best = {at, end - at};
    if (best.count >= wanted) return best;
    at = end;
  }
  return best;
}

// Next fit from the cursor, once around: first what starts at or after it, then what starts before.
Result<SpaceMap::Run> SpaceMap::search(uint64_t wanted) {
  Run best;
  unsigned visited = 0;
  const uint64_t turning_point = cursor_;
  for (const bool before_cursor : {false, true}) {
    const be64 key = key_of(before_cursor ? 0 : turning_point);
    Tree::Cursor cursor(tree_);
    BASALT_TRY(cursor.seek(struct_text(key)));
    while (cursor.valid()) {
      const Run run{decode_key(cursor.key()), decode_count(cursor.value())};
      if (before_cursor && run.first >= turning_point) break;
      const Run piece = usable(run, wanted);
      if (piece.count > best.count) best = piece;
      if (best.count >= wanted || (++visited >= kSearchRuns && best.count > 0)) return best;
      BASALT_TRY(cursor.next());
    }
  }
  return best;
}

Result<std::vector<Transaction::Reservation>> SpaceMap::reserve(uint64_t count, uint64_t hint,
                                                                uint64_t leave) {
  std::vector<Transaction::Reservation> pieces;
  const uint64_t there = available() - std::min(available(), leave);
  if (there < count) {
    return error(StatusCode::no_space,
                 std::to_string(count) + " clusters wanted, " + std::to_string(there) + " free");
  }
  uint64_t remaining = count;
  const auto claim = [&](Run run) {
    const uint64_t taken = std::min(run.count, remaining);
    excluded_.add(run.first, taken);
    pieces.push_back({run.first, taken});
    remaining -= taken;
    cursor_ = run.first + taken;
  };
  BASALT_TRY_ASSIGN(const Run near, run_covering(hint));
  if (near.count != 0 && excluded_.end_of_range_at(hint) == 0) {
    claim({hint, std::min(near.end(), excluded_.next_range_after(hint)) - hint});
  }
  while (remaining > 0) {
    const auto found = search(remaining);
    if (found && found->count > 0) {
      claim(*found);
      continue;
    }
    for (const auto& piece : pieces) excluded_.remove(piece.first_cluster, piece.count);
    if (!found) return error(found.error());
    return error(StatusCode::no_space, "free space changed while it was searched");
  }
  return pieces;
}

}  // namespace basalt::blob
