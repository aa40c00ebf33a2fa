// Status and Result<T>: how every Basalt call reports failure.
//
// A Status is ok or a code with a sentence that names the object, the position and what was
// expected ("blob 17: read block 42 (4096 B): checksum mismatch"). It is one pointer wide, and an ok
// Status allocates nothing. The data path carries only the StatusCode, inside Io.
//
//   basalt::Result<int> parse(std::string_view text);
//   auto value = parse("12");
//   if (!value) std::puts(value.error().to_string().c_str());
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <utility>

namespace basalt {

enum class StatusCode : uint8_t {
  ok = 0,
  invalid_argument,   // the caller's request makes no sense; the message says what would
  not_found,          // the named object does not exist
  already_exists,     // the name is taken
  out_of_range,       // beyond the end of a device, blob or file
  unsupported,        // this device or store cannot do it
  busy,               // held by somebody else (claim, lock, another process)
  no_space,           // the device, the store or its metadata region is full
  io_error,           // the device failed the command
  corruption,         // bytes read back are not the bytes written
  timed_out,          // a deadline passed
  canceled,           // cancel() reached it first
  device_removed,     // the device is gone
  fenced,             // another owner has taken the store over
  read_only,          // opened for reading, or made read-only after a failure
  permission_denied,  // the operating system said no
  miscompare,         // compare found different bytes
  not_a_directory,
  is_a_directory,
  not_empty,
  too_large,  // a name, a value or a transaction beyond its stated limit
  internal,   // a defect in Basalt
};

// The code's name as it is written above.
std::string_view to_string(StatusCode code);

class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(StatusCode code, std::string message);
  Status(const Status& other);
  Status& operator=(const Status& other);
  Status(Status&&) noexcept = default;
  Status& operator=(Status&&) noexcept = default;

  bool ok() const { return rep_ == nullptr; }
  StatusCode code() const { return rep_ ? rep_->code : StatusCode::ok; }
  std::string_view message() const { return rep_ ? std::string_view(rep_->message) : ""; }
  // "corruption: blob 17: read block 42 (4096 B): checksum mismatch", or "ok".
  std::string to_string() const;
  // The same code; the message gets "context: " in front. An ok Status stays ok.
  Status with_context(std::string_view context) const;

 private:
  struct Rep {
    StatusCode code;
    std::string message;
  };
  std::unique_ptr<Rep> rep_;
};

template <typename T>
using Result = tl::expected<T, Status>;

// Makes the error side of a Result: return error(StatusCode::not_found, "no file " + name);
inline tl::unexpected<Status> error(StatusCode code, std::string message) {
  return tl::unexpected<Status>(Status(code, std::move(message)));
}
inline tl::unexpected<Status> error(Status status) {
  return tl::unexpected<Status>(std::move(status));
}

}  // namespace basalt
