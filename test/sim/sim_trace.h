// SimTrace: what a run did, as text, a line for each event, to be compared byte for byte with another run's.
//
// A disk that is given one (SimOptions::trace) adds two lines for each command, in the order in which they
// happen: "> 17 write 2048+8 fua crc 1c291ca3" when it is executed, "< 17 ok" when it completes. Sessions and
// rounds of test/crash add each call of the file system with what it returned.
// Thread rules: any thread.
#pragma once

#include <mutex>
#include <string>
#include <string_view>

namespace basalt::sim {

class SimTrace {
 public:
  void add(std::string_view line);
  std::string text() const;

 private:
  // Not base/sync.h's: the trace must not change the order that it records. Nobody waits while holding it.
  mutable std::mutex mutex_;
  std::string text_;
};

// Where two traces part: the line's number and both versions of it; empty if they are the same.
std::string first_difference(std::string_view a, std::string_view b);

}  // namespace basalt::sim
