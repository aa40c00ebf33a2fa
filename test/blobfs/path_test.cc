// Paths: the splitting rules, as a table.
#include "blobfs/path.h"

#include <gtest/gtest.h>

namespace basalt::blobfs {
namespace {

TEST(Path, AcceptedPathsHaveOneSpelling) {
  const struct {
    std::string path, normal;
  } cases[] = {
      {"/", "/"},
      {"//", "/"},
      {"/.", "/"},
      {"/a", "/a"},
      {"/a/", "/a"},
      {"//a///b//", "/a/b"},
      {"/./a/./b", "/a/b"},
      {"/...", "/..."},
      {"/a b/\xc3\xa4", "/a b/\xc3\xa4"},
      {"/" + std::string(255, 'n'), "/" + std::string(255, 'n')},
  };
  for (const auto& c : cases) {
    const auto components = split_path(c.path);
    ASSERT_TRUE(components.has_value()) << c.path;
    EXPECT_EQ(join_path(*components), c.normal);
  }
}

TEST(Path, RefusedPathsAreInvalidArguments) {
  const std::string cases[] = {"",
                               "a",
                               "./a",
                               "/..",
                               "/a/..",
                               "/a/../b",
                               std::string("/a\0", 3),
                               "/" + std::string(256, 'n'),
                               "/" + std::string(4096, '/')};
  for (const auto& path : cases) {
    const auto components = split_path(path);
    ASSERT_FALSE(components.has_value()) << path;
    EXPECT_EQ(components.error().code(), StatusCode::invalid_argument);
  }
  EXPECT_TRUE(split_path(std::string(4096, '/')).has_value());
}

}  // namespace
}  // namespace basalt::blobfs
