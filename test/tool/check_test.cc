// Goal: `basalt check` tells by its exit status whether a store is clean (0), has problems (1) or
// cannot be read (2), `basalt check --repair` whether it is now, and `basalt dump` shows the metadata.
// Method: stores damaged on purpose, from the outside.
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

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

constexpr uint64_t kBlockBytes = 4096;

// Where the two copies of the metadata pages lie, from "metadata run 0: 512 pages at blocks A and
// B".
struct MetadataRun {
  uint64_t pages = 0, first_copy = 0, second_copy = 0;
};

MetadataRun find_metadata(const std::string& dump) {
  MetadataRun run;
  const size_t at = dump.find("metadata run 0: ");
  EXPECT_NE(at, std::string::npos) << dump;
  if (at == std::string::npos) return run;
  std::istringstream text(dump.substr(at + std::string("metadata run 0: ").size()));
  std::string word;
  text >> run.pages >> word >> word >> word >> run.first_copy >> word >> run.second_copy;
  EXPECT_TRUE(text) << dump.substr(at, 100);
  return run;
}

TEST_F(CheckTest, ALostSuperblockIsNotedAndTheOtherServes) {
  const std::string store = make_store();
  must({"put", store, "-", "/file"}, "bytes");
  damage(path("store.img"), 0, kBlockBytes);
  const json report = json::parse(must({"check", "--json", store}));
  ASSERT_EQ(report["notes"].size(), 1u);
  EXPECT_TRUE(report["notes"][0].get<std::string>().starts_with("superblock 0")) << report["notes"];
  EXPECT_EQ(must({"cat", store, "/file"}), "bytes");
}

TEST_F(CheckTest, OneCopyOfTheMetadataIsEnough) {
  const std::string store = make_store();
  must({"put", store, "-", "/file"}, "bytes");
  const MetadataRun run = find_metadata(must({"dump", store}));
  damage(path("store.img"), run.first_copy * kBlockBytes, run.pages * kBlockBytes);
  const Outcome outcome = basalt({"check", store});
  EXPECT_EQ(outcome.status, 0) << outcome.out << outcome.err;
  EXPECT_NE(outcome.out.find("note: "), std::string::npos) << outcome.out;
  EXPECT_EQ(must({"cat", store, "/file"}), "bytes");
}

TEST_F(CheckTest, LosingBothCopiesIsAProblem) {
  const std::string store = make_store();
  must({"put", store, "-", "/file"}, "bytes");
  const MetadataRun run = find_metadata(must({"dump", store}));
  damage(path("store.img"), run.first_copy * kBlockBytes, run.pages * kBlockBytes);
  damage(path("store.img"), run.second_copy * kBlockBytes, run.pages * kBlockBytes);
  const Outcome outcome = basalt({"check", store});
  EXPECT_TRUE(outcome.status == 1 || outcome.status == 2) << outcome.status << outcome.out;
  EXPECT_NE((outcome.out + outcome.err).find("page"), std::string::npos)
      << outcome.out << outcome.err;
  EXPECT_NE(basalt({"cat", store, "/file"}).status, 0);
}

TEST_F(CheckTest, RepairMakesAStoreWithTwinsCleanAgain) {
  const std::string store = make_store();
  must({"put", store, "-", "/file"}, "bytes");
  EXPECT_EQ(json::parse(must({"check", "--repair", "--json", store}))["repairs"].size(), 0u);
  const MetadataRun run = find_metadata(must({"dump", store}));
  damage(path("store.img"), run.second_copy * kBlockBytes, run.pages * kBlockBytes);
  damage(path("store.img"), 0, kBlockBytes);
  const json report = json::parse(must({"check", "--repair", "--json", store}));
  EXPECT_EQ(report["clean"], true);
  EXPECT_EQ(report["problems"].size(), 0u);
  EXPECT_EQ(report["notes"].size(), 0u);
  const size_t pages = report["metadata_pages"];
  ASSERT_EQ(report["repairs"].size(), pages + 1);
  EXPECT_TRUE(report["repairs"][0].get<std::string>().starts_with("metadata page "));
  EXPECT_TRUE(report["repairs"][pages].get<std::string>().starts_with("superblock 0 (byte 0): "));
  const json checked = json::parse(must({"check", "--json", store}));
  EXPECT_EQ(checked["notes"].size(), 0u);
  EXPECT_EQ(checked["repairs"].size(), 0u);
  EXPECT_EQ(must({"cat", store, "/file"}), "bytes");
}

