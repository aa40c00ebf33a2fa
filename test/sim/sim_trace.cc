// See sim_trace.h.
#include "sim/sim_trace.h"

#include <algorithm>

namespace basalt::sim {
namespace {

// The line around position `at`, or what stands for it behind the end.
std::string line_at(std::string_view text, size_t at) {
  if (at >= text.size()) return "(end)";
  const size_t before = at == 0 ? std::string_view::npos : text.rfind('\n', at - 1);
  const size_t begin = before == std::string_view::npos ? 0 : before + 1;
  return std::string(text.substr(begin, text.find('\n', at) - begin));
}

}  // namespace

void SimTrace::add(std::string_view line) {
  const std::lock_guard lock(mutex_);
  text_.append(line).push_back('\n');
}

std::string SimTrace::text() const {
  const std::lock_guard lock(mutex_);
  return text_;
}

std::string first_difference(std::string_view a, std::string_view b) {
  if (a == b) return {};
  const size_t shorter = std::min(a.size(), b.size());
  const auto end = a.begin() + static_cast<std::ptrdiff_t>(shorter);
  const auto parting = std::mismatch(a.begin(), end, b.begin()).first;
  const auto at = static_cast<size_t>(parting - a.begin());
  return "line " + std::to_string(1 + std::count(a.begin(), parting, '\n')) + ": \"" +
         line_at(a, at) + "\" against \"" + line_at(b, at) + "\"";
}

}  // namespace basalt::sim
