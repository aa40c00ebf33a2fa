// Goal: `basalt bench` drives devices, reports what it did, and does not destroy what it finds.
#include <nlohmann/json.hpp>

#include "test/tool/tool_fixture.h"

namespace basalt::test {
namespace {

using BenchTest = ToolTest;
using nlohmann::json;

TEST_F(BenchTest, ReadsAtRandom) {
  const json result =
      json::parse(must({"bench", "ram:16M", "randread", "-q", "8", "-s", "0.1", "--json"}));
  EXPECT_GT(result["read"]["count"], 100);
  EXPECT_EQ(result["write"]["count"], 0);
  EXPECT_EQ(result["errors"], 0);
  EXPECT_GT(result["read"]["iops"], 0.0);
  EXPECT_LE(result["read"]["latency"]["p50_us"], result["read"]["latency"]["p99_us"]);
}

TEST_F(BenchTest, MixesWritesAndFlushes) {
  const json result = json::parse(must({"bench", "ram:16M", "randrw", "--read-percent", "50",
                                        "--flush-every", "10", "-t", "2", "-s", "0.1", "--json"}));
  const double reads = result["read"]["count"], writes = result["write"]["count"];
  EXPECT_GT(reads / writes, 0.8);
  EXPECT_LT(reads / writes, 1.25);
  EXPECT_NEAR(result["flush"]["count"].get<double>() * 10, writes, 0.05 * writes + 100);
}

TEST_F(BenchTest, WritesAFileInOrder) {
  const std::string uri = "file:" + path("bench.img").string() + "?size=16M";
  const json result =
      json::parse(must({"bench", uri, "write", "-b", "64K", "-q", "4", "-s", "0.2", "--json"}));
  EXPECT_GT(result["write"]["count"], 0);
  EXPECT_EQ(result["read"]["count"], 0);
  EXPECT_EQ(result["errors"], 0);
}

TEST_F(BenchTest, WillNotWriteOverAStore) {
  const std::string store = make_store();
  must({"put", store, "-", "/precious"}, "bytes");
  const Outcome refused = basalt({"bench", store, "randwrite", "-s", "0.1"});
  EXPECT_EQ(refused.status, 1);
  EXPECT_NE(refused.err.find("--force"), std::string::npos) << refused.err;
  EXPECT_EQ(must({"cat", store, "/precious"}), "bytes");
  must({"bench", store, "randread", "-s", "0.1"});
  EXPECT_EQ(basalt({"bench", store, "randwrite", "--force", "-s", "0.1"}).status, 0);
}

TEST_F(BenchTest, RefusesSizesThatDoNotFit) {
  EXPECT_EQ(basalt({"bench", "ram:16M", "-b", "1000"}).status, 1);
  EXPECT_EQ(basalt({"bench", "ram:16M", "--region", "1G"}).status, 1);
  EXPECT_EQ(basalt({"bench", "ram:16M", "-q", "0"}).status, 2);
  EXPECT_EQ(basalt({"bench", "ram:16M", "sideways"}).status, 2);
}

}  // namespace
}  // namespace basalt::test
