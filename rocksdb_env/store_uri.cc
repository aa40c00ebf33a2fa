// Keys are read with UriOptions, which words the complaints, and then taken off the Uri.
#include "rocksdb_env/store_uri.h"

#include <array>
#include <limits>

#include "base/try.h"

namespace basalt::rocksdb_env {
namespace {

constexpr std::array<std::string_view, 12> kKeys = {
    "create", "force",  "checksums", "readonly", "cache",        "metadata_cache",
    "tail",   "atomic", "flush",     "discard",  "discard_rate", "scrub_rate"};

Result<std::optional<bool>> take_optional_bool(UriOptions& options, const Uri& uri,
                                               std::string_view key) {
  BASALT_TRY_ASSIGN(const bool value, options.take_bool(key, false));
  return uri.find(key) == nullptr ? std::optional<bool>() : std::optional<bool>(value);
}

Status check_values(const StoreUri& store, const UriOptions& options) {
  if (store.create && store.read_only.value_or(false)) {
    return options.complain("create", "a store cannot be created for reading only; drop readonly=1")
        .value();
  }
  if (store.force && !store.create) {
    return options.complain("force", "it only says how create= works, and there is no create=")
        .value();
  }
  if (store.checksums && !store.create) {
    return options.complain("checksums", "it only says how create= works, and there is no create=")
        .value();
  }
  if (store.atomic_write_bytes.value_or(0) > std::numeric_limits<uint32_t>::max()) {
    return options.complain("atomic", "no device writes 4 GiB at once").value();
  }
  return {};
}

template <typename T>
Status check_one(std::string_view key, const std::optional<T>& asked, const T& mounted) {
  if (!asked || *asked == mounted) return {};
  return Status(StatusCode::invalid_argument,
                "the device is mounted in this process with another " + std::string(key) +
                    "=; leave the key out to share that mount, or close it first");
}

}  // namespace

MountOptions StoreUri::mount_options() const {
  MountOptions options;
  if (read_only.value_or(false)) options.mode = OpenMode::read_only;
  options.cache_bytes = cache_bytes.value_or(options.cache_bytes);
  options.metadata_cache_bytes = metadata_cache_bytes.value_or(options.metadata_cache_bytes);
  options.tail_bytes = tail_bytes.value_or(options.tail_bytes);
  options.atomic_write_bytes = static_cast<uint32_t>(atomic_write_bytes.value_or(0));
  options.flush_to = flush_to.value_or(options.flush_to);
  options.discard = discard.value_or(options.discard);
  options.scrub_bytes_per_second = scrub_rate.value_or(options.scrub_bytes_per_second);
  options.discard_bytes_per_second = discard_rate.value_or(options.discard_bytes_per_second);
  return options;
}

Status StoreUri::check_shares(const MountOptions& mounted) const {
  BASALT_TRY(check_one("readonly", read_only, mounted.mode == OpenMode::read_only));
  BASALT_TRY(check_one("cache", cache_bytes, mounted.cache_bytes));
  BASALT_TRY(check_one("metadata_cache", metadata_cache_bytes, mounted.metadata_cache_bytes));
  BASALT_TRY(check_one("tail", tail_bytes, mounted.tail_bytes));
  BASALT_TRY(check_one("atomic", atomic_write_bytes, uint64_t{mounted.atomic_write_bytes}));
  BASALT_TRY(check_one("flush", flush_to, mounted.flush_to));
  BASALT_TRY(check_one("discard", discard, mounted.discard));
  BASALT_TRY(check_one("discard_rate", discard_rate, mounted.discard_bytes_per_second));
  return check_one("scrub_rate", scrub_rate, mounted.scrub_bytes_per_second);
}

Result<StoreUri> parse_store_uri(std::string_view text) {
  if (text.starts_with(kUriPrefix)) text.remove_prefix(kUriPrefix.size());
  BASALT_TRY_ASSIGN(const Uri uri, parse_uri(text));
  UriOptions options(uri);
  StoreUri store;
  const std::string* create = uri.find("create");
  store.create = create != nullptr;
  if (store.create && !create->empty()) {
    BASALT_TRY_ASSIGN(store.create_bytes, options.take_size("create"));
  }
  BASALT_TRY_ASSIGN(store.force, options.take_bool("force", false));
  BASALT_TRY_ASSIGN(store.checksums, options.take_bool("checksums", false));
  BASALT_TRY_ASSIGN(store.read_only, take_optional_bool(options, uri, "readonly"));
  BASALT_TRY_ASSIGN(store.cache_bytes, options.take_size("cache"));
  BASALT_TRY_ASSIGN(store.metadata_cache_bytes, options.take_size("metadata_cache"));
  BASALT_TRY_ASSIGN(store.tail_bytes, options.take_size("tail"));
  BASALT_TRY_ASSIGN(store.atomic_write_bytes, options.take_size("atomic"));
  BASALT_TRY_ASSIGN(const size_t flush, options.take_choice("flush", {"memory", "device"}, 0));
  if (uri.find("flush") != nullptr) {
    store.flush_to =
        flush == 1 ? MountOptions::FlushTo::device : MountOptions::FlushTo::shared_memory;
  }
  BASALT_TRY_ASSIGN(store.discard, take_optional_bool(options, uri, "discard"));
  BASALT_TRY_ASSIGN(store.discard_rate, options.take_size("discard_rate"));
  BASALT_TRY_ASSIGN(store.scrub_rate, options.take_size("scrub_rate"));
  BASALT_TRY(check_values(store, options));
  store.device = uri;
  for (std::string_view key : kKeys) store.device.take(key);
  return store;
}

std::string store_uri_keys() {
  std::string keys;
  for (std::string_view key : kKeys) keys.append(keys.empty() ? "" : ", ").append(key);
  return keys;
}

}  // namespace basalt::rocksdb_env
