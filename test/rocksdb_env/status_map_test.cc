// Goal: each StatusCode reaches RocksDB as the code, subcode and retryable bit its error handler
// needs. Method: a table of what RocksDB is to see.
#include "rocksdb_env/status_map.h"

#include <gtest/gtest.h>

#include <new>
#include <stdexcept>

namespace basalt::rocksdb_env {
namespace {

using rocksdb::IOStatus;

TEST(StatusMap, TreatsEveryCode) {
  struct Case {
    StatusCode code;
    rocksdb::Status::Code expected;
    rocksdb::Status::SubCode subcode;
    bool retryable;
  };
  using S = rocksdb::Status;
  const Case cases[] = {
      {StatusCode::invalid_argument, S::kInvalidArgument, S::kNone, false},
      {StatusCode::not_found, S::kIOError, S::kPathNotFound, false},
      {StatusCode::already_exists, S::kIOError, S::kNone, false},
      {StatusCode::out_of_range, S::kInvalidArgument, S::kNone, false},
      {StatusCode::unsupported, S::kNotSupported, S::kNone, false},
      {StatusCode::busy, S::kIOError, S::kNone, false},
      {StatusCode::no_space, S::kIOError, S::kNoSpace, true},
      {StatusCode::io_error, S::kIOError, S::kNone, true},
      {StatusCode::corruption, S::kCorruption, S::kNone, false},
      {StatusCode::timed_out, S::kIOError, S::kNone, true},
      {StatusCode::canceled, S::kAborted, S::kNone, false},
      {StatusCode::device_removed, S::kIOError, S::kNone, false},
      {StatusCode::fenced, S::kIOError, S::kIOFenced, false},
      {StatusCode::read_only, S::kIOError, S::kNone, false},
      {StatusCode::permission_denied, S::kIOError, S::kNone, false},
      {StatusCode::miscompare, S::kIOError, S::kNone, false},
      {StatusCode::not_a_directory, S::kIOError, S::kNone, false},
      {StatusCode::is_a_directory, S::kIOError, S::kNone, false},
      {StatusCode::not_empty, S::kIOError, S::kNone, false},
      {StatusCode::too_large, S::kInvalidArgument, S::kNone, false},
      {StatusCode::internal, S::kIOError, S::kNone, false},
  };
  ASSERT_EQ(std::size(cases), static_cast<size_t>(StatusCode::internal)) << "a code has no case";
  for (const Case& c : cases) {
    const IOStatus status = to_io_status(Status(c.code, "why"), "/db/x");
    EXPECT_EQ(status.code(), c.expected) << to_string(c.code);
    EXPECT_EQ(status.subcode(), c.subcode) << to_string(c.code);
    EXPECT_EQ(status.GetRetryable(), c.retryable) << to_string(c.code);
    EXPECT_FALSE(status.GetDataLoss()) << to_string(c.code);
    EXPECT_NE(status.ToString().find("/db/x"), std::string::npos) << status.ToString();
    EXPECT_NE(status.ToString().find("why"), std::string::npos) << status.ToString();
  }
}

TEST(StatusMap, OkStaysOk) { EXPECT_TRUE(to_io_status(Status(), "/db/x").ok()); }

TEST(StatusMap, AFailedCommandIsOfOneFile) {
  EXPECT_EQ(to_io_status(Status(StatusCode::io_error, ""), "x").GetScope(),
            IOStatus::kIOErrorScopeFile);
  EXPECT_EQ(to_io_status(Status(StatusCode::no_space, ""), "x").GetScope(),
            IOStatus::kIOErrorScopeFileSystem);
}

TEST(StatusMap, NoExceptionLeaves) {
  EXPECT_TRUE(guarded([] { return IOStatus::OK(); }).ok());
  IOStatus memory = guarded([]() -> IOStatus { throw std::bad_alloc(); });
  EXPECT_EQ(memory.subcode(), rocksdb::Status::kMemoryLimit);
  IOStatus other = guarded([]() -> IOStatus { throw std::runtime_error("odd"); });
  EXPECT_TRUE(other.IsIOError());
  EXPECT_NE(other.ToString().find("odd"), std::string::npos);
  EXPECT_TRUE(guarded([]() -> IOStatus { throw 7; }).IsIOError());
}

}  // namespace
}  // namespace basalt::rocksdb_env
