#include "blob/key_names.h"

#include "blob/node.h"

#include <cstring>
#include <fmt/format.h>

namespace basalt::blob {
namespace {

uint64_t number_at(std::string_view key, size_t offset) {
  be64 number;
  std::memcpy(&number, key.data() + offset, sizeof number);
  return number;
}

std::string name_object_key(std::string_view key) {
  if (key.size() < 9) return "key " + quoted(key);
  const std::string blob = fmt::format("blob {}", number_at(key, 0));
  const std::string_view rest = key.substr(9);
  switch (static_cast<ObjectKind>(key[8])) {
    case ObjectKind::record: return blob;
    case ObjectKind::attribute: return blob + ", attribute " + quoted(rest);
    case ObjectKind::orphan:
      if (rest.size() == 8) return fmt::format("orphan {}", number_at(rest, 0));
      break;
    case ObjectKind::extent:
      if (rest.size() == 8) return fmt::format("{}, block {}", blob, number_at(rest, 0));
      break;
    case ObjectKind::checksum: break;
  }
  return "key " + quoted(key);
}

std::string name_space_key(std::string_view key) {
  return key.size() == 8 ? fmt::format("cluster {}", number_at(key, 0)) : "key " + quoted(key);
}

}  // namespace

std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    out += byte >= 0x20 && byte < 0x7f && byte != '"' && byte != '\\'
               ? std::string(1, c)
               : fmt::format("\\x{:02x}", byte);
  }
  return out + "\"";
}

std::string_view tree_name(TreeId tree) {
  switch (tree) {
    case TreeId::objects: return "objects tree";
    case TreeId::catalog: return "catalog";
    case TreeId::space: return "tree of free space";
    case TreeId::references: return "references tree";
  }
  return "unknown tree";
}

std::string describe_keys(
    TreeId tree, std::string_view low, const std::string* high,
    const std::function<std::string(std::string_view key)>& name_catalog_key) {
  const auto name = [&](std::string_view key) {
    switch (tree) {
      case TreeId::objects: return name_object_key(key);
      case TreeId::catalog: return name_catalog_key ? name_catalog_key(key) : "key " + quoted(key);
      case TreeId::space: return name_space_key(key);
      case TreeId::references: break;
    }
    return "key " + quoted(key);
  };
  std::string text = low.empty() && high == nullptr ? "all " : "";
  switch (tree) {
    case TreeId::objects: text += "records, attributes and extents of blobs"; break;
    case TreeId::catalog: text += "catalog entries"; break;
    case TreeId::space: text += "runs of free clusters"; break;
    case TreeId::references: text += "reference counts"; break;
  }
  if (!low.empty()) text += " from " + name(low) + (high == nullptr ? " on" : "");
  if (high != nullptr) text += " up to, not including, " + name(*high);
  return text;
}

}  // namespace basalt::blob
