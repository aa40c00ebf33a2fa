// BackgroundScrub: scrubs a mounted file system again and again, slowly, in the context's executor.
//
// One step at a time, spaced so that the rate is kept; a pass begins kPause after the last one ended. Damage is
// logged as an error, once a pass, and counted.
// Threads: stop() and the counters from any.
#pragma once

#include "blobfs/scrubber.h"

#include <atomic>
#include <optional>

namespace basalt::blobfs {

class BackgroundScrub {
 public:
  static constexpr Duration kPause = std::chrono::hours(24);

  // `bytes_per_second` is above 0. The first step comes with start().
  BackgroundScrub(Context& context, FileSystem& files, blob::BlobStore& store,
                  uint64_t bytes_per_second);
  ~BackgroundScrub() { stop(); }
  void start() { context_.executor().post(task_); }
  // Holds no file and does nothing until the next start(), which goes on with the next file.
  void stop();

  uint64_t bytes() const { return bytes_.load(std::memory_order_relaxed); }
  uint64_t damages() const { return damages_.load(std::memory_order_relaxed); }

 private:
  void run();

  Context& context_;
  FileSystem& files_;
  blob::BlobStore& store_;
  const uint64_t bytes_per_second_;
  BackgroundTask task_;
  std::optional<Scrubber> pass_;  // the task's
  std::atomic<uint64_t> bytes_{0}, damages_{0};
};

}  // namespace basalt::blobfs
