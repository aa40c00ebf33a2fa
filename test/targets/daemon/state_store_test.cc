// StateStore: values of every length come back whole after power loss at any moment, and what is not a state is refused.
#include "targets/daemon/state_store.h"

#include <basalt/devices.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "test/nvme/kept_log.h"
#include "test/sim/sim_device.h"

namespace basalt {
namespace {

std::string some(size_t bytes, char seed) {
  std::string text(bytes, seed);
  for (size_t i = 0; i < bytes; ++i) text[i] = static_cast<char>(seed + i * 7 + i / 512);
  return text;
}

class StateStoreTest : public testing::Test {
 protected:
  StateStoreTest()
      : directory_(std::filesystem::temp_directory_path() /
                   ("basalt-state-" + std::to_string(::getpid()))) {
    std::filesystem::create_directory(directory_);
  }
  ~StateStoreTest() override {
    store_.reset();
    std::filesystem::remove_all(directory_);
  }
  void open() {
    store_.reset();
    auto opened = StateStore::open(directory_, &log_);
    ASSERT_TRUE(opened) << opened.error().to_string();
    store_ = std::move(*opened);
  }
  std::string refusal() {
    store_.reset();
    const auto opened = StateStore::open(directory_, &log_);
    return opened ? "" : opened.error().to_string();
  }
  std::string get(std::string_view key) {
    const auto value = store_->get(key);
    if (value) return *value;
    return "(" + value.error().to_string() + ")";
  }