TEST_F(CheckTest, RepairSaysWhatItDid) {
  const std::string store = make_store();
  damage(path("store.img"), 0, kBlockBytes);
  const std::string out = must({"check", "--repair", store});
  EXPECT_TRUE(
      out.starts_with("repaired: superblock 0 (byte 0): no Basalt store here (magic not "
                      "found); rewrote its 4096 B from superblock 1 (byte 8388608), as "
                      "generation "))
      << out;
  EXPECT_NE(out.find("\nclean: "), std::string::npos) << out;
}

TEST_F(CheckTest, RepairLeavesWhatHasNoTwin) {
  const std::string store = make_store();
  must({"put", store, "-", "/file"}, "bytes");
  const MetadataRun run = find_metadata(must({"dump", store}));
  damage(path("store.img"), run.first_copy * kBlockBytes, run.pages * kBlockBytes);
  damage(path("store.img"), run.second_copy * kBlockBytes, run.pages * kBlockBytes);
  const std::string before = read_local(path("store.img"));
  const Outcome outcome = basalt({"check", "--repair", store});
  EXPECT_EQ(outcome.status, 1) << outcome.out << outcome.err;
  EXPECT_NE(outcome.out.find("all catalog entries cannot be read"), std::string::npos)
      << outcome.out;
  const Outcome with_json = basalt({"check", "--repair", "--json", store});
  EXPECT_EQ(with_json.status, 1);
  const json report = json::parse(with_json.out);
  EXPECT_EQ(report["clean"], false);
  EXPECT_GT(report["problems"].size(), 0u);
  EXPECT_EQ(report["repairs"].size(), 0u);
  EXPECT_TRUE(read_local(path("store.img")) == before);
}

TEST_F(CheckTest, RepairOfNoStoreCannotBeDone) {
  write_local("zeros", std::string(64 << 20, '\0'));
  EXPECT_EQ(basalt({"check", "--repair", "file:" + path("zeros").string()}).status, 2);
  EXPECT_EQ(basalt({"check", "--repair", "file:" + path("absent").string()}).status, 2);
}

TEST_F(CheckTest, RepairKeepsOffAStoreInUse) {
  const std::string store = make_store();
  const int file = ::open(path("store.img").c_str(), O_RDONLY | O_CLOEXEC);
  ASSERT_EQ(::flock(file, LOCK_SH), 0);  // as a reader of the store has it
  const Outcome outcome = basalt({"check", "--repair", store});
  EXPECT_EQ(outcome.status, 2);
  EXPECT_NE(outcome.err.find("in use"), std::string::npos) << outcome.err;
  EXPECT_EQ(basalt({"check", store}).status, 0);
  ::close(file);
  EXPECT_EQ(basalt({"check", "--repair", store}).status, 0);
}

TEST_F(CheckTest, HelpTellsOfRepairing) {
  const std::string help = must({"check", "--help"});
  EXPECT_NE(help.find("--repair"), std::string::npos);
  EXPECT_NE(help.find("all repaired"), std::string::npos);
}

TEST_F(CheckTest, DumpShowsNames) {
  const std::string store = make_store();
  must({"put", store, "-", "/a-name-to-find"}, "bytes");
  const std::string text = must({"dump", store});
  EXPECT_NE(text.find("a-name-to-find"), std::string::npos) << text.substr(0, 2000);
}

}  // namespace
}  // namespace basalt::test
