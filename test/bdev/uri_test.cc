// Device URIs: what is accepted and how it is written back; that errors name the place and the
// remedy; sizes; options and their owner.
#include "bdev/uri.h"

#include <gtest/gtest.h>

#include <random>

#include "bdev/sized_uri.h"

namespace basalt {
namespace {

std::string message_of(std::string_view text) {
  const auto uri = parse_uri(text);
  return uri ? "accepted as " + uri->to_string() : std::string(uri.error().message());
}

// Goal: each form of the grammar parses, and its canonical text is as expected and parses the same.
TEST(Uri, WritesBackCanonically) {
  struct Row {
    const char* text;
    const char* canonical;
  };
  const Row rows[] = {
      {"ram:4G", "ram:4G"},
      {"ram:", "ram:"},
      {"file:/path/to a/file", "file:/path/to a/file"},
      {"file:/a%3Fb%28c%29%25", "file:/a%3Fb%28c%29%25"},
      {"file:/%41", "file:/A"},
      {"file:/a%0a", "file:/a%0A"},
      {"file:/path?size=64G&direct=0", "file:/path?direct=0&size=64G"},
      {"file:/a,b=c&d", "file:/a,b=c&d"},
      {"file:/p?key=", "file:/p?key="},
      {"file:/p?key=a?b=c%26d", "file:/p?key=a?b=c%26d"},
      {"nvme:tcp:[::1]:4420/nqn.2014-08.org:disk/1", "nvme:tcp:[::1]:4420/nqn.2014-08.org:disk/1"},
      {"nvme:pci:0000:01:00.0/1", "nvme:pci:0000:01:00.0/1"},
      {"part:(ram:4G)", "part:(ram:4G)"},
      {"part:(ram:4G?block=512)?size=1G&offset=1M", "part:(ram:4G?block=512)?offset=1M&size=1G"},
      {"mirror:(file:/a),(part:(file:/b)?offset=1),(null:1T)?read=first",
       "mirror:(file:/a),(part:(file:/b)?offset=1),(null:1T)?read=first"},
      {"vfio-user.x+2:/sock", "vfio-user.x+2:/sock"},
  };
  for (const Row& row : rows) {
    const auto uri = parse_uri(row.text);
    ASSERT_TRUE(uri) << uri.error().to_string();
    EXPECT_EQ(uri->to_string(), row.canonical);
    const auto again = parse_uri(uri->to_string());
    ASSERT_TRUE(again) << again.error().to_string();
    EXPECT_EQ(*again, *uri);
    EXPECT_EQ(again->to_string(), row.canonical);
  }
}

// Goal: the parts are where they belong, decoded, with their positions.
TEST(Uri, ParsesParts) {
  const auto uri = parse_uri("mirror:(file:/a%20b?size=1G),(ram:2G)?read=fast&x=");
  ASSERT_TRUE(uri);
  EXPECT_EQ(uri->scheme, "mirror");
  EXPECT_EQ(uri->argument, "");
  ASSERT_EQ(uri->children.size(), 2u);
  EXPECT_EQ(uri->children[0].scheme, "file");
  EXPECT_EQ(uri->children[0].argument, "/a b");
  EXPECT_EQ(*uri->children[0].find("size"), "1G");
  EXPECT_EQ(uri->children[1].position, 30u);
  ASSERT_EQ(uri->options.size(), 2u);
  EXPECT_EQ(uri->options[0].key, "read");
  EXPECT_EQ(uri->options[0].position, 38u);
  EXPECT_EQ(uri->options[1].value, "");
  EXPECT_EQ(uri->find("size"), nullptr);
}

// Goal: errors say at which character, what was wrong and what would be right.
TEST(Uri, ExplainsErrors) {
  struct Row {
    const char* text;
    const char* where;
    const char* what;
  };
  const Row rows[] = {
      {"", "character 0", "begins with its scheme"},
      {"/dev/sdb", "character 0", "begins with its scheme"},
      {"File:/a", "character 0", "lower case"},
      {"4x:/a", "character 0", "begins with its scheme"},
      {"file", "character 4", "expected ':'"},
      {"file/a", "character 4", "expected ':'"},
      {"file:/a(b", "character 7", "%28"},
      {"file:/a)", "character 7", "%29"},
      {"file:/a%", "character 7", "%25"},
      {"file:/a%4", "character 7", "hexadecimal"},
      {"file:/a%zz", "character 7", "hexadecimal"},
      {"file:/a\nb", "character 7", "%0A"},
      {"file:/a?", "character 8", "key=value"},
      {"file:/a?size:", "character 12", "expected '='"},
      {"file:/a?Size=1", "character 8", "lower case"},
      {"file:/a?=1", "character 8", "key=value"},
      {"file:/a?size=1&", "character 15", "key=value"},
      {"file:/a?size=1&size=2", "character 15", "first at character 8"},
      {"part:(ram:4G", "character 12", "begins at character 6"},
      {"part:()", "character 6", "begins with its scheme"},
      {"part:(ram:4G)x", "character 13", "should end here"},
      {"part:(ram:4G),ram:2G", "character 14", "expected '('"},
      {"part:(ram:4G))", "character 13", "should end here"},
  };
  for (const Row& row : rows) {
    const std::string message = message_of(row.text);
    EXPECT_NE(message.find(row.where), std::string::npos) << row.text << " → " << message;
    EXPECT_NE(message.find(row.what), std::string::npos) << row.text << " → " << message;
  }
  std::string deep;
  for (int i = 0; i < 40; ++i) deep += "part:(";
  EXPECT_NE(message_of(deep).find("nested deeper"), std::string::npos);
}

// Goal: no text makes the parser misbehave; what it accepts, it writes back to an equal URI.
TEST(Uri, SurvivesAnyText) {
  std::mt19937 random(4);
  const std::string_view alphabet = "ab:()?&=,%2fF/.\x01 ";
  int accepted = 0;
  for (int round = 0; round < 200'000; ++round) {
    std::string text = random() % 2 == 0 ? "a:" : "a:(b:";
    const size_t length = random() % 12;
    while (text.size() < length) text += alphabet[random() % alphabet.size()];
    const auto uri = parse_uri(text);
    if (!uri) continue;
    ++accepted;
    const auto again = parse_uri(uri->to_string());
    ASSERT_TRUE(again) << text << " → " << uri->to_string();
    ASSERT_EQ(*again, *uri) << text;
  }
  EXPECT_GT(accepted, 1000);
}

// Goal: layers above take their own options out, or put some in.
TEST(Uri, TakesAndSetsOptions) {
  auto uri = parse_uri("file:/a?size=1G&create=1");
  ASSERT_TRUE(uri);
  EXPECT_EQ(uri->take("create"), "1");
  EXPECT_EQ(uri->take("create"), std::nullopt);
  uri->set("size", "2G");
  uri->set("lock", "0&1");
  EXPECT_EQ(uri->to_string(), "file:/a?lock=0%261&size=2G");
}

TEST(Size, Parses) {
  EXPECT_EQ(parse_size("0"), 0u);
  EXPECT_EQ(parse_size("4096"), 4096u);
  EXPECT_EQ(parse_size("64K"), uint64_t{64} << 10);
  EXPECT_EQ(parse_size("512M"), uint64_t{512} << 20);
  EXPECT_EQ(parse_size("8G"), uint64_t{8} << 30);
  EXPECT_EQ(parse_size("1T"), uint64_t{1} << 40);
  EXPECT_EQ(parse_size("15E"), uint64_t{15} << 60);
  EXPECT_EQ(parse_size("18446744073709551615"), ~uint64_t{0});
  for (const char* wrong : {"", "G", "-1", "+1", "1.5G", "1KB", "1g", "0x10", " 1", "1 ", "16E",
                            "18446744073709551616", "1GG"}) {
    const auto size = parse_size(wrong);
    ASSERT_FALSE(size) << wrong;
    EXPECT_EQ(size.error().code(), StatusCode::invalid_argument);
  }
  for (const uint64_t bytes :
       {uint64_t{0}, uint64_t{1}, uint64_t{1023}, uint64_t{1024}, uint64_t{1025}, uint64_t{1} << 40,
        uint64_t{3} << 30, ~uint64_t{0}}) {
    EXPECT_EQ(parse_size(format_size(bytes)), bytes);
  }
  EXPECT_EQ(format_size(uint64_t{64} << 20), "64M");
  EXPECT_EQ(format_size(1536), "1536");
}

// Goal: each kind of option is read, defaulted and refused; finish() names what is unknown and
// known.
TEST(UriOptions, BelongToTheirOwner) {
  const auto uri = parse_uri("x:?size=1M&n=7&flag=yes&mode=slow&text=hello");
  ASSERT_TRUE(uri);
  UriOptions options(*uri);
  EXPECT_EQ(options.take_size("size", 5), uint64_t{1} << 20);
  EXPECT_EQ(options.take_size("absent", 5), 5u);
  EXPECT_EQ(options.take_number("n", 1, 1, 7), 7u);
  EXPECT_EQ(options.take_bool("flag", false), true);
  EXPECT_EQ(options.take_bool("absent_flag", true), true);
  EXPECT_EQ(UriOptions(*parse_uri("x:?alone&n=1")).take_bool("alone", false), true);
  EXPECT_EQ(options.take_choice("mode", {"fast", "slow"}, 0), 1u);
  const Status unknown = options.finish();
  EXPECT_EQ(unknown.code(), StatusCode::invalid_argument);
  EXPECT_NE(unknown.message().find("option text=hello (character 34)"), std::string_view::npos)
      << unknown.message();
  EXPECT_NE(unknown.message().find("size, absent, n"), std::string_view::npos);
  EXPECT_EQ(options.take_text("text", ""), "hello");
  EXPECT_TRUE(options.finish().ok());

  const auto wrong = parse_uri("x:?size=1X&n=8&flag=maybe&mode=none");
  UriOptions wrong_options(*wrong);
  EXPECT_FALSE(wrong_options.take_size("size", 5));
  EXPECT_FALSE(wrong_options.take_number("n", 1, 1, 7));
  EXPECT_FALSE(wrong_options.take_bool("flag", false));
  const auto choice = wrong_options.take_choice("mode", {"fast", "slow"}, 0);
  ASSERT_FALSE(choice);
  EXPECT_NE(choice.error().message().find("fast, slow"), std::string_view::npos);
}

// Goal: sizes that make no device are refused with what would be right.
TEST(SizedUri, ChecksGeometry) {
  const auto geometry = [](std::string_view text) { return parse_sized_uri(*parse_uri(text)); };
  ASSERT_TRUE(geometry("ram:4G"));
  EXPECT_EQ(geometry("ram:4G")->block_size, 512u);
  EXPECT_EQ(geometry("ram:4G?block=4096")->block_count, BlockCount{1 << 20});
  for (const char* wrong : {"ram:", "ram:0", "ram:513", "ram:8E", "ram:4608?block=4096",
                            "ram:4G?block=1000", "ram:4G?size=4G", "ram:(ram:4G)"}) {
    const auto result = geometry(wrong);
    ASSERT_FALSE(result) << wrong;
    EXPECT_EQ(result.error().code(), StatusCode::invalid_argument);
  }
}

}  // namespace
}  // namespace basalt
