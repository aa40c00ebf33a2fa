// Goal: `basalt scrub` tells by its exit status whether everything on a store can be read and verified (0), is
// damaged (1) or cannot be read (2), and names the file and the bytes.
// Method: files of both kinds; damage put below the store where the file's bytes are found.
#include <fstream>
#include <nlohmann/json.hpp>

#include "test/tool/tool_fixture.h"

namespace basalt::test {
namespace {

using nlohmann::json;

class ScrubCommandTest : public ToolTest {
 protected:
  std::string make_filled_store(bool checksums) {
    const std::string store = "file:" + path("store.img").string();
    std::vector<std::string> words = {"mkfs", store + "?size=64M"};
    if (checksums) words.insert(words.begin() + 1, "--checksums");
    must(words);
    must({"put", store, "-", "/table"},
         std::string(20'000, 't') + "needle" + std::string(80'000, 'u'));
    must({"put", "--log", store, "-", "/log"}, std::string(50'000, 'l'));
    return store;
  }
  // Changes a byte of the file `path` where "needle" lies.
  void damage() {
    std::string bytes = read_local(path("store.img"));
    const size_t at = bytes.find("needle");
    ASSERT_NE(at, std::string::npos);
    std::fstream file(path("store.img"), std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(at));
    file << 'N';
  }
};

TEST_F(ScrubCommandTest, ASoundStoreIsVerifiedWhole) {
  const std::string store = make_filled_store(true);
  const std::string text = must({"scrub", store});
  EXPECT_NE(text.find("clean: 2 files"), std::string::npos) << text;
  const json report = json::parse(must({"scrub", "--json", store}));
  EXPECT_EQ(report["clean"], true);
  EXPECT_EQ(report["data_checksums"], true);
  EXPECT_EQ(report["files"], 2);
  EXPECT_EQ(report["bytes_read"], 150'006);
  EXPECT_EQ(report["bytes_verified"], 150'006);
  EXPECT_EQ(json::parse(must({"info", "--json", store}))["data_checksums"], true);
}

TEST_F(ScrubCommandTest, DamageIsNamed) {
  const std::string store = make_filled_store(true);
  damage();
  const Outcome outcome = basalt({"scrub", store});
  EXPECT_EQ(outcome.status, 1) << outcome.err;
  EXPECT_NE(outcome.out.find("damage: /table: bytes [16384, 20480): corruption"), std::string::npos)
      << outcome.out;
  EXPECT_NE(outcome.out.find("NOT CLEAN"), std::string::npos);
  const json report = json::parse(basalt({"scrub", "--json", store}).out);
  ASSERT_EQ(report["damages"].size(), 1u);
  EXPECT_EQ(report["damages"][0]["path"], "/table");
  EXPECT_EQ(report["damages"][0]["offset"], 16384);
  EXPECT_EQ(report["damages"][0]["length"], 4096);
  EXPECT_NE(basalt({"cat", store, "/table"}).status, 0);
  EXPECT_EQ(basalt({"check", store}).status, 0) << "which is about metadata and logs";
}

TEST_F(ScrubCommandTest, WithoutChecksumsItSaysWhatItCannotKnow) {
  const std::string store = make_filled_store(false);
  damage();
  const Outcome outcome = basalt({"scrub", store});
  EXPECT_EQ(outcome.status, 0);
  EXPECT_NE(outcome.out.find("keeps no checksums of tables"), std::string::npos) << outcome.out;
}

TEST_F(ScrubCommandTest, AMissingFileCannotBeRead) {
  EXPECT_EQ(basalt({"scrub", "file:" + path("absent").string()}).status, 2);
}

}  // namespace
}  // namespace basalt::test
