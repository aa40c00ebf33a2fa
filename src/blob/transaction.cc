#include "blob/transaction.h"

#include "blob/format.h"

namespace basalt::blob {
namespace {

void put_bytes(std::vector<std::byte>& out, const void* data, size_t bytes) {
  const auto* from = static_cast<const std::byte*>(data);
  out.insert(out.end(), from, from + bytes);
}

void put_text(std::vector<std::byte>& out, std::string_view text) {
  const le16 length = static_cast<uint16_t>(text.size());
  put_bytes(out, &length, sizeof length);
  put_bytes(out, text.data(), text.size());
}

uint8_t code(OpCode op) { return static_cast<uint8_t>(op); }

}  // namespace

// Names beyond the limits are cut by the 16-bit length otherwise: BlobStore::apply() refuses them first.
void Transaction::append(uint8_t op, std::initializer_list<uint64_t> numbers, std::string_view a,
                         std::string_view b) {
  bytes_.push_back(std::byte{op});
  for (const uint64_t number : numbers) {
    const le64 value = number;
    put_bytes(bytes_, &value, sizeof value);
  }
  const auto kind = static_cast<OpCode>(op);
  const bool has_key = kind == OpCode::set_attribute || kind == OpCode::erase_attribute ||
                       kind == OpCode::catalog_put || kind == OpCode::catalog_erase;
  const bool has_value =
      kind == OpCode::set_attribute || kind == OpCode::catalog_put || kind == OpCode::set_checksums;
  if (a.size() > kMaxKeyBytes || b.size() > kMaxValueBytes) oversized_ = true;
  if (has_key) put_text(bytes_, a.substr(0, kMaxKeyBytes + 1));
  if (has_value) put_text(bytes_, b.substr(0, kMaxValueBytes + 1));
  const bool frees = kind == OpCode::delete_blob || kind == OpCode::unmap ||
                     kind == OpCode::catalog_erase || kind == OpCode::erase_attribute ||
                     kind == OpCode::orphan;
  if (frees) any_frees_ = true;
  if (kind == OpCode::map || kind == OpCode::create_blob) only_frees_ = false;
  ++op_count_;
}

void Transaction::create_blob(BlobId id, const BlobOptions& options) {
  const uint64_t flags =
      (options.provisioning == BlobOptions::Provisioning::thick ? uint64_t{kBlobThick} : 0) |
      (options.checksums ? uint64_t{kBlobChecksums} : 0);
  append(code(OpCode::create_blob), {id.value, flags, options.parent.value});
}
void Transaction::delete_blob(BlobId id) { append(code(OpCode::delete_blob), {id.value}); }
void Transaction::set_size(BlobId id, uint64_t size_bytes) {
  append(code(OpCode::set_size), {id.value, size_bytes});
}
void Transaction::set_attribute(BlobId id, std::string_view name, std::string_view value) {
  append(code(OpCode::set_attribute), {id.value}, name, value);
}
void Transaction::erase_attribute(BlobId id, std::string_view name) {
  append(code(OpCode::erase_attribute), {id.value}, name);
}
void Transaction::catalog_put(std::string_view key, std::string_view value) {
  append(code(OpCode::catalog_put), {}, key, value);
}
void Transaction::catalog_erase(std::string_view key) {
  append(code(OpCode::catalog_erase), {}, key);
}
void Transaction::orphan(BlobId id) { append(code(OpCode::orphan), {id.value}); }

void Transaction::map(BlobId id, const Extent& extent) {
  append(code(OpCode::map), {id.value, extent.logical, extent.physical, extent.count,
                             static_cast<uint64_t>(extent.state)});
}
void Transaction::unmap(BlobId id, BlockRange range) {
  append(code(OpCode::unmap), {id.value, range.first, range.count});
}
void Transaction::set_state(BlobId id, BlockRange range, ExtentState state) {
  append(code(OpCode::set_state),
         {id.value, range.first, range.count, static_cast<uint64_t>(state)});
}
void Transaction::grow_clusters(uint64_t cluster_count) {
  append(code(OpCode::grow_clusters), {cluster_count});
}
void Transaction::set_checksums(BlobId id, uint64_t first, std::string_view checksums) {
  append(code(OpCode::set_checksums), {id.value, first}, {}, checksums);
}

}  // namespace basalt::blob
