// Goal: RocksDB's names become the paths and kinds they should. Method: tables of input and output.
#include "rocksdb_env/names.h"

#include <gtest/gtest.h>

namespace basalt::rocksdb_env {
namespace {

TEST(Names, NormalizesPaths) {
  const std::pair<const char*, const char*> cases[] = {
      {"/", "/"},           {"", "/"},
      {"/db", "/db"},       {"db", "/db"},
      {"/db/", "/db"},      {"//db//x", "/db/x"},
      {"/db/./x", "/db/x"}, {".", "/"},
      {"/db/../x", "/x"},   {"/..", "/"},
      {"/../../x", "/x"},   {"/a/b/../../c/", "/c"},
      {"a/..", "/"},        {"/a/...", "/a/..."},
      {"/a/..b", "/a/..b"},
  };
  for (const auto& [input, output] : cases) EXPECT_EQ(normalize_path(input), output) << input;
}

TEST(Names, FindsParents) {
  EXPECT_EQ(parent_path("/db"), "/");
  EXPECT_EQ(parent_path("/db/x"), "/db");
  EXPECT_EQ(parent_path("/a/b/c"), "/a/b");
}

TEST(Names, TellsLogsFromTables) {
  for (const char* log : {"/db/000004.log", "/db/MANIFEST-000005", "/db/LOG", "/logs/db_LOG",
                          "/db/archive/000004.log", "/LOG"}) {
    EXPECT_EQ(file_kind_of(log), FileKind::log) << log;
  }
  for (const char* table :
       {"/db/000004.sst", "/db/CURRENT", "/db/OPTIONS-000007", "/db/000001.dbtmp",
        "/db/000009.blob", "/db.log/000004.sst", "/db/IDENTITY", "/db/LOCK",
        "/backup/private/1.tmp/CURRENT", "/db/CATALOG"}) {
    EXPECT_EQ(file_kind_of(table), FileKind::table) << table;
  }
}

}  // namespace
}  // namespace basalt::rocksdb_env
