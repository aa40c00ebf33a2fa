// See host_identity.h. NVM Express base specification 2.0, §4.5 (NQNs), §4.5.1 (UUIDs in them).
#include "nvme/tcp/host_identity.h"

#include <sys/random.h>

#include <algorithm>
#include <cstdio>
#include <fstream>

#include "base/try.h"
#include "wire/nvme/fabrics.h"

namespace basalt::nvme {

namespace {

// The first word of a file; empty if there is none.
std::string first_word(const std::string& path) {
  std::ifstream file(path);
  std::string word;
  file >> word;
  return word;
}

std::string uuid_text(const std::array<uint8_t, 16>& id) {
  std::string text;
  for (size_t i = 0; i < id.size(); ++i) {
    char digits[3];
    std::snprintf(digits, sizeof digits, "%02x", id[i]);
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += digits;
  }
  return text;
}

// Version 4: random.
Result<std::array<uint8_t, 16>> random_uuid() {
  std::array<uint8_t, 16> id;
  if (::getrandom(id.data(), id.size(), 0) != static_cast<ssize_t>(id.size())) {
    return error(StatusCode::io_error, "no random bytes for a host id");
  }
  id[6] = static_cast<uint8_t>((id[6] & 0x0f) | 0x40);
  id[8] = static_cast<uint8_t>((id[8] & 0x3f) | 0x80);
  return id;
}

int digit_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

Status check_nqn(std::string_view nqn) {
  const bool printable = std::all_of(nqn.begin(), nqn.end(), [](char c) {
    return static_cast<unsigned char>(c) > ' ' && c != '\x7f';
  });
  if (nqn.starts_with("nqn.") && nqn.size() <= kMaxNqnBytes && printable) return {};
  return {
      StatusCode::invalid_argument,
      "\"" + std::string(nqn) +
          "\" is no NVMe qualified name; one looks like nqn.2014-08.org.example:disks and has at "
          "most 223 bytes"};
}

Result<std::array<uint8_t, 16>> parse_uuid(std::string_view text) {
  std::array<uint8_t, 16> id{};
  size_t at = 0;
  for (size_t i = 0; i < id.size(); ++i) {
    if ((i == 4 || i == 6 || i == 8 || i == 10) && at < text.size() && text[at] == '-') ++at;
    const int high = at < text.size() ? digit_value(text[at]) : -1;
    const int low = at + 1 < text.size() ? digit_value(text[at + 1]) : -1;
    if (high < 0 || low < 0) at = text.size() + 1;
    if (at > text.size()) break;
    id[i] = static_cast<uint8_t>(high << 4 | low);
    at += 2;
  }
  if (at != text.size()) {
    return error(StatusCode::invalid_argument,
                 "\"" + std::string(text) +
                     "\" is no UUID; one looks like 9b1c5a3e-0f5e-4c39-9d53-5a7e3b1f2c4d");
  }
  return id;
}

Result<HostIdentity> HostIdentity::of_this_host(const std::string& directory) {
  HostIdentity identity;
  identity.nqn = first_word(directory + "/hostnqn");
  if (const std::string id = first_word(directory + "/hostid"); !id.empty()) {
    auto parsed = parse_uuid(id);
    if (!parsed) return error(parsed.error().with_context(directory + "/hostid"));
    identity.id = *parsed;
  } else {
    BASALT_TRY_ASSIGN(identity.id, random_uuid());
  }
  if (identity.nqn.empty()) {
    identity.nqn = "nqn.2014-08.org.nvmexpress:uuid:" + uuid_text(identity.id);
  }
  if (Status status = check_nqn(identity.nqn); !status.ok()) {
    return error(status.with_context(directory + "/hostnqn"));
  }
  return identity;
}

}  // namespace basalt::nvme
