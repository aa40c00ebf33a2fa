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
  EXPECT_NE(whole.err.find("say which namespace, as"), std::string::npos) << whole.err;
}

TEST_F(NvmeCommandTest, ResetAndErrorLogAnswer) {
  serve();
  must({"nvme", "reset", controller_});
  EXPECT_TRUE(must_json({"nvme", "error-log", "--json", controller_}).is_array());
}

TEST_F(NvmeCommandTest, FeaturesAreReadAndChanged) {
  nvme::model::ModelOptions options = one_namespace();
  options.volatile_cache = true;
  serve(options);
  EXPECT_EQ(must({"nvme", "get-feature", controller_, "--feature-id", "6"}), "0x00000001\n");
  EXPECT_EQ(must_json({"nvme", "get-feature", controller_, "-f", "0x04", "--json"}),
            (json{{"feature", 4}, {"value", 343}}));
  must({"nvme", "set-feature", controller_, "-f", "4", "--value", "350"});
  const Outcome saved =
      basalt({"nvme", "set-feature", controller_, "-f", "4", "-v", "1", "--save"});
  EXPECT_EQ(saved.status, 1);
  EXPECT_NE(saved.err.find("set features (0x09): "), std::string::npos) << saved.err;
  EXPECT_EQ(basalt({"nvme", "get-feature", controller_, "-f", "256"}).status, 2);
}

TEST_F(NvmeCommandTest, AnyCommandIsPassedOn) {
  serve();
  // Identify controller; the model's name begins at byte 24.
  const std::string identity = must({"nvme", "admin-passthru", controller_, "--opcode", "0x06",
                                     "--cdw10", "1", "--data-len", "4K", "--raw-binary"});
  ASSERT_EQ(identity.size(), 4096u);
  EXPECT_EQ(identity.substr(24, 23), "Basalt controller model");
  const std::string text = must({"nvme", "admin-passthru", controller_, "--opcode", "0x06",
                                 "--cdw10", "1", "--data-len", "32"});
  EXPECT_NE(text.find("result: 0x00000000\n0000: "), std::string::npos) << text;
  // Three blocks are written, and read back.
  const std::string blocks(1536, 'x'), space = controller_ + "/1";
  const std::vector<std::string> write = {"nvme", "io-passthru", space, "--opcode",
                                          "1",    "--cdw10",     "8",   "--cdw12",
                                          "2",    "--data-len",  "1536"};
  const Outcome refused = basalt(write, blocks);
  EXPECT_EQ(refused.status, 1);
  EXPECT_NE(refused.err.find("say --force"), std::string::npos) << refused.err;
  std::vector<std::string> forced = write;
  forced.emplace_back("--force");
  must(forced, blocks);
  EXPECT_EQ(must({"nvme", "io-passthru", space, "--opcode", "2", "--cdw10", "8", "--cdw12", "2",
                  "--data-len", "1536", "--raw-binary"}),
            blocks);
  const Outcome beyond = basalt(
      {"nvme", "io-passthru", space, "--opcode", "2", "--cdw10", "131072", "--data-len", "512"});
  EXPECT_EQ(beyond.status, 1);
  EXPECT_NE(beyond.err.find("read of namespace 1, LBA 131072+1: LBA out of range"),
            std::string::npos)
      << beyond.err;
  for (const std::vector<std::string>& words :
       {std::vector<std::string>{"--opcode", "0x80", "--data-len", "512"},
        {"--opcode", "0x06", "--data-len", "1G"},
        {"--opcode", "0x07"},
        {"--opcode", "0x06", "--input-file", "/dev/null"}}) {
    std::vector<std::string> command = {"nvme", "admin-passthru", controller_};
    command.insert(command.end(), words.begin(), words.end());
    EXPECT_EQ(basalt(command).status, 1) << words[1];
  }
}

TEST_F(NvmeCommandTest, WhatAControllerCannotDoItSays) {
  serve();
  const std::string space = controller_ + "/1";
  for (const std::vector<std::string>& command :
       {std::vector<std::string>{"sanitize", controller_, "--force"},
        {"fw-commit", controller_, "--slot", "2"},
        {"create-ns", controller_, "--nsze", "100"},
        {"delete-ns", space, "--force"},
        {"attach-ns", space},
        {"resv-register", space, "--nrkey", "7"},
        {"resv-report", space},
        {"sanitize-log", controller_}}) {
    std::vector<std::string> words = {"nvme"};
    words.insert(words.end(), command.begin(), command.end());
    const Outcome outcome = basalt(words);
    EXPECT_EQ(outcome.status, 1) << command[0];
    EXPECT_NE(outcome.err.find("invalid"), std::string::npos) << command[0] << ": " << outcome.err;
  }
  for (const char* command : {"sanitize", "ana-log"}) {
    EXPECT_EQ(basalt({"nvme", command, controller_}).status, 1) << command;
  }
  EXPECT_EQ(basalt({"nvme", "delete-ns", space}).status, 1) << "without --force";
  EXPECT_EQ(basalt({"nvme", "zones", space}).status, 1);
  EXPECT_EQ(must({"nvme", "list-ns", controller_}), "1\n");
  EXPECT_TRUE(must_json({"nvme", "fw-log", "--json", controller_}).contains("afi"));
  const Outcome no_namespace = basalt({"nvme", "zones", controller_});
  EXPECT_NE(no_namespace.err.find("say which namespace"), std::string::npos) << no_namespace.err;
}

TEST_F(NvmeCommandTest, PathsSayHowTheyReachANamespace) {
  nvme::TcpTarget target({.reports_access = true});
  const std::string place = "nvme:tcp:" + target.address() + "/nqn.2014-08.org.example:disk";
  EXPECT_EQ(must({"nvme", "ana-log", place}), "namespace 1: optimized\n");
  target.set_access(nvme::AccessState::non_optimized);
  EXPECT_EQ(must_json({"nvme", "ana-log", "--json", place}),
            (json::array({{{"nsid", 1}, {"state", "non-optimized"}}})));
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
