// basalt://<device URI>?<keys>: the URI that RocksDB's tools and options carry.
//
// The text after "basalt://" is a device URI (bdev/uri.h). The keys below belong to the store and
// are taken off its outermost level; every other key is the device's own. docs/guide/rocksdb.md
// lists them.
#pragma once

#include <basalt/file_system.h>

#include <optional>
#include <string>
#include <string_view>

#include "bdev/uri.h"

namespace basalt::rocksdb_env {

inline constexpr std::string_view kUriPrefix = "basalt://";

struct StoreUri {
  Uri device;                            // without the keys below
  bool create = false;                   // create, create=
  std::optional<uint64_t> create_bytes;  // of a file that is not there yet; with create
  bool force = false;                    // force=
  bool checksums = false;                // checksums=, with create=
  // What was said about the mount; nothing takes the default, or what an earlier mount has.
  std::optional<bool> read_only;                  // readonly=
  std::optional<uint64_t> cache_bytes;            // cache=
  std::optional<uint64_t> metadata_cache_bytes;   // metadata_cache=
  std::optional<uint64_t> tail_bytes;             // tail=
  std::optional<uint64_t> atomic_write_bytes;     // atomic=
  std::optional<MountOptions::FlushTo> flush_to;  // flush=
  std::optional<bool> discard;                    // discard=
  std::optional<uint64_t> discard_rate;           // discard_rate=
  std::optional<uint64_t> scrub_rate;             // scrub_rate=

  // Names the device; equal for URIs that are to share one mount.
  std::string device_text() const { return device.to_string(); }
  MountOptions mount_options() const;
  // invalid_argument, naming the key, if this URI asks for another value than `mounted` has.
  Status check_shares(const MountOptions& mounted) const;
};

// `text` with or without "basalt://".
Result<StoreUri> parse_store_uri(std::string_view text);

// "create, force, …": the keys above, for messages.
std::string store_uri_keys();

}  // namespace basalt::rocksdb_env
