// See shrunk_round.h.
#include "crash/shrunk_round.h"

#include <algorithm>

#include "base/check.h"
#include "crash/settings.h"
#include "sim/shrink.h"

namespace basalt::crash {
namespace {

// One operation and which history it is of.
struct Step {
  size_t history = 0;
  Operation operation;
};

std::vector<Step> flatten(const std::vector<History>& histories) {
  std::vector<Step> steps;
  for (size_t i = 0; i < histories.size(); ++i) {
    for (const Operation& operation : histories[i]) steps.push_back({i, operation});
  }
  return steps;
}

std::vector<History> unflatten(const std::vector<Step>& steps, size_t count) {
  std::vector<History> histories(count);
  for (const Step& step : steps) histories[step.history].push_back(step.operation);
  return histories;
}

std::string lines_of(const std::vector<History>& histories, unsigned threads) {
  std::string text;
  for (size_t i = 0; i < histories.size(); ++i) {
    if (histories[i].empty()) continue;
    text += "generation " + std::to_string(i / threads);
    if (threads > 1) text += ", thread " + std::to_string(i % threads);
    text += ":\n";
    for (const Operation& operation : histories[i]) text += "  " + to_string(operation) + "\n";
  }
  return text;
}

}  // namespace

ShrunkRound shrink_round(const RoundOptions& options, const std::vector<History>& histories,
                         uint64_t max_runs) {
  BASALT_CHECK(options.repeats_exactly(), "a round that can be run again can be shrunk");
  RoundOptions smaller = options;
  smaller.trace = nullptr;
  std::vector<std::string> problems;
  const auto fails = [&](const std::vector<Step>& steps) {
    const std::vector<History> part = unflatten(steps, histories.size());
    smaller.histories = &part;
    const RoundResult result = run_round(smaller);
    if (!result.ok()) problems = result.problems;
    return !result.ok();
  };
  const std::vector<Step> steps = flatten(histories);
  const sim::Shrunk<Step> shrunk = sim::shrink<Step>(steps, fails, max_runs);
  ShrunkRound round;
  round.histories = unflatten(shrunk.items, histories.size());
  round.operations_before = steps.size();
  round.operations = shrunk.items.size();
  round.runs = shrunk.runs;
  round.minimal = shrunk.minimal;
  round.text = "shrunk from " + std::to_string(steps.size()) + " to " +
               std::to_string(shrunk.items.size()) + " operations in " +
               std::to_string(shrunk.runs) + " runs" +
               (shrunk.minimal ? "" : "; more runs (BASALT_CRASH_SHRINK) might find less") + ":\n" +
               lines_of(round.histories, options.threads);
  for (const std::string& problem : problems) round.text += problem + "\n";
  return round;
}

std::string shrunk_text(const RoundOptions& options, const RoundResult& failed) {
  const uint64_t max_runs = setting("BASALT_CRASH_SHRINK", 500);
  if (max_runs == 0 || !options.repeats_exactly()) return {};
  return shrink_round(options, failed.histories, max_runs).text;
}

}  // namespace basalt::crash
