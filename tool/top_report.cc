// See top_report.h.
#include "tool/top_report.h"

#include <basalt/device.h>

#include <algorithm>
#include <array>
#include <cstdarg>
#include <cstdint>
#include <cstdio>

#include "bdev/latency.h"

namespace basalt::tool {

namespace {

using rpc::Json;

// Anything else than what was expected there is nothing: the daemon may be of another version.
const Json& member(const Json& object, const std::string& name) {
  static const Json nothing;
  const auto found = object.is_object() ? object.find(name) : object.end();
  return object.is_object() && found != object.end() ? *found : nothing;
}

uint64_t number(const Json& object, const std::string& name) {
  const Json& value = member(object, name);
  return value.is_number_unsigned() ? value.get<uint64_t>()
         : value.is_number_integer()
             ? static_cast<uint64_t>(std::max<int64_t>(value.get<int64_t>(), 0))
             : 0;
}

std::string word(const Json& object, const std::string& name) {
  const Json& value = member(object, name);
  if (value.is_string()) return value.get<std::string>();
  return value.is_number() ? value.dump() : "";
}

// More of `name` than there was.
uint64_t more(const Json& before, const Json& after, const std::string& name) {
  const uint64_t old = number(before, name), now = number(after, name);
  return now > old ? now - old : 0;
}

LatencyHistogram histogram(const Json& kind) {
  LatencyHistogram result;
  for (const Json& bucket : member(kind, "latency")) {
    if (!bucket.is_array() || bucket.size() != 2 || !bucket[0].is_number_unsigned() ||
        !bucket[1].is_number_unsigned() || bucket[0] == 0) {
      continue;
    }
    result.add(bucket[0].get<uint64_t>() - 1, bucket[1].get<uint64_t>());
  }
  return result;
}

std::string format(const char* pattern, ...) __attribute__((format(printf, 1, 2)));
std::string format(const char* pattern, ...) {
  std::array<char, 512> text{};
  va_list arguments;
  va_start(arguments, pattern);
  std::vsnprintf(text.data(), text.size(), pattern, arguments);
  va_end(arguments);
  return text.data();
}

constexpr int kNameWidth = 44;

// The name cut to its column; the end of a long one tells more than its beginning.
std::string column(const std::string& name) {
  if (name.size() <= kNameWidth) return name + std::string(kNameWidth - name.size(), ' ');
  return "..." + name.substr(name.size() - (kNameWidth - 3));
}

std::string heading(const char* what) {
  return format("%s %10s %10s %9s %9s %9s %9s %9s %6s %7s", column(what).c_str(), "read/s",
                "write/s", "rd MB/s", "wr MB/s", "mean us", "p50 us", "p99 us", "depth", "errors");
}

// One thing's row. Latencies are those of reads and writes together.
std::string row(const std::string& name, const Json& before, const Json& after, double seconds) {
  std::array<double, 2> rate{}, megabytes{};
  LatencyHistogram latency;
  uint64_t operations = 0, ticks = 0, errors = more(before, after, "errors");
  size_t place = 0;
  for (const char* kind : {"read", "write"}) {
    const Json &old = member(before, kind), &now = member(after, kind);
    const uint64_t count = more(old, now, "operations");
    rate[place] = static_cast<double>(count) / seconds;
    megabytes[place++] = static_cast<double>(more(old, now, "bytes")) / seconds / 1e6;
    operations += count;
    ticks += more(old, now, "latency_ticks");
    errors += more(old, now, "errors");
    const LatencyHistogram was = histogram(old), is = histogram(now);
    for (size_t i = 0; i < is.buckets.size(); ++i) {
      latency.buckets[i] += is.buckets[i] - std::min(is.buckets[i], was.buckets[i]);
    }
  }
  errors += more(member(before, "other"), member(after, "other"), "errors");
  const auto microseconds = [&](double nanoseconds) {
    return operations == 0 ? std::string("-") : format("%.1f", nanoseconds / 1e3);
  };
  const auto percentile = [&](double fraction) {
    return microseconds(static_cast<double>(latency.percentile(fraction)));
  };
  const double mean =
      operations == 0 ? 0 : static_cast<double>(ticks) / static_cast<double>(operations);
  return format("%s %10.0f %10.0f %9.1f %9.1f %9s %9s %9s %6llu %7llu", column(name).c_str(),
                rate[0], rate[1], megabytes[0], megabytes[1], microseconds(mean).c_str(),
                percentile(0.5).c_str(), percentile(0.99).c_str(),
                static_cast<unsigned long long>(number(after, "queue_depth")),
                static_cast<unsigned long long>(errors));
}

// Rows of a list's entries, each beside the one before that had the same names.
void add_rows(std::vector<std::string>& lines, const char* list, const char* what,
              const std::vector<const char*>& keys, const Json& before, const Json& after,
              double seconds) {
  const auto name_of = [&](const Json& entry) {
    std::string name;
    for (const char* key : keys) {
      const std::string part = word(entry, key);
      // Hosts that have gone or were too many to be named.
      name += (name.empty() ? "" : " ") + (part.empty() ? std::string("(others)") : part);
    }
    return name;
  };
  if (member(after, list).empty()) return;
  lines.insert(lines.end(), {"", heading(what)});
  for (const Json& entry : member(after, list)) {
    const std::string name = name_of(entry);
    Json old;
    for (const Json& candidate : member(before, list)) {
      if (name_of(candidate) == name) old = candidate;
    }
    lines.push_back(row(name, old, entry, seconds));
  }
}

}  // namespace

std::vector<std::string> top_report(const Json& before, const Json& after) {
  const double ticks = static_cast<double>(std::max<uint64_t>(more(before, after, "ticks"), 1));
  const double seconds = ticks / 1e9;
  std::vector<std::string> lines;
  lines.push_back(format("%s, %llu connections, %.1f s", word(after, "version").c_str(),
                         static_cast<unsigned long long>(number(after, "connections")), seconds));
  lines.push_back("");
  lines.push_back(format("%s %10s %10s %10s %10s %10s", column("REACTOR").c_str(), "busy %",
                         "looking %", "asleep %", "queues", "commands/s"));
  for (const Json& loop : member(after, "reactors")) {
    Json old;
    for (const Json& candidate : member(before, "reactors")) {
      if (word(candidate, "name") == word(loop, "name")) old = candidate;
    }
    const auto percent = [&](const char* state) {
      return 100 * static_cast<double>(more(old, loop, state)) / ticks;
    };
    lines.push_back(format("%s %10.1f %10.1f %10.1f %10llu %10.0f",
                           column(word(loop, "name")).c_str(), percent("busy"), percent("looking"),
                           percent("asleep"),
                           static_cast<unsigned long long>(number(loop, "io_qpairs")),
                           static_cast<double>(more(old, loop, "io_commands")) / seconds));
  }
  add_rows(lines, "devices", "DEVICE", {"name"}, before, after, seconds);
  add_rows(lines, "namespaces", "NAMESPACE", {"nqn", "nsid", "bdev_name"}, before, after, seconds);
  add_rows(lines, "hosts", "HOST", {"nqn", "host"}, before, after, seconds);
  return lines;
}

}  // namespace basalt::tool
