// See reads.h.
#include "system/stress/reads.h"

#include "system/stress/report.h"

namespace basalt::stress {
namespace {

std::string preview(const rocksdb::Slice& value) {
  return rocksdb::Slice(value.data(), std::min<size_t>(value.size(), 40)).ToString(true) + " (" +
         std::to_string(value.size()) + " B)";
}

Found found(Key key, const rocksdb::Status& status, const rocksdb::Slice& value, const char* how) {
  if (status.IsNotFound()) return {};
  require(status, std::string(how) + " " + name_of(key));
  const std::optional<uint64_t> change = change_of(key, {value.data(), value.size()});
  if (!change) fail(std::string(how) + " " + name_of(key) + ": no change wrote " + preview(value));
  return change;
}

}  // namespace

std::vector<Key> KeyRange::keys() const {
  std::vector<Key> result;
  for (uint32_t i = 0; i < count; ++i) result.push_back({.family = family, .index = first + i});
  return result;
}

Found read_key(const Database& database, const rocksdb::ReadOptions& options, Key key) {
  rocksdb::PinnableSlice value;
  const rocksdb::Status status =
      database.db().Get(options, database.family(key.family), key_text(key.index), &value);
  return found(key, status, value, "Get");
}

std::vector<Found> read_keys(const Database& database, const rocksdb::ReadOptions& options,
                             std::span<const Key> keys) {
  std::vector<std::string> texts;
  for (const Key key : keys) texts.push_back(key_text(key.index));
  const std::vector<rocksdb::Slice> slices(texts.begin(), texts.end());
  std::vector<rocksdb::PinnableSlice> values(keys.size());
  std::vector<rocksdb::Status> statuses(keys.size());
  database.db().MultiGet(options, database.family(keys.front().family), keys.size(), slices.data(),
                         values.data(), statuses.data());
  std::vector<Found> result;
  for (size_t i = 0; i < keys.size(); ++i) {
    result.push_back(found(keys[i], statuses[i], values[i], "MultiGet"));
  }
  return result;
}

std::vector<Found> scan(const Database& database, const rocksdb::ReadOptions& options,
                        const KeyRange& range, Direction direction) {
  const std::unique_ptr<rocksdb::Iterator> it(
      database.db().NewIterator(options, database.family(range.family)));
  return collect(*it, range, direction);
}

std::vector<Found> collect(rocksdb::Iterator& it, const KeyRange& range, Direction direction) {
  std::vector<Found> result(range.count);
  const bool forward = direction == Direction::forward;
  const std::string how = forward ? "iterator" : "iterator backwards";
  const std::string first = key_text(range.first);
  const std::string last = key_text(range.first + range.count - 1);
  std::optional<uint32_t> previous;
  for (forward ? it.Seek(first) : it.SeekForPrev(last); it.Valid();
       forward ? it.Next() : it.Prev()) {
    if (forward ? it.key().compare(last) > 0 : it.key().compare(first) < 0) break;
    const std::optional<uint32_t> index = index_of({it.key().data(), it.key().size()});
    if (!index) fail(how + ": no key of ours: " + preview(it.key()));
    const Key key{.family = range.family, .index = *index};
    if (previous && (forward ? *index <= *previous : *index >= *previous)) {
      fail(how + ": " + name_of(key) + " comes after key " + key_text(*previous));
    }
    previous = index;
    result[*index - range.first] = found(key, it.status(), it.value(), how.c_str());
  }
  require(it.status(), how + " in family " + std::to_string(range.family));
  return result;
}

}  // namespace basalt::stress
