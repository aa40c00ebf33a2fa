// Goal: `basalt run` starts a stock RocksDB tool on the store, and refuses, with status 125 and a
// reason, whenever the tool would not use the plugin.
// Method: the distribution's db_bench and ldb, and copies of programs made unfit in one way each.
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "test/tool/tool_fixture.h"

#ifdef BASALT_PLUGIN

namespace basalt::test {
namespace {

constexpr int kRefused = 125;

class RunTest : public ToolTest {
 protected:
  // Expects a refusal whose reason has `reason` in it.
  void expect_refused(std::vector<std::string> words, const std::string& reason) {
    words.insert(words.begin(), "run");
    const Outcome outcome = basalt(std::move(words));
    EXPECT_EQ(outcome.status, kRefused) << outcome.err;
    EXPECT_NE(outcome.err.find(reason), std::string::npos) << outcome.err;
    EXPECT_EQ(outcome.out, "");
  }

  std::string new_store_uri() const { return "file:" + path("db.img").string(); }
};

TEST_F(RunTest, DbBenchWritesIntoTheStore) {
  const std::string uri = new_store_uri();
  const Outcome wrote = basalt({"run", uri, "--create", "256M", "--", "db_bench",
                                "--benchmarks=fillseq", "--num=1000", "--db=/db"});
  ASSERT_EQ(wrote.status, 0) << wrote.err;
  EXPECT_NE(wrote.out.find("fillseq"), std::string::npos);
  EXPECT_NE(must({"ls", uri, "/db"}).find("CURRENT\n"), std::string::npos);

  const Outcome read =
      basalt({"run", uri, "--cache", "16M", "--", "db_bench", "--benchmarks=readseq", "--num=1000",
              "--db=/db", "--use_existing_db=1"});
  ASSERT_EQ(read.status, 0) << read.err;
  EXPECT_NE(read.out.find("readseq"), std::string::npos);
  EXPECT_EQ(basalt({"check", uri}).status, 0);
}

TEST_F(RunTest, PassesTheToolsStatusOn) {
  const std::string uri = make_store();
  EXPECT_EQ(basalt({"run", uri, "--", "ldb", "--db=/none", "scan"}).status,
            run_program({"ldb", "--db=/none-at-all", "scan"}).status);
}

TEST_F(RunTest, PrintsInsteadOfRunning) {
  const std::string text = must({"run", "file:/tmp/never.img", "--create", "1G", "--cache", "64M",
                                 "--print", "--", "ldb", "--db=/db", "scan"});
  EXPECT_NE(text.find("LD_PRELOAD="), std::string::npos) << text;
  EXPECT_NE(
      text.find("'--fs_uri=basalt://file:/tmp/never.img?cache=64M&create=1G' '--db=/db' 'scan'"),
      std::string::npos)
      << text;
  EXPECT_FALSE(std::filesystem::exists("/tmp/never.img"));
}

TEST_F(RunTest, RefusesAnotherFileSystem) {
  const std::string uri = make_store();
  for (const char* option :
       {"--fs_uri=basalt://ram:1G", "-fs_uri=x", "--env_uri=posix://", "--flagfile=flags"}) {
    expect_refused({uri, "--", "db_bench", option}, "another file system");
  }
}

TEST_F(RunTest, RefusesUnknownTools) {
  const std::string uri = make_store();
  expect_refused({uri, "--", "ls", "-l"}, "not known to take --fs_uri");
  expect_refused({uri, "--", "no_such_program_anywhere"}, "no program");
}

TEST_F(RunTest, RefusesScripts) {
  const std::string script = write_local("db_bench", "#!/bin/sh\nexec true\n");
  chmod(script.c_str(), 0755);
  expect_refused({make_store(), "--", script}, "not an ELF program");
}

TEST_F(RunTest, RefusesSetuidPrograms) {
  const Outcome found = run_program({"sh", "-c", "command -v db_bench"});
  ASSERT_EQ(found.status, 0) << "rocksdb-tools is not installed";
  std::filesystem::copy_file(found.out.substr(0, found.out.size() - 1), path("db_bench"));
  chmod(path("db_bench").c_str(), 04755);
  expect_refused({make_store(), "--", path("db_bench").string()}, "setuid");
}

TEST_F(RunTest, RefusesProgramsWithoutTheSharedRocksdb) {
  std::filesystem::copy_file(std::filesystem::canonical("/bin/sh"), path("ldb"));
  expect_refused({make_store(), "--", path("ldb").string()}, "librocksdb");
}

TEST_F(RunTest, RefusesWithoutALoadablePlugin) {
  const std::string uri = make_store();
  expect_refused({uri, "--plugin", path("absent.so").string(), "--", "db_bench"}, "was not found");
  const std::string garbage = write_local("garbage.so", "not a library");
  expect_refused({uri, "--plugin", garbage, "--", "db_bench"}, "not an ELF program");
}

TEST_F(RunTest, RefusesABrokenPlugin) {
  std::filesystem::copy_file(BASALT_PLUGIN, path("cut.so"));
  std::filesystem::resize_file(path("cut.so"), 70000);
  const Outcome outcome =
      basalt({"run", make_store(), "--plugin", path("cut.so").string(), "--", "db_bench"});
  EXPECT_EQ(outcome.status, kRefused) << outcome.err;
}

TEST_F(RunTest, RefusesABadUri) { expect_refused({"file:/tmp/a?%", "--", "db_bench"}, "%"); }

}  // namespace
}  // namespace basalt::test

#endif  // BASALT_PLUGIN