  nvme::KeptLog log_;
  const std::filesystem::path directory_;
  std::unique_ptr<StateStore> store_;
};

TEST_F(StateStoreTest, KeepsValuesOfEveryLength) {
  open();
  EXPECT_EQ(store_->get("a").error().code(), StatusCode::not_found);
  EXPECT_TRUE(store_->erase("a").ok());
  const std::string longest(StateStore::kMaxKeyBytes, 'k');
  for (const size_t bytes : {0u, 1u, 491u, 492u, 493u, 511u, 512u, 513u, 1024u, 49'152u, 62'000u,
                             1'000'000u, 4'194'304u}) {
    SCOPED_TRACE(bytes);
    ASSERT_TRUE(store_->put("a", some(bytes, 'a')).ok());
    ASSERT_TRUE(store_->put(longest, some(bytes / 2, 'b')).ok());
    open();
    EXPECT_TRUE(get("a") == some(bytes, 'a'));
    EXPECT_TRUE(get(longest) == some(bytes / 2, 'b'));
  }
  EXPECT_EQ(store_->put("a", std::string(StateStore::kMaxValueBytes + 1, 'x')).code(),
            StatusCode::too_large);
  EXPECT_EQ(store_->put(longest + "k", "").code(), StatusCode::too_large);
  EXPECT_TRUE(get("a") == some(4'194'304, 'a')) << "as it was";
  EXPECT_TRUE(store_->erase("a").ok());
  open();
  EXPECT_EQ(store_->get("a").error().code(), StatusCode::not_found);
  EXPECT_TRUE(store_->put("a", "short again").ok());
  // A key of zeros and a key that another begins with are keys like others.
  EXPECT_TRUE(store_->put(std::string(3, '\0'), some(5000, 'c')).ok());
  EXPECT_TRUE(store_->put("aa", some(5000, 'd')).ok());
  open();
  EXPECT_EQ(get("a"), "short again");
  EXPECT_TRUE(get(std::string(3, '\0')) == some(5000, 'c'));
  EXPECT_TRUE(get("aa") == some(5000, 'd'));
}

TEST_F(StateStoreTest, RefusesWhatIsNotAState) {
  const std::filesystem::path path = directory_ / "state";
  open();
  EXPECT_EQ(std::filesystem::status(path).permissions(),
            std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
  EXPECT_FALSE(std::filesystem::exists(directory_ / "state.new"));
  const auto second = StateStore::open(directory_, &log_);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code(), StatusCode::busy) << second.error().to_string();
  store_.reset();

  std::filesystem::remove(path);
  std::ofstream(path) << std::string(20 << 20, 'x');
  EXPECT_NE(refusal(), "");
  EXPECT_EQ(std::filesystem::file_size(path), 20u << 20) << "it is as it was";
  std::ofstream(path).close();
  EXPECT_NE(refusal(), "") << "not even an empty file is overwritten";
  std::filesystem::remove(path);
  std::filesystem::create_directory(path);
  EXPECT_NE(refusal().find("is not a file"), std::string::npos) << refusal();
  std::filesystem::remove(path);
  // A store of Basalt's, with something else in it.
  {
    const auto context = std::move(*Context::create());
    register_standard_schemes(*context);
    const auto device =
        std::move(*open_device(*context, "file:" + path.string() + "?size=64M&direct=0"));
    ASSERT_TRUE(blob::BlobStore::format(*context, *device, {}).ok());
  }
  EXPECT_NE(refusal().find("not basaltd's state"), std::string::npos) << refusal();
  EXPECT_NE(refusal().find(path), std::string::npos) << refusal();
  // What a process left that died while it made one is no hindrance.
  std::filesystem::remove(path);
  std::ofstream(directory_ / "state.new") << std::string(100, 'x');
  std::filesystem::resize_file(directory_ / "state.new", 128 << 20);
  open();
  EXPECT_TRUE(store_->put("a", "b").ok());
  const auto nowhere = StateStore::open(directory_ / "nowhere", &log_);
  ASSERT_FALSE(nowhere);
  EXPECT_EQ(nowhere.error().code(), StatusCode::not_found);
}

// On a disk that loses power, at whatever command.
class StateStorePower : public testing::Test {
 protected:
  static std::unique_ptr<StateStore> open(const std::shared_ptr<sim::SimDisk>& disk,
                                          nvme::KeptLog& log, bool make) {
    ContextOptions options;
    options.log = &log;
    auto context = std::move(*Context::create(options));
    auto device = sim::open_sim_device(*context, disk);
    if (make) {
      const Status made = StateStore::make(*context, *device);
      EXPECT_TRUE(made.ok()) << made.to_string();
    }
    auto opened = StateStore::open(std::move(context), std::move(device));
    EXPECT_TRUE(opened) << opened.error().to_string();
    return opened ? std::move(*opened) : nullptr;
  }
};

// Goal: what put() has answered is there after power loss, and what it had not answered is wholly there or not at all.
TEST_F(StateStorePower, KeepsWhatWasAnswered) {
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    SCOPED_TRACE(seed);
    nvme::KeptLog log;
    const auto disk = std::make_shared<sim::SimDisk>(
        sim::SimOptions{.size_bytes = uint64_t{128} << 20, .seed = seed});
    auto store = open(disk, log, true);
    ASSERT_NE(store, nullptr);
    ASSERT_TRUE(store->put("a", some(3000, 'a')).ok());
    ASSERT_TRUE(store->put("b", "before").ok());
    disk->cut_after(1 + seed * 3);
    std::string last_a = some(3000, 'a'), next_a = last_a;
    bool alive = true;
    for (unsigned round = 0; alive && round < 100; ++round) {
      next_a = some(100 + round * 1700, static_cast<char>('c' + round % 20));
      alive = store->put("a", next_a).ok();
      if (alive) last_a = next_a;
    }
    EXPECT_FALSE(alive) << "the power goes";
    store.reset();
    store = open(disk->surviving_image(seed), log, false);
    ASSERT_NE(store, nullptr);
    const auto a = store->get("a");
    ASSERT_TRUE(a) << a.error().to_string();
    EXPECT_TRUE(*a == last_a || *a == next_a);
    EXPECT_EQ(*store->get("b"), "before");
    EXPECT_TRUE(store->put("b", "after").ok());
  }
}

TEST_F(StateStorePower, FailsWithItsDisk) {
  nvme::KeptLog log;
  const auto disk =
      std::make_shared<sim::SimDisk>(sim::SimOptions{.size_bytes = uint64_t{128} << 20});
  const auto store = open(disk, log, true);
  ASSERT_TRUE(store->put("a", "1").ok());
  disk->inject({.ops = {Op::write}, .first = Lba{0}, .block_count = BlockCount{~uint64_t{0} >> 1}});
  EXPECT_EQ(store->put("a", "2").code(), StatusCode::io_error);
  EXPECT_FALSE(store->put("b", "3").ok()) << "for good";
}

}  // namespace
}  // namespace basalt
