// Replaying a shared-memory tail that a killed process left (docs/format/tail.md).
//
// TailImage is a tail read into private memory and checked as foreign bytes: whatever it held, parse()
// yields either a reason to refuse it or entries whose every length and offset lies within bounds. What they
// say is then judged against the store: the store validates transactions, replay_tails() the chunks.
// Pure but for load(); used before the file system is handed out, by one thread.
#pragma once

#include <basalt/status.h>

#include "blobfs/shared_tail.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace basalt::blobfs {

struct KeptTransaction {
  uint64_t ticket = 0;
  std::vector<std::byte> bytes;
};

struct KeptChunk {
  uint64_t file_id = 0;
  uint64_t offset = 0;
  std::span<const std::byte> bytes;  // into the image
};

class TailImage {
 public:
  // Checks a copy of `content`. `wanted` must match in everything but the predecessor.
  static Result<TailImage> parse(std::span<const std::byte> content, const TailBinding& wanted);
  // Reads the file a binding names; not_found when there is none, permission_denied when it is not ours
  // (owner, mode, links, kind), busy when its owner lives.
  static Result<TailImage> load(const std::string& directory, const TailBinding& wanted);

  // Removes the file a binding names, unless its owner lives or it is not ours.
  static void remove_dead(const std::string& directory, const TailBinding& binding);
  // Removes tails of this store and boot that keep nothing and lead to none that is still there, and files that
  // never became tails: of mounts that were killed before they took the store over.
  static void remove_abandoned(const std::string& directory, const TailId& store_uuid,
                               const std::string& boot_id);

  // The tail that has to be replayed before this one.
  const std::optional<TailId>& predecessor() const { return predecessor_; }
  const std::vector<KeptTransaction>& transactions() const { return transactions_; }
  // By file, then offset.
  const std::vector<KeptChunk>& chunks() const { return chunks_; }
  // What was left out because it made no sense.
  const std::vector<std::string>& notes() const { return notes_; }

 private:
  static Result<TailImage> parse(std::shared_ptr<const std::byte[]> content, size_t bytes,
                                 const TailBinding& wanted);
  void read_ring(const TailLayout& layout);
  void read_chunks(const TailLayout& layout, uint32_t version);
  std::shared_ptr<const std::byte[]> memory_;
  std::span<const std::byte> content_;  // in memory_
  std::optional<TailId> predecessor_;
  std::vector<KeptTransaction> transactions_;
  std::vector<KeptChunk> chunks_;
  std::vector<std::string> notes_;
};

}  // namespace basalt::blobfs
