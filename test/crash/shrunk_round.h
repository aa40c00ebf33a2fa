// A failing round made smaller: the least part of its histories, of what is found, that still makes it fail.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "crash/round.h"

namespace basalt::crash {

struct ShrunkRound {
  std::vector<History> histories;  // for RoundOptions::histories
  size_t operations_before = 0, operations = 0;
  uint64_t runs = 0;     // of the round
  bool minimal = false;  // no single operation can be left out
  // The operations as lines, under a heading for each history, and what fails with them.
  std::string text;
};

// `histories` are those with which the round failed. The round must repeat exactly.
ShrunkRound shrink_round(const RoundOptions& options, const std::vector<History>& histories,
                         uint64_t max_runs);

// For a failing test's message: the text, or nothing where the round does not repeat exactly or
// BASALT_CRASH_SHRINK says 0.
std::string shrunk_text(const RoundOptions& options, const RoundResult& failed);

}  // namespace basalt::crash
