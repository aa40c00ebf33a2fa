// What a read may have found, given what is expected; the rest ends the process with a report.
//
// - Nobody writes, nothing is pending: exactly the acknowledged state.
// - Others write beside the read: a key whose expectation was the same before and after, and never
//   pending, as above; any other no older than what was acknowledged before, and no newer than what was
//   announced after.
// - After a death: the acknowledged or the pending state, and all keys of one change agree.
#pragma once

#include <span>
#include <string>

#include "system/stress/expected_state.h"
#include "system/stress/reads.h"

namespace basalt::stress {

bool matches(Found found, State state);
// "the value of change 17", "nothing".
std::string to_string(Found found);

void check_exact(Key key, State expected, Found found, const std::string& how);
void check_between(Key key, const Expectation& before, const Expectation& after, Found found,
                   const std::string& how);

// Expectations of keys, to be taken before and after a read.
std::vector<Expectation> expectations(const ExpectedState& state, std::span<const Key> keys);
void check_between(std::span<const Key> keys, std::span<const Expectation> before,
                   std::span<const Expectation> after, std::span<const Found> found,
                   const std::string& how);

// Every key of the key space, by several ways of reading, which must agree. Nobody writes; what was
// pending is settled as it is found.
void verify_every_key(const Database& database, ExpectedState& state, uint64_t seed);

// Every key of the key space in a copy (a checkpoint, a restored backup) that was made between the two.
void verify_copy(const Database& copy, ExpectedState& state, std::span<const Expectation> before,
                 std::span<const Expectation> after, const std::string& what);
// Every key, family by family.
std::vector<Key> every_key(const ExpectedState& state);

}  // namespace basalt::stress
