// See verify.h.
#include "system/stress/verify.h"

#include <algorithm>
#include <map>
#include <memory>

#include "sim/random.h"
#include "system/stress/report.h"

namespace basalt::stress {
namespace {

[[noreturn]] void lost(Key key, const std::string& expected, Found found, const std::string& how) {
  fail(how + ": " + name_of(key) + ": expected " + expected + ", found " + to_string(found));
}

// The ways a family is read in full; each answers for all of its keys.
std::vector<Found> read_family(const Database& database, const ExpectedState& state,
                               uint32_t family, unsigned way, sim::Random& random) {
  const KeyRange all{.family = family, .first = 0, .count = state.key_count()};
  rocksdb::ReadOptions options;
  options.verify_checksums = random.chance(80);
  options.fill_cache = random.chance(50);
  if (way == 0) return scan(database, options, all, Direction::forward);
  if (way == 1) return scan(database, options, all, Direction::backward);
  std::vector<Found> result;
  const std::vector<Key> keys = all.keys();
  for (size_t i = 0; way == 2 && i < keys.size(); i += 64) {
    const auto some = std::span(keys).subspan(i, std::min<size_t>(64, keys.size() - i));
    for (const Found found : read_keys(database, options, some)) result.push_back(found);
  }
  for (size_t i = 0; way == 3 && i < keys.size(); ++i) {
    result.push_back(read_key(database, options, keys[i]));
  }
  return result;
}

// A scan goes from the first key to the last; here is what lies beyond.
void expect_nothing_outside(const Database& database, const ExpectedState& state, uint32_t family) {
  const std::unique_ptr<rocksdb::Iterator> it(
      database.db().NewIterator({}, database.family(family)));
  it->SeekToFirst();
  if (it->Valid() && it->key().compare(key_text(0)) < 0) {
    fail("family " + std::to_string(family) + " begins with " + it->key().ToString(true));
  }
  it->SeekToLast();
  if (it->Valid() && it->key().compare(key_text(state.key_count() - 1)) > 0) {
    fail("family " + std::to_string(family) + " ends with " + it->key().ToString(true));
  }
  require(it->status(), "iterator at the ends of family " + std::to_string(family));
}

// Scanned always, which finds keys that should not be there as well, and read in one more way.
std::vector<Found> read_family_twice(const Database& database, const ExpectedState& state,
                                     uint32_t family, sim::Random& random) {
  std::vector<Found> found = read_family(database, state, family, 0, random);
  const auto way = static_cast<unsigned>(random.between(1, 3));
  const std::vector<Found> again = read_family(database, state, family, way, random);
  for (uint32_t i = 0; i < found.size(); ++i) {
    if (found[i] == again[i]) continue;
    fail(name_of(Key{.family = family, .index = i}) + ": a scan finds " + to_string(found[i]) +
         ", reading it by way " + std::to_string(way) + " " + to_string(again[i]));
  }
  return found;
}

// The changes that were in flight at the death: for each, a key that shows it landed and one that
// shows it did not. Both at once must not be.
class InFlight {
 public:
  void saw(const Expectation& expected, Key key, Found found) {
    const bool acknowledged = expected.acknowledged == expected.pending;
    // Deleted before and after: nothing to see.
    if (!acknowledged && matches(found, expected.pending) &&
        matches(found, expected.acknowledged)) {
      return;
    }
    auto& change = changes_[expected.pending.change()];
    (matches(found, expected.pending) ? change.landed : change.missing) = key;
  }
  uint64_t check() const {
    uint64_t landed = 0;
    for (const auto& [number, change] : changes_) {
      if (change.landed && change.missing) {
        fail("change " + std::to_string(number) + ", in flight at the death, is half there: " +
             name_of(*change.landed) + " has it, " + name_of(*change.missing) + " does not");
      }
      if (change.landed) ++landed;
    }
    return landed;
  }

