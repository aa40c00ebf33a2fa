// Scrubber: reads the metadata and every file of a mounted file system from the device, in small steps, and
// tells what is damaged.
//
// Both copies of each page of metadata are verified, and a damaged one rewritten from a good one; so are both
// superblocks, which the next checkpoints rewrite.
// Bytes are read past the page cache. What a log holds is verified by its sealed blocks, what a table holds by
// the blocks' checksums where the store keeps them; of other tables only that they can be read is known. Files
// come and go beside it: one that is gone is left out, one made after its directory was listed is left to the
// next pass. A damaged range is narrowed down to 4 KiB.
// A Scrubber is used by one thread at a time.
#pragma once

#include <basalt/file_system.h>

#include "blob/aligned_buffer.h"
#include "blob/blob_store.h"

#include <memory>
#include <set>
#include <string>
#include <vector>

namespace basalt::blobfs {

class Scrubber {
 public:
  Scrubber(FileSystem& files, blob::BlobStore& store);

  // Reads some more, at most kStepBytes. False when everything was read; the report is then complete.
  bool step();
  // Bytes read by the last step: what a rate limit counts.
  uint64_t step_bytes() const { return step_bytes_; }
  const ScrubReport& report() const { return report_; }
  // Lets go of the file at hand; it counts as read.
  void close_file() { file_.reset(); }

  static constexpr size_t kStepBytes = size_t{1} << 20;

 private:
  void verify_metadata();
  void list_directory(const std::string& path);
  void open_file(const std::string& path);
  void read_some();
  void read_in_pieces(size_t length);
  void damaged(uint64_t offset, uint64_t length, const Status& status);

  FileSystem& files_;
  blob::BlobStore& store_;
  const bool tables_have_checksums_;
  bool metadata_done_ = false;
  blob::BlobStore::MetadataPosition metadata_;
  std::vector<std::string> directories_{"/"}, names_;  // still to do
  std::set<uint64_t> seen_;                            // files with several names
  std::string path_;                                   // of `file_`
  std::unique_ptr<File> file_;
  uint64_t offset_ = 0;
  uint64_t step_bytes_ = 0;
  blob::AlignedBuffer buffer_{kStepBytes};
  ScrubReport report_;
};

}  // namespace basalt::blobfs
