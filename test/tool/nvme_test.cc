// Goal: `basalt nvme` shows and changes a controller, refuses what would lose data, and the other commands take nvme:
// URIs like any other.
// Method: the real program, and a controller model that this process serves over vfio-user.
#include <nlohmann/json.hpp>

#include "nvme/served_controller.h"
#include "nvme/tcp_target.h"
#include "test/tool/tool_fixture.h"

namespace basalt::test {
namespace {

using nlohmann::json;

class NvmeCommandTest : public ToolTest {
 protected:
  static nvme::model::ModelOptions one_namespace() {
    nvme::model::ModelOptions options;
    options.namespaces = {{.block_count = 131072, .block_size = 512}};
    return options;
  }
  void serve(const nvme::model::ModelOptions& options = one_namespace()) {
    served_ = std::make_unique<nvme::ServedController>(path("").string(), options);
    controller_ = "nvme:vfio-user:" + served_->path;
  }
  json must_json(std::vector<std::string> words) { return json::parse(must(std::move(words))); }

  std::unique_ptr<nvme::ServedController> served_;
  std::string controller_;
};

TEST_F(NvmeCommandTest, ListIsJsonWhereAsked) {
  EXPECT_TRUE(must_json({"nvme", "list", "--json"}).is_array());
}

TEST_F(NvmeCommandTest, IdentifySpeaksLikeNvmeCli) {
  serve();
  const json controller = must_json({"nvme", "identify", "--json", controller_});
  for (const char* name : {"vid", "sn", "mn", "fr", "mdts", "oncs", "vwc", "subnqn"}) {
    EXPECT_TRUE(controller.contains(name)) << name;
  }
  EXPECT_EQ(controller["namespaces"][0]["nsid"], 1);
  EXPECT_EQ(controller["namespaces"][0]["block_bytes"], 512);
  const json space = must_json({"nvme", "identify", "--json", controller_ + "/1"});
  EXPECT_EQ(space["nsze"], 131072);
  EXPECT_EQ(space["lbafs"][0]["ds"], 9);
  const std::string text = must({"nvme", "identify", controller_ + "/1"});
  EXPECT_NE(text.find("nsze   : 131072\n"), std::string::npos) << text;
  EXPECT_NE(text.find("0: ms:0 lbads:9 rp:1 (in use)"), std::string::npos) << text;
}

TEST_F(NvmeCommandTest, SmartCountsWhatWasRead) {
  serve();
  const json before = must_json({"nvme", "smart", "--json", controller_});
  EXPECT_GT(before["temperature"], 273);
  must({"bench", controller_ + "/1", "randread", "--seconds", "0.2"});
  const json after = must_json({"nvme", "smart", "--json", controller_});
  EXPECT_GT(after["host_read_commands"], before["host_read_commands"]);
}

TEST_F(NvmeCommandTest, FormatAsksFirstAndChangesTheBlockSize) {
  serve();
  const std::string space = controller_ + "/1";
  const Outcome asked = basalt({"nvme", "format", space, "--block-size", "4096"});
  EXPECT_EQ(asked.status, 1);
  EXPECT_NE(asked.err.find("format erases namespace 1, 64.0 MiB; say --force"), std::string::npos)
      << asked.err;
  EXPECT_EQ(must_json({"nvme", "identify", "--json", space})["lbafs"][0]["ds"], 9);
  EXPECT_EQ(must({"nvme", "format", space, "--block-size", "4K", "--force"}),
            "formatted with blocks of 4096 B\n");
  EXPECT_EQ(must_json({"nvme", "identify", "--json", controller_})["namespaces"][0]["block_bytes"],
            4096);
  const Outcome strange = basalt({"nvme", "format", space, "--block-size", "1000", "--force"});
  EXPECT_EQ(strange.status, 1);
  EXPECT_NE(strange.err.find("formats without metadata of: 512, 4096 B"), std::string::npos)
      << strange.err;
  const Outcome whole = basalt({"nvme", "format", controller_, "--force"});
  EXPECT_NE(whole.err.find("say which namespace to format"), std::string::npos) << whole.err;
}

TEST_F(NvmeCommandTest, ResetAndErrorLogAnswer) {
  serve();
  must({"nvme", "reset", controller_});
  EXPECT_TRUE(must_json({"nvme", "error-log", "--json", controller_}).is_array());
}

TEST_F(NvmeCommandTest, WhatIsNoControllerIsRefused) {
  const Outcome outcome = basalt({"nvme", "identify", "sda"});
  EXPECT_EQ(outcome.status, 1);
  EXPECT_NE(outcome.err.find("expected nvme:pci:ADDRESS, nvme:vfio-user:SOCKET or nvme:tcp:"),
            std::string::npos)
      << outcome.err;
  EXPECT_EQ(basalt({"nvme", "bind", "nvme0"}).status, 1);
  EXPECT_EQ(basalt({"nvme"}).status, 2);
}

TEST_F(NvmeCommandTest, AStoreLivesOnANamespace) {
  nvme::model::ModelOptions options;
  options.namespaces = {{.block_count = 16384, .block_size = 4096},
                        {.block_count = 131072, .block_size = 512}};
  options.volatile_cache = true;
  serve(options);
  const std::string bytes(300'000, 'b');
  for (const char* space : {"/1", "/2"}) {
    const std::string store = controller_ + space;
    must({"mkfs", store});
    must({"put", store, "-", "/file"}, bytes);
    EXPECT_EQ(must({"cat", store, "/file"}), bytes);
    must({"check", store});
  }
}

TEST_F(NvmeCommandTest, ATargetIsDiscoveredAndHoldsAStore) {
  nvme::TcpTarget target;
  const std::string place = "nvme:tcp:" + target.address() + "/nqn.2014-08.org.example:disk";
  const json found = must_json({"nvme", "discover", "--json", target.address()});
  ASSERT_EQ(found["records"].size(), 2u);
  EXPECT_EQ(found["records"][1]["trtype"], "tcp");
  EXPECT_EQ(found["records"][1]["subnqn"], "nqn.2014-08.org.example:disk");
  EXPECT_NE(must({"nvme", "discover", target.address()}).find(place + "\n"), std::string::npos);
  EXPECT_EQ(must_json({"nvme", "identify", "--json", place})["sn"], "TCP1");
  const std::string bytes(300'000, 'b');
  const std::string store = place + "/1?data_digest";
  must({"mkfs", store});
  must({"put", store, "-", "/file"}, bytes);
  EXPECT_EQ(must({"cat", place + "/1?discover&header_digest", "/file"}), bytes);
  must({"check", store});
  const Outcome missing =
      basalt({"ls", "nvme:tcp:" + target.address() + "/nqn.2014-08.org.example:none/1?discover"});
  EXPECT_EQ(missing.status, 1);
  EXPECT_NE(
      missing.err.find("there are: nqn.2014-08.org.example:other, nqn.2014-08.org.example:disk"),
      std::string::npos)
      << missing.err;
}

}  // namespace
}  // namespace basalt::test
