// Goal: mkfs, ls, put, get, cat, mv, rm, mkdir, df and info do what their names say, on a store in
// a file, and say in a sentence what they cannot do. Method: the real program, one process per
// command, so that every command also reopens the store.
#include <nlohmann/json.hpp>

#include "test/tool/tool_fixture.h"

namespace basalt::test {
namespace {

using FilesTest = ToolTest;
using nlohmann::json;
using ::testing::Test;

std::string pattern(size_t size) {
  std::string bytes(size, ' ');
  uint32_t state = 12345;
  for (char& byte : bytes) byte = static_cast<char>((state = state * 1664525 + 1013904223) >> 24);
  return bytes;
}

TEST_F(FilesTest, PutCatAndGetKeepEveryByte) {
  const std::string store = make_store();
  for (size_t size : {size_t{0}, size_t{1}, size_t{4095}, size_t{4096}, size_t{4097},
                      (size_t{1} << 20) + 1, size_t{5} << 20}) {
    const std::string bytes = pattern(size);
    must({"put", store, write_local("in", bytes), "/file"});
    EXPECT_EQ(must({"cat", store, "/file"}), bytes) << size;
    must({"get", store, "/file", path("out").string()});
    EXPECT_EQ(read_local(path("out")), bytes) << size;
  }
}

TEST_F(FilesTest, PutReadsStandardInputAndMakesLogs) {
  const std::string store = make_store();
  const std::string bytes = pattern(100000);
  must({"put", "--log", store, "-", "/wal"}, bytes);
  EXPECT_EQ(must({"get", store, "/wal", "-"}), bytes);
  const json listed = json::parse(must({"ls", "--json", store}));
  ASSERT_EQ(listed.size(), 1u);
  EXPECT_EQ(listed[0]["kind"], "log");
  EXPECT_EQ(listed[0]["size_bytes"], 100000);
}

TEST_F(FilesTest, PutReplacesAndLeavesNothingBeside) {
  const std::string store = make_store();
  must({"put", store, "-", "/file"}, "old");
  must({"put", store, "-", "/file"}, "new bytes");
  EXPECT_EQ(must({"cat", store, "/file"}), "new bytes");
  EXPECT_EQ(must({"ls", store}), "file\n");
}

TEST_F(FilesTest, CatJoinsSeveralFiles) {
  const std::string store = make_store();
  must({"put", store, "-", "/a"}, "one ");
  must({"put", store, "-", "/b"}, "two");
  EXPECT_EQ(must({"cat", store, "/a", "/b", "/a"}), "one twoone ");
}

TEST_F(FilesTest, DirectoriesAreMadeListedMovedAndRemoved) {
  const std::string store = make_store();
  must({"mkdir", "-p", store, "/db/archive/old"});
  must({"put", store, "-", "/db/a"}, "a");
  must({"put", store, "-", "/db/archive/b"}, "bb");
  EXPECT_EQ(must({"ls", "-R", store, "/db"}), "a\narchive/\narchive/b\narchive/old/\n");

  must({"mv", store, "/db", "/moved"});
  EXPECT_EQ(must({"ls", store}), "moved/\n");
  must({"mv", store, "/moved/a", "/moved/archive"});
  EXPECT_EQ(must({"cat", store, "/moved/archive/a"}), "a");

  EXPECT_EQ(basalt({"rm", store, "/moved"}).status, 1);  // not empty
  must({"rm", store, "/moved/archive/old"});
  must({"rm", "-r", store, "/moved"});
  EXPECT_EQ(must({"ls", store}), "");
}

TEST_F(FilesTest, LongListingShowsSizeAndKind) {
  const std::string store = make_store();
  must({"put", store, "-", "/file"}, "12345");
  const std::string listing = must({"ls", "-l", store, "/file"});
  EXPECT_NE(listing.find("table"), std::string::npos) << listing;
  EXPECT_NE(listing.find(" 5 "), std::string::npos) << listing;
}

TEST_F(FilesTest, DfAndInfoTellSpace) {
  const std::string store = make_store();
  const json before = json::parse(must({"df", "--json", store}));
  EXPECT_GT(before["free_bytes"], uint64_t{40} << 20);
  EXPECT_LE(before["free_bytes"], before["capacity_bytes"]);
  must({"put", store, "-", "/file"}, pattern(10 << 20));
  const json after = json::parse(must({"df", "--json", store}));
  const auto taken = before["free_bytes"].get<int64_t>() - after["free_bytes"].get<int64_t>();
  EXPECT_GE(taken, 10 << 20);
  EXPECT_LT(taken, 11 << 20);

  const json info = json::parse(must({"info", "--json", store}));
  EXPECT_EQ(info["device"]["size_bytes"], 64 << 20);
  EXPECT_EQ(info["space"]["free_bytes"], after["free_bytes"]);
  EXPECT_NE(must({"df", store}).find("free"), std::string::npos);
  EXPECT_NE(must({"info", store}).find("64.0 MiB"), std::string::npos);
}

TEST_F(FilesTest, ErrorsAreSentencesWithStatusOne) {
  const std::string store = make_store();
  const Outcome missing = basalt({"cat", store, "/nothing"});
  EXPECT_EQ(missing.status, 1);
  EXPECT_TRUE(missing.err.starts_with("basalt: not found: ")) << missing.err;
  EXPECT_NE(missing.err.find("/nothing"), std::string::npos) << missing.err;
  EXPECT_EQ(missing.out, "");

  EXPECT_EQ(basalt({"mv", store, "/nothing", "/else"}).status, 1);
  EXPECT_EQ(basalt({"rm", store, "/nothing"}).status, 1);
  EXPECT_EQ(basalt({"put", store, path("absent").string(), "/x"}).status, 1);
  EXPECT_EQ(basalt({"get", store, "/nothing", path("out").string()}).status, 1);
  EXPECT_FALSE(std::filesystem::exists(path("out")));
}

TEST_F(FilesTest, WrongCommandLinesHaveStatusTwo) {
  EXPECT_EQ(basalt({}).status, 2);
  EXPECT_EQ(basalt({"frobnicate"}).status, 2);
  EXPECT_EQ(basalt({"ls"}).status, 2);
  EXPECT_EQ(basalt({"--help"}).status, 0);
  EXPECT_EQ(basalt({"--version"}).status, 0);
}

TEST_F(FilesTest, ABadUriSaysWhatWouldBeRight) {
  const Outcome outcome = basalt({"ls", "floppy:/dev/fd0"});
  EXPECT_EQ(outcome.status, 1);
  EXPECT_NE(outcome.err.find("file:/path"), std::string::npos) << outcome.err;
}

TEST_F(FilesTest, MkfsRefusesWhatIsThere) {
  const std::string store = make_store();
  must({"put", store, "-", "/precious"}, "bytes");
  const Outcome refused = basalt({"mkfs", store});
  EXPECT_EQ(refused.status, 1);
  EXPECT_TRUE(refused.err.starts_with("basalt: already exists: ")) << refused.err;
  EXPECT_EQ(must({"cat", store, "/precious"}), "bytes");
  must({"mkfs", "--force", store});
  EXPECT_EQ(must({"ls", store}), "");
}

TEST_F(FilesTest, AFullStoreSaysSoAndStaysUsable) {
  const std::string store = make_store();
  must({"put", store, "-", "/kept"}, "kept");
  const Outcome full = basalt({"put", store, "-", "/big"}, pattern(80 << 20));
  EXPECT_EQ(full.status, 1);
  EXPECT_TRUE(full.err.starts_with("basalt: no space: ")) << full.err;
  EXPECT_EQ(must({"ls", store}), "kept\n");
  must({"put", store, "-", "/small"}, pattern(10 << 20));
  EXPECT_EQ(must({"cat", store, "/kept"}), "kept");
  EXPECT_EQ(basalt({"check", store}).status, 0);
}

}  // namespace
}  // namespace basalt::test
