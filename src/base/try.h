// Early return for Status and Result<T>, for plain functions (not coroutines).
#pragma once

#include <basalt/status.h>

// Returns the Status when it is not ok.
#define BASALT_TRY(expression)                                        \
  do {                                                                \
    if (::basalt::Status try_status = (expression); !try_status.ok()) \
      return ::basalt::detail::TryError(std::move(try_status));       \
  } while (false)

// BASALT_TRY_ASSIGN(auto page, read_page(7)): returns the error, or assigns the value.
#define BASALT_TRY_ASSIGN(target, expression) \
  BASALT_TRY_ASSIGN_(BASALT_CONCAT_(try_result_, __LINE__), target, expression)
#define BASALT_TRY_ASSIGN_(result, target, expression)                       \
  auto result = (expression);                                                \
  if (!result) return ::basalt::detail::TryError(std::move(result).error()); \
  target = std::move(*result)
#define BASALT_CONCAT_(a, b) BASALT_CONCAT2_(a, b)
#define BASALT_CONCAT2_(a, b) a##b

namespace basalt::detail {
// Converts to either a Status or any Result<T>.
struct TryError {
  Status status;
  explicit TryError(Status s) : status(std::move(s)) {}
  operator Status() && { return std::move(status); }
  template <typename T>
  operator Result<T>() && {
    return tl::unexpected<Status>(std::move(status));
  }
};
}  // namespace basalt::detail
