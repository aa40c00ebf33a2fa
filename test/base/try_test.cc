// Goal: BASALT_TRY and BASALT_TRY_ASSIGN return errors early, evaluate once, and move values out.
#include "base/try.h"

#include <gtest/gtest.h>

#include <memory>

namespace basalt {
namespace {

int calls = 0;

Status answer(bool well) {
  ++calls;
  return well ? Status() : Status(StatusCode::io_error, "it failed");
}

Status chain(bool first, bool second) {
  BASALT_TRY(answer(first));
  BASALT_TRY(answer(second));
  return {};
}

Result<std::unique_ptr<int>> make(int value) {
  if (value < 0) return error(StatusCode::out_of_range, "negative");
  return std::make_unique<int>(value);
}

Result<int> sum(int a, int b) {
  BASALT_TRY_ASSIGN(auto first, make(a));
  BASALT_TRY_ASSIGN(const auto second, make(b));
  BASALT_TRY(answer(*first != 13));
  return *first + *second;
}

TEST(Try, GoesOnWhenOk) {
  calls = 0;
  EXPECT_TRUE(chain(true, true).ok());
  EXPECT_EQ(calls, 2);
}

TEST(Try, ReturnsTheFirstError) {
  calls = 0;
  EXPECT_EQ(chain(false, true).to_string(), "I/O error: it failed");
  EXPECT_EQ(calls, 1);
}

TEST(TryAssign, MovesTheValueOut) { EXPECT_EQ(sum(2, 3).value(), 5); }

TEST(TryAssign, ReturnsEitherError) {
  EXPECT_EQ(sum(-1, 3).error().code(), StatusCode::out_of_range);
  EXPECT_EQ(sum(1, -3).error().code(), StatusCode::out_of_range);
  EXPECT_EQ(sum(13, 0).error().code(), StatusCode::io_error);
}

}  // namespace
}  // namespace basalt
