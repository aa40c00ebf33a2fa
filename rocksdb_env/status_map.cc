// The table itself. It is checked at compile time: a new StatusCode without a row does not build.
#include "rocksdb_env/status_map.h"

#include <array>
#include <exception>
#include <new>
#include <string>

namespace basalt::rocksdb_env {
namespace {

using rocksdb::IOStatus;

// How RocksDB is to treat an error. Its error handler resumes by itself from what is retryable,
// stops for good at a plain IOError on a write, and looks at the subcodes for the rest.
enum class Treatment : uint8_t {
  invalid,      // InvalidArgument
  absent,       // IOError, subcode PathNotFound
  unsupported,  // NotSupported: callers have another way
  no_space,     // IOError, subcode NoSpace, retryable: resumes when space is free
  corrupt,      // Corruption
  aborted,      // Aborted: the caller asked for it
  fenced,       // IOError, subcode IOFenced: fatal, somebody else owns the store
  transient,    // IOError, retryable, of one file: a command failed, the next may not
  failed,       // IOError, not retryable
};

struct Row {
  StatusCode code;
  Treatment treatment;
};

constexpr std::array kTable = {
    Row{StatusCode::invalid_argument, Treatment::invalid},
    Row{StatusCode::not_found, Treatment::absent},
    Row{StatusCode::already_exists, Treatment::failed},
    Row{StatusCode::out_of_range, Treatment::invalid},
    Row{StatusCode::unsupported, Treatment::unsupported},
    Row{StatusCode::busy, Treatment::failed},
    Row{StatusCode::no_space, Treatment::no_space},
    Row{StatusCode::io_error, Treatment::transient},
    Row{StatusCode::corruption, Treatment::corrupt},
    Row{StatusCode::timed_out, Treatment::transient},
    Row{StatusCode::canceled, Treatment::aborted},
    Row{StatusCode::device_removed, Treatment::failed},
    Row{StatusCode::fenced, Treatment::fenced},
    Row{StatusCode::read_only, Treatment::failed},
    Row{StatusCode::permission_denied, Treatment::failed},
    Row{StatusCode::miscompare, Treatment::failed},
    Row{StatusCode::not_a_directory, Treatment::failed},
    Row{StatusCode::is_a_directory, Treatment::failed},
    Row{StatusCode::not_empty, Treatment::failed},
    Row{StatusCode::too_large, Treatment::invalid},
    Row{StatusCode::internal, Treatment::failed},
};

// Row i is code i + 1, and every code has a row.
constexpr bool table_is_complete() {
  for (size_t i = 0; i < kTable.size(); ++i) {
    if (static_cast<size_t>(kTable[i].code) != i + 1) return false;
  }
  return kTable.size() == static_cast<size_t>(StatusCode::internal);
}
static_assert(table_is_complete());

IOStatus retryable(IOStatus status, IOStatus::IOErrorScope scope) {
  status.SetRetryable(true);
  status.SetScope(scope);
  return status;
}

IOStatus make(Treatment treatment, const std::string& object, const std::string& message) {
  switch (treatment) {
    case Treatment::invalid: return IOStatus::InvalidArgument(object, message);
    case Treatment::absent: return IOStatus::PathNotFound(object, message);
    case Treatment::unsupported: return IOStatus::NotSupported(object, message);
    case Treatment::no_space:
      return retryable(IOStatus::NoSpace(object, message), IOStatus::kIOErrorScopeFileSystem);
    case Treatment::corrupt: return IOStatus::Corruption(object, message);
    case Treatment::aborted: return IOStatus::Aborted(object, message);
    case Treatment::fenced: return IOStatus::IOFenced(object, message);
    case Treatment::transient:
      return retryable(IOStatus::IOError(object, message), IOStatus::kIOErrorScopeFile);
    case Treatment::failed: break;
  }
  return IOStatus::IOError(object, message);
}

}  // namespace

IOStatus to_io_status(const Status& status, std::string_view object) {
  if (status.ok()) return IOStatus::OK();
  const Treatment treatment = kTable[static_cast<size_t>(status.code()) - 1].treatment;
  // Where RocksDB only says "IO error", the code's name goes in front of the message.
  const bool anonymous = treatment == Treatment::failed || treatment == Treatment::transient;
  return make(treatment, std::string(object),
              anonymous ? status.to_string() : std::string(status.message()));
}

bool means_absent(const Status& status) {
  return status.code() == StatusCode::not_found || status.code() == StatusCode::not_a_directory;
}

IOStatus current_exception_status() noexcept {
  try {
    throw;
  } catch (const std::bad_alloc&) {
    return IOStatus::IOError(IOStatus::SubCode::kMemoryLimit);  // allocates nothing
  } catch (const std::exception& e) {
    try {
      return IOStatus::IOError("exception", e.what());
    } catch (...) {
      return IOStatus::IOError(IOStatus::SubCode::kMemoryLimit);
    }
  } catch (...) {
    return IOStatus::IOError(IOStatus::SubCode::kNone);
  }
}

}  // namespace basalt::rocksdb_env
