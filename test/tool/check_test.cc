// Goal: `basalt check` tells by its exit status whether a store is clean (0), has problems (1) or
// cannot be read (2), and `basalt dump` shows the metadata.
// Method: stores damaged on purpose, from the outside.
#include <fstream>
#include <nlohmann/json.hpp>

#include "test/tool/tool_fixture.h"

namespace basalt::test {
namespace {

using CheckTest = ToolTest;
using nlohmann::json;

// Overwrites `size` bytes of the file from `offset` on.
void damage(const std::filesystem::path& path, uint64_t offset, size_t size) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(static_cast<std::streamoff>(offset));
  file << std::string(size, '\x5a');
}

TEST_F(CheckTest, ANewStoreIsClean) {
  const std::string store = make_store();
  const Outcome outcome = basalt({"check", store});
  EXPECT_EQ(outcome.status, 0) << outcome.out << outcome.err;
  EXPECT_NE(outcome.out.find("clean"), std::string::npos);
  EXPECT_EQ(outcome.out.find("NOT CLEAN"), std::string::npos);
}

TEST_F(CheckTest, CountsWhatIsThere) {
  const std::string store = make_store();
  must({"mkdir", store, "/db"});
  must({"put", store, "-", "/db/table"}, std::string(100000, 't'));
  must({"put", "--log", store, "-", "/db/log"}, std::string(100000, 'l'));
  const json report = json::parse(must({"check", "--json", store}));
  EXPECT_EQ(report["clean"], true);
  EXPECT_EQ(report["files"], 2);
  EXPECT_GT(report["log_blocks"], 0);
  EXPECT_EQ(report["problems"].size(), 0u);
}

TEST_F(CheckTest, NoStoreCannotBeRead) {
  write_local("zeros", std::string(64 << 20, '\0'));
  const Outcome outcome = basalt({"check", "file:" + path("zeros").string()});
  EXPECT_EQ(outcome.status, 2) << outcome.out;
  EXPECT_TRUE(outcome.err.starts_with("basalt: check: ")) << outcome.err;
}

TEST_F(CheckTest, AMissingFileCannotBeRead) {
  EXPECT_EQ(basalt({"check", "file:" + path("absent").string()}).status, 2);
}

// The whole front of the device: whatever lives there, something of it matters.
TEST_F(CheckTest, AWipedFrontIsNotClean) {
  const std::string store = make_store();
  must({"put", store, "-", "/file"}, std::string(1000, 'x'));
  damage(path("store.img"), 0, size_t{8} << 20);
  const Outcome outcome = basalt({"check", store});
  EXPECT_NE(outcome.status, 0) << outcome.out;
  EXPECT_LE(outcome.status, 2);
  EXPECT_FALSE(outcome.out.empty() && outcome.err.empty());
}

TEST_F(CheckTest, DumpShowsNames) {
  const std::string store = make_store();
  must({"put", store, "-", "/a-name-to-find"}, "bytes");
  const std::string text = must({"dump", store});
  EXPECT_NE(text.find("a-name-to-find"), std::string::npos) << text.substr(0, 2000);
}

}  // namespace
}  // namespace basalt::test