 private:
  struct Change {
    std::optional<Key> landed, missing;
  };
  std::map<uint64_t, Change> changes_;
};

}  // namespace

bool matches(Found found, State state) {
  return state.present() ? found == state.change() : !found.has_value();
}

std::string to_string(Found found) {
  return found ? "the value of change " + std::to_string(*found) : "nothing";
}

void check_exact(Key key, State expected, Found found, const std::string& how) {
  if (!matches(found, expected)) lost(key, expected.to_string(), found, how);
}

void check_between(Key key, const Expectation& before, const Expectation& after, Found found,
                   const std::string& how) {
  // An expectation is read pending first. A writer that announced before the second look either shows
  // there as pending or has acknowledged before it was read; so if both looks are the same, no other
  // change can have been seen than the two they name.
  if (before == after) {
    if (!before.is_pending()) return check_exact(key, before.acknowledged, found, how);
    if (matches(found, before.acknowledged) || matches(found, before.pending)) return;
    lost(key, before.acknowledged.to_string() + " or " + before.pending.to_string(), found, how);
  }
  if (!found) return;  // deleted in between, for all that is known
  const uint64_t newest = std::max(after.acknowledged.change(), after.pending.change());
  if (*found >= before.acknowledged.change() && *found <= newest) return;
  lost(key, before.acknowledged.to_string() + " or newer, up to change " + std::to_string(newest),
       found, how);
}

std::vector<Expectation> expectations(const ExpectedState& state, std::span<const Key> keys) {
  std::vector<Expectation> result;
  result.reserve(keys.size());
  for (const Key key : keys) result.push_back(state.expectation(key));
  return result;
}

void check_between(std::span<const Key> keys, std::span<const Expectation> before,
                   std::span<const Expectation> after, std::span<const Found> found,
                   const std::string& how) {
  for (size_t i = 0; i < keys.size(); ++i) {
    check_between(keys[i], before[i], after[i], found[i], how);
  }
}

std::vector<Key> every_key(const ExpectedState& state) {
  std::vector<Key> result;
  for (uint32_t family = 0; family < state.family_count(); ++family) {
    for (uint32_t i = 0; i < state.key_count(); ++i) result.push_back({family, i});
  }
  return result;
}

void verify_every_key(const Database& database, ExpectedState& state, uint64_t seed) {
  sim::Random random(seed);
  InFlight in_flight;
  std::map<Key, Found> pending;
  for (uint32_t family = 0; family < state.family_count(); ++family) {
    expect_nothing_outside(database, state, family);
    const std::vector<Found> found = read_family_twice(database, state, family, random);
    for (uint32_t i = 0; i < found.size(); ++i) {
      const Key key{.family = family, .index = i};
      const Expectation expected = state.expectation(key);
      if (!expected.is_pending()) {
        check_exact(key, expected.acknowledged, found[i], "after opening");
        continue;
      }
      if (!matches(found[i], expected.acknowledged) && !matches(found[i], expected.pending)) {
        lost(key,
             expected.acknowledged.to_string() + " or, in flight at the death, " +
                 expected.pending.to_string(),
             found[i], "after opening");
      }
      in_flight.saw(expected, key, found[i]);
      pending[key] = found[i];
    }
    state.count(Counter::verified_key, found.size());
    state.count(Counter::progress);
  }
  state.count(Counter::landed_in_flight, in_flight.check());
  for (const auto& [key, found] : pending) {
    const Expectation expected = state.expectation(key);
    state.settle(key, matches(found, expected.pending) ? expected.pending : expected.acknowledged);
  }
}

void verify_copy(const Database& copy, ExpectedState& state, std::span<const Expectation> before,
                 std::span<const Expectation> after, const std::string& what) {
  for (uint32_t family = 0; family < state.family_count(); ++family) {
    const KeyRange all{.family = family, .first = 0, .count = state.key_count()};
    const size_t start = size_t{family} * all.count;
    check_between(all.keys(), before.subspan(start, all.count), after.subspan(start, all.count),
                  scan(copy, {}, all, Direction::forward), what);
    state.count(Counter::verified_key, all.count);
    state.count(Counter::progress);
  }
}

}  // namespace basalt::stress
