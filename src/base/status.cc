#include <basalt/status.h>

namespace basalt {

std::string_view to_string(StatusCode code) {
  switch (code) {
    case StatusCode::ok: return "ok";
    case StatusCode::invalid_argument: return "invalid argument";
    case StatusCode::not_found: return "not found";
    case StatusCode::already_exists: return "already exists";
    case StatusCode::out_of_range: return "out of range";
    case StatusCode::unsupported: return "unsupported";
    case StatusCode::busy: return "busy";
    case StatusCode::no_space: return "no space";
    case StatusCode::io_error: return "I/O error";
    case StatusCode::corruption: return "corruption";
    case StatusCode::timed_out: return "timed out";
    case StatusCode::canceled: return "canceled";
    case StatusCode::device_removed: return "device removed";
    case StatusCode::fenced: return "fenced";
    case StatusCode::read_only: return "read-only";
    case StatusCode::permission_denied: return "permission denied";
    case StatusCode::miscompare: return "miscompare";
    case StatusCode::not_a_directory: return "not a directory";
    case StatusCode::is_a_directory: return "is a directory";
    case StatusCode::not_empty: return "not empty";
    case StatusCode::too_large: return "too large";
    case StatusCode::internal: return "internal error";
  }
  return "unknown status";
}

Status::Status(StatusCode code, std::string message) {
  if (code != StatusCode::ok) rep_ = std::make_unique<Rep>(Rep{code, std::move(message)});
}

Status::Status(const Status& other)
    : rep_(other.rep_ ? std::make_unique<Rep>(*other.rep_) : nullptr) {}

Status& Status::operator=(const Status& other) {
  if (this != &other) rep_ = other.rep_ ? std::make_unique<Rep>(*other.rep_) : nullptr;
  return *this;
}

std::string Status::to_string() const {
  if (ok()) return "ok";
  return std::string(basalt::to_string(rep_->code)) + ": " + rep_->message;
}

Status Status::with_context(std::string_view context) const {
  if (ok()) return {};
  return Status(rep_->code, std::string(context) + ": " + rep_->message);
}

}  // namespace basalt
