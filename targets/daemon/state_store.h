// StateStore: what a daemon remembers through power loss: values by keys, in a blob store of its own.
//
// DIR/state, a file with Basalt's store in it, of which the catalog alone is used: it is journaled, checksummed and kept
// twice (docs/format/state.md). A value changes as one: what does not fit a catalog entry is written in pieces beside those there
// were, and the transaction that puts its head in place makes it the value. Pieces no head names, left by a process that
// died between, are swept when it is opened.
//
// It has a Context of its own: who waits for it on another's executor does not keep it from getting on.
//
// Threads: any; one change at a time. A change is durable when it returns. After a failed write the store takes no more, and
// every change fails with that error.
#pragma once

#include <basalt/context.h>
#include <basalt/device.h>
#include <basalt/status.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/sync.h"
#include "blob/blob_store.h"

namespace basalt {

class StateStore {
 public:
  static constexpr size_t kMaxKeyBytes = 280;
  static constexpr size_t kMaxValueBytes = size_t{4} << 20;

  // `directory`/state, which is made, with mode 0600, if it is not there; the directory is. `log`: null for the Context's own.
  // Errors: busy (another process has it), invalid_argument (it is something else), not_found, permission_denied, the device's,
  // the blob store's.
  static Result<std::unique_ptr<StateStore>> open(const std::string& directory,
                                                  LogSink* log = nullptr);
  // On any device: an empty one, whatever it holds; and one that make() has made.
  static Status make(Context& context, Device& device);
  static Result<std::unique_ptr<StateStore>> open(std::unique_ptr<Context> context,
                                                  std::unique_ptr<Device> device);
  ~StateStore();
  StateStore(const StateStore&) = delete;

  // Errors: not_found; corruption; the device's.
  Result<std::string> get(std::string_view key);
  // Errors: too_large; the store's.
  Status put(std::string_view key, std::string_view value);
  // What is not there is not an error.
  Status erase(std::string_view key);
  // For messages.
  const std::string& name() const { return name_; }

 private:
  struct Head {
    uint64_t version = 0;  // of its pieces
    uint32_t pieces = 0;   // 0: the value is in the head
  };
  StateStore(std::unique_ptr<Context> context, std::unique_ptr<Device> device);
  Status recover();
  Status sweep();
  // What is there, or nothing.
  Result<std::optional<Head>> head_of(std::string_view key);
  Status write_pieces(std::string_view key, uint64_t version, std::string_view value);
  Status erase_pieces(std::string_view key, const Head& head);

  const std::unique_ptr<Context> context_;
  const std::unique_ptr<Device> device_;
  const std::string name_;
  Claim claim_;
  Mutex mutex_;  // one call at a time
  std::unique_ptr<blob::BlobStore> store_;
  uint64_t next_version_ = 1;  // no piece has it, nor a later one
};

}  // namespace basalt
