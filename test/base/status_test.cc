// Goal: a Status keeps its code and sentence through copies, moves and added context; every code
// has a name of its own.
#include <basalt/status.h>
#include <gtest/gtest.h>

#include <set>

namespace basalt {
namespace {

TEST(Status, DefaultIsOk) {
  const Status status;
  EXPECT_TRUE(status.ok());
  EXPECT_EQ(status.code(), StatusCode::ok);
  EXPECT_EQ(status.message(), "");
  EXPECT_EQ(status.to_string(), "ok");
}

TEST(Status, IsOnePointerWide) { EXPECT_EQ(sizeof(Status), sizeof(void*)); }

TEST(Status, CarriesCodeAndSentence) {
  const Status status(StatusCode::corruption, "blob 17: read block 42 (4096 B): checksum mismatch");
  EXPECT_FALSE(status.ok());
  EXPECT_EQ(status.code(), StatusCode::corruption);
  EXPECT_EQ(status.to_string(), "corruption: blob 17: read block 42 (4096 B): checksum mismatch");
}

TEST(Status, OkCodeDropsTheMessage) {
  EXPECT_TRUE(Status(StatusCode::ok, "all went well").ok());
  EXPECT_EQ(Status(StatusCode::ok, "all went well").message(), "");
}

TEST(Status, CopiesAreIndependent) {
  Status first(StatusCode::busy, "held");
  Status second = first;
  first = Status(StatusCode::no_space, "full");
  EXPECT_EQ(second.to_string(), "busy: held");
  second = first;
  first = Status();
  EXPECT_EQ(second.to_string(), "no space: full");
  second = *&second;
  EXPECT_EQ(second.to_string(), "no space: full");
  second = first;
  EXPECT_TRUE(second.ok());
}

TEST(Status, MovesTakeTheSentence) {
  Status first(StatusCode::busy, "held");
  const Status second = std::move(first);
  EXPECT_EQ(second.to_string(), "busy: held");
}

TEST(Status, ContextComesInFront) {
  const Status status(StatusCode::not_found, "no file /db/CURRENT");
  EXPECT_EQ(status.with_context("open").to_string(), "not found: open: no file /db/CURRENT");
  EXPECT_EQ(status.with_context("open").code(), StatusCode::not_found);
  EXPECT_TRUE(Status().with_context("open").ok());
}

TEST(Status, EveryCodeHasItsOwnName) {
  std::set<std::string_view> names;
  for (int code = 0; code <= static_cast<int>(StatusCode::internal); ++code) {
    const std::string_view name = to_string(static_cast<StatusCode>(code));
    EXPECT_NE(name, "unknown status") << code;
    EXPECT_TRUE(names.insert(name).second) << name;
  }
  EXPECT_EQ(to_string(static_cast<StatusCode>(255)), "unknown status");
}

TEST(Result, HoldsAValueOrAnError) {
  const Result<int> value = 7;
  const Result<int> none = error(StatusCode::not_found, "no such thing");
  ASSERT_TRUE(value.has_value());
  EXPECT_EQ(*value, 7);
  ASSERT_FALSE(none.has_value());
  EXPECT_EQ(none.error().to_string(), "not found: no such thing");
}

}  // namespace
}  // namespace basalt
