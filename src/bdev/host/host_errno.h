// errno to StatusCode: the one table for everything the operating system answers.
//
// Used with positive errno values, by the control path (errno_status, with a sentence) and by the
// data path (status_code_from_errno, the code alone). Any thread.
#pragma once

#include <basalt/status.h>

#include <string>

namespace basalt {

// `error_number` is positive; one the table does not know is io_error.
StatusCode status_code_from_errno(int error_number);

// "<what>: <the system's words for the error>", with the code of the table.
Status errno_status(int error_number, const std::string& what);

}  // namespace basalt
