// Goal: shells complete basalt's command lines: commands, options, values, device URIs, a daemon's methods.
// Method: the program's answers; then bash itself with the function the program prints, told of lines as readline would.
#include <sys/socket.h>
#include <sys/un.h>

#include <chrono>
#include <cstring>
#include <sstream>

#include "base/unique_fd.h"
#include "targets/rpc/server.h"
#include "test/nvme/kept_log.h"
#include "test/tool/tool_fixture.h"

namespace basalt::test {
namespace {

class CompletionTest : public ToolTest {
 protected:
  // What may follow the words; the first line says whether files will do.
  std::string completed(std::vector<std::string> words) {
    words.insert(words.begin(), {"complete", "--"});
    return must(std::move(words));
  }
  // Whether `line` is among them.
  static bool has(const std::string& lines, const std::string& line) {
    return ("\n" + lines).find("\n" + line + "\n") != std::string::npos;
  }
  // What bash offers for a line, of which `words` are its words (it breaks them at ':' and '=', too).
  std::string in_bash(const std::string& line, const std::vector<std::string>& words) {
    std::string script = "source <(\"$0\" completion bash)\nCOMP_WORDS=(\"$0\"";
    for (const std::string& word : words) script += " '" + word + "'";
    script += ")\nCOMP_CWORD=" + std::to_string(words.size()) + "\nCOMP_LINE=\"$0 " + line +
              "\"\nCOMP_POINT=${#COMP_LINE}\n_basalt\nprintf '%s\\n' \"${COMPREPLY[@]}\"\n";
    const Outcome outcome = run_program({"bash", "--norc", "-c", script, BASALT_TOOL});
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    EXPECT_EQ(outcome.err, "");
    return outcome.out;
  }
};

TEST_F(CompletionTest, OffersCommands) {
  const std::string all = completed({""});
  for (const char* command : {"mkfs", "scrub", "nvme", "rpc", "completion"}) {
    EXPECT_TRUE(has(all, command)) << command;
  }
  EXPECT_FALSE(has(all, "complete")) << "it is for the shells";
  EXPECT_EQ(completed({"mk"}), "words\nmkdir\nmkfs\n");
  EXPECT_TRUE(has(completed({"nvme", "id"}), "identify"));
  EXPECT_FALSE(has(completed({"nvme", ""}), "mkfs"));
  EXPECT_EQ(completed({"nonsense", "mk"}), "words\n");
}

// Goal: every option that help shows is offered, so a new one is without anybody's doing.
TEST_F(CompletionTest, OffersEveryOption) {
  for (const char* command : {"mkfs", "bench", "run", "scrub", "rpc"}) {
    std::istringstream help(must({command, "--help"}));
    const std::string offered = completed({command, "file:/x", "-"});
    size_t count = 0;
    for (std::string line; std::getline(help, line);) {
      const size_t at = line.find("--");
      if (!line.starts_with("  -") || at == std::string::npos) continue;
      const std::string option = line.substr(at, line.find_first_of(" ,", at) - at);
      EXPECT_TRUE(has(offered, option)) << command << " " << option << ": " << offered;
      ++count;
    }
    EXPECT_GE(count, 2u) << command;
  }
  EXPECT_EQ(completed({"bench", "--rea"}), "words\n--read-percent\n");
  EXPECT_EQ(completed({"run", "file:/x", "--", "-"}), "files\n") << "those are the program's";
}

TEST_F(CompletionTest, OffersValues) {
  EXPECT_EQ(completed({"bench", "ram:1G", "randr"}), "words\nrandread\nrandrw\n");
  EXPECT_EQ(completed({"bench", "--depth", "4", "ram:1G", "randre"}), "words\nrandread\n");
  EXPECT_EQ(completed({"completion", ""}), "words\nbash\nzsh\n");
  const std::string how = completed({"nvme", "sanitize", "nvme:pci:x", "--sanact", "bl"});
  EXPECT_EQ(how, "words\nblock-erase\n");
  EXPECT_EQ(completed({"nvme", "sanitize", "--sanact=bl"}), "words\n--sanact=block-erase\n");
  EXPECT_EQ(completed({"put", "ram:1G", "/etc/h"}), "files\n");
}

TEST_F(CompletionTest, OffersDevices) {
  const std::string all = completed({"info", ""});
  EXPECT_TRUE(all.starts_with("files\n"));
  for (const char* scheme : {"file:", "ram:", "nvme:", "delay:"}) {
    EXPECT_TRUE(has(all, scheme)) << all;
  }
  EXPECT_EQ(completed({"info", "nvme:"}), "files\nnvme:pci:\nnvme:tcp:\nnvme:vfio-user:\n");
  EXPECT_EQ(completed({"nvme", "identify", "nvme:v"}), "files\nnvme:vfio-user:\n");
  EXPECT_EQ(completed({"info", "file:/tm"}), "files\n") << "the shell knows files";
}

// Goal: methods are asked of the daemon; without one there are none, and with one that is silent the shell does not wait.
TEST_F(CompletionTest, OffersTheDaemonsMethods) {
  const std::string socket = path("rpc.sock").string();
  EXPECT_EQ(completed({"rpc", "-s", socket, "bdev_"}), "words\n");
  rpc::Dispatcher dispatcher;
  dispatcher.add("rpc_get_methods", [](rpc::Params&) -> Result<rpc::Json> {
    return rpc::Json::array({"bdev_get_bdevs", "bdev_get_iostat", "nvmf_get_stats"});
  });
  nvme::KeptLog log;
  const auto server = rpc::RpcServer::create(socket, dispatcher, log);
  ASSERT_TRUE(server) << server.error().to_string();
  const std::string expected = "words\nbdev_get_bdevs\nbdev_get_iostat\n";
  EXPECT_EQ(completed({"rpc", "-s", socket, "bdev_"}), expected);
  EXPECT_EQ(completed({"rpc", "--socket=" + socket, "bdev_"}), expected);
  EXPECT_EQ(completed({"rpc", "-s", socket, "bdev_get_bdevs", ""}), "words\n");
}

TEST_F(CompletionTest, DoesNotWaitForADaemon) {
  const std::string socket = path("silent.sock").string();
  const UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, socket.c_str(), sizeof address.sun_path - 1);
  ASSERT_EQ(::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(::listen(listener.get(), 4), 0);
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(completed({"rpc", "-s", socket, "bdev_"}), "words\n");
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(15));
}

TEST_F(CompletionTest, BashSourcesIt) {
  EXPECT_EQ(in_bash("mk", {"mk"}), "mkdir\nmkfs\n");
  EXPECT_TRUE(has(in_bash("nvme id", {"nvme", "id"}), "identify"));
  EXPECT_TRUE(has(in_bash("bench ", {"bench", ""}), "file:"));
  // Only what follows the last break is bash's to replace.
  EXPECT_EQ(in_bash("info nvme:t", {"info", "nvme", ":", "t"}), "tcp:\n");
  EXPECT_EQ(in_bash("info nvme:", {"info", "nvme", ":"}), "pci:\ntcp:\nvfio-user:\n");
  EXPECT_EQ(in_bash("nvme sanitize --sanact=bl", {"nvme", "sanitize", "--sanact", "=", "bl"}),
            "block-erase\n");
  EXPECT_EQ(in_bash("bench ram:1G randre", {"bench", "ram", ":", "1G", "randre"}), "randread\n");
  EXPECT_EQ(in_bash("put ram:1G /etc/h", {"put", "ram", ":", "1G", "/etc/h"}), "\n");
  EXPECT_TRUE(must({"completion", "zsh"}).starts_with("#compdef basalt\n"));
  EXPECT_EQ(basalt({"completion", "fish"}).status, 2);
}

}  // namespace
}  // namespace basalt::test
