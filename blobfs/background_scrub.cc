#include "blobfs/background_scrub.h"

namespace basalt::blobfs {

BackgroundScrub::BackgroundScrub(Context& context, FileSystem& files, blob::BlobStore& store,
                                 uint64_t bytes_per_second)
    : context_(context), files_(files), store_(store), bytes_per_second_(bytes_per_second) {
  task_.run = [this] { run(); };
}

void BackgroundScrub::stop() {
  context_.executor().cancel(task_);
  if (pass_) pass_->close_file();
}

void BackgroundScrub::run() {
  if (!pass_) pass_.emplace(files_, store_);
  const size_t known = pass_->report().damages.size();
  const bool goes_on = pass_->step();
  bytes_.fetch_add(pass_->step_bytes(), std::memory_order_relaxed);
  const std::vector<ScrubDamage>& damages = pass_->report().damages;
  for (size_t i = known; i < damages.size(); ++i) {
    context_.log().log(LogLevel::error, "blobfs", "scrub: " + to_string(damages[i]));
    damages_.fetch_add(1, std::memory_order_relaxed);
  }
  Duration pause = kPause;
  if (goes_on) {
    pause = std::chrono::microseconds(pass_->step_bytes() * 1'000'000 / bytes_per_second_);
  } else {
    pass_.reset();
  }
  context_.executor().post(task_, pause);
}

}  // namespace basalt::blobfs
