// Files that hold one key, as nvme-cli makes them ("DHHC-1:…", "NVMeTLSkey-1:…").
#pragma once

#include <basalt/status.h>

#include <string>

namespace basalt {

// The file's first line. Errors: not_found, permission_denied (others than its owner may read it), invalid_argument (empty,
// or longer than any key).
Result<std::string> read_key_file(const std::string& path);

// The same, as nvme::auth::Secret or nvme::auth::TlsKey. Errors: its parse()'s too.
template <class Key>
Result<Key> read_key_file_as(const std::string& path) {
  const Result<std::string> text = read_key_file(path);
  if (!text) return error(text.error());
  Result<Key> key = Key::parse(*text);
  if (!key) return error(key.error().with_context(path));
  return key;
}

}  // namespace basalt
