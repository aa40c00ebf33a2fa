// Goal: any number of threads may use one store at once: nothing of one thread's blobs, names or space is
// lost or mixed with another's, waits end, and no data race is there (run it under ThreadSanitizer).
// Method: threads that allocate, write, record, read back, punch, delete and name their own blobs, beside threads
// that write checkpoints, scan, wait asynchronously and count; in the end the store is left by its process, opened
// and compared, and every structure is verified.
#include "store_fixture.h"

#include <atomic>
#include <deque>
#include <map>
#include <random>

namespace basalt::blob {
namespace {

constexpr unsigned kWorkers = 4;

struct OwnBlob {
  BlobId id;
  std::map<uint64_t, uint64_t> clusters;  // cluster → word all its blocks are filled with; 0: zeros
};

class HammerTest : public StoreFixture {
 protected:
  void work(unsigned thread, unsigned rounds);
  bool verify(OwnBlob& own);
  void background();
  void watch_durability(unsigned thread);

  std::map<unsigned, std::deque<OwnBlob>> blobs_;
  std::atomic<bool> stop_{false};
  std::atomic<uint64_t> refused_{0};
};

bool HammerTest::verify(OwnBlob& own) {
  auto blob = store_->open_blob(own.id);
  if (!blob) return false;
  std::vector<uint64_t> words(16384 / 8);
  for (const auto& [cluster, word] : own.clusters) {
    if (!store_
             ->read(**blob, cluster * 16384, std::as_writable_bytes(std::span(words)),
                    Unwritten::zeros)
             .ok()) {
      return false;
    }
    for (const uint64_t found : words) {
      if (found != word) return false;
    }
  }
  return true;
}

void HammerTest::work(unsigned thread, unsigned rounds) {
  std::mt19937_64 random(thread);
  std::deque<OwnBlob>& own = blobs_[thread];
  for (unsigned round = 0; round < rounds; ++round) {
    const unsigned kind = random() % 100;
    Transaction txn;
    if (own.size() < 3 || kind < 10) {
      OwnBlob blob;
      blob.id = store_->new_blob_id();
      txn.create_blob(blob.id, {});
      txn.catalog_put("t" + std::to_string(thread) + "/" + std::to_string(blob.id.value), "here");
      ASSERT_TRUE(store_->apply(txn));
      own.push_back(blob);
      continue;
    }
    OwnBlob& blob = own[random() % own.size()];
    const uint64_t cluster = random() % 30;
    if (kind < 55) {
      const uint64_t count = 1 + random() % 6;
      const Status status = store_->allocate(txn, blob.id, {cluster * 4, count * 4});
      if (status.code() == StatusCode::no_space) {
        ++refused_;
        continue;
      }
      ASSERT_TRUE(status.ok()) << status.to_string();
      if (!txn.empty()) {
        ASSERT_TRUE(store_->apply(txn));
      }
      auto open = store_->open_blob(blob.id);
      ASSERT_TRUE(open);
      Transaction record;
      for (uint64_t i = cluster; i < cluster + count; ++i) {
        const uint64_t word = random();
        const std::vector<uint64_t> words(16384 / 8, word);
        ASSERT_TRUE(
            store_->write(**open, i * 16384, std::as_bytes(std::span(words)), Unwritten::zeros)
                .ok());
        blob.clusters[i] = word;
      }
      ASSERT_FALSE(store_->mark_written(record, **open));
      if (!record.empty()) {
        const auto ticket = store_->apply(record);
        ASSERT_TRUE(ticket);
        if (kind < 30) {
          ASSERT_TRUE(store_->wait_durable(*ticket).ok());
        }
      }
    } else if (kind < 70) {
      ASSERT_TRUE(verify(blob)) << "thread " << thread << " blob " << blob.id.value;
    } else if (kind < 80) {
      const auto rest = store_->free_range(txn, blob.id, {cluster * 4, 40});
      ASSERT_TRUE(rest && rest->empty());
      if (!txn.empty()) {
        ASSERT_TRUE(store_->apply(txn));
      }
      for (uint64_t i = cluster; i < cluster + 10; ++i) blob.clusters.erase(i);
    } else if (kind < 90) {
      const BlobId id = own.front().id;
      Transaction unlink;
      unlink.orphan(id);
      unlink.catalog_erase("t" + std::to_string(thread) + "/" + std::to_string(id.value));
      ASSERT_TRUE(store_->apply(unlink));
      ASSERT_TRUE(store_->delete_blob(id).ok());
      own.pop_front();
    } else {
      txn.set_size(blob.id, random());
      txn.set_attribute(blob.id, "a" + std::to_string(random() % 5),
                        std::string(random() % 300, 'a'));
      ASSERT_TRUE(store_->apply(txn));
    }
  }
}

void HammerTest::background() {
  for (unsigned n = 0; !stop_; ++n) {
    if (n % 8 == 0) {
      EXPECT_TRUE(store_->checkpoint().ok());
    }
    size_t entries = 0;
    EXPECT_TRUE(store_
                    ->catalog_scan("t",
                                   [&](std::string_view, std::string_view value) {
                                     ++entries;
                                     return value == "here";
                                   })
                    .ok());
    EXPECT_TRUE(store_->for_each_blob([](BlobId, const BlobInfo&) { return true; }).ok());
    (void)store_->space();
    (void)store_->stats();
    (void)store_->health();
    (void)store_->channels().totals();
    (void)store_->durable_ticket();
    sleep_for(std::chrono::milliseconds(1));
  }
}

void HammerTest::watch_durability(unsigned thread) {
  struct Watch : DurableWaiter {
    BlobStore* store = nullptr;
    std::atomic<int> calls{0};
  };
  while (!stop_) {
    std::vector<Watch> watches(20);
    for (Watch& watch : watches) {
      Transaction txn;
      txn.catalog_put("watch" + std::to_string(thread), std::string(100, 'w'));
      const auto ticket = store_->apply(txn);
      ASSERT_TRUE(ticket);
      watch.ticket = *ticket;
      watch.store = store_.get();
      watch.done = [](DurableWaiter& waiter, const Status& status) {
        auto& told = static_cast<Watch&>(waiter);
        EXPECT_TRUE(status.ok());
        EXPECT_GE(told.store->durable_ticket(), told.ticket);
        ++told.calls;
      };
      store_->when_durable(watch);
    }
    for (Watch& watch : watches) {
      for (int i = 0; i < 20000 && watch.calls == 0; ++i) sleep_for(std::chrono::milliseconds(1));
      ASSERT_EQ(watch.calls, 1);
    }
  }
}

TEST_F(HammerTest, ManyThreadsOneStore) {
  discard_ = true;
  make_store("ram:32M?block=512");
  struct Keeper final : BlobStore::TransactionKeeper {  // has room for a few at a time
    bool keep(Ticket, std::span<const std::byte>) override {
      const MutexLock lock(mutex);
      return ++kept % 64 != 0;
    }
    void durable(Ticket) override {
      const MutexLock lock(mutex);
      ++told;
    }
    Mutex mutex;
    uint64_t kept = 0, told = 0;
  } keeper;
  store_->set_keeper(&keeper);
  for (unsigned t = 0; t < kWorkers; ++t) blobs_[t];
  std::vector<Thread> threads, others;
  for (unsigned t = 0; t < kWorkers; ++t) threads.emplace_back("work", [this, t] { work(t, 600); });
  others.emplace_back("background", [this] { background(); });
  for (unsigned t = 0; t < 2; ++t) others.emplace_back("watch", [this, t] { watch_durability(t); });
  for (Thread& thread : threads) thread.join();
  stop_ = true;
  for (Thread& thread : others) thread.join();
  store_->set_keeper(nullptr);
  ASSERT_FALSE(HasFatalFailure());
  EXPECT_GT(keeper.told, 0u);
  make_durable();
  kill();
  expect_sound();
  open();
  size_t blobs = 0;
  for (unsigned t = 0; t < kWorkers; ++t) {
    for (OwnBlob& own : blobs_[t]) {
      EXPECT_TRUE(verify(own)) << "thread " << t << " blob " << own.id.value;
      EXPECT_EQ(get("t" + std::to_string(t) + "/" + std::to_string(own.id.value)), "here");
      ++blobs;
    }
  }
  size_t found = 0;
  ASSERT_TRUE(store_->for_each_blob([&](BlobId, const BlobInfo&) { return ++found > 0; }).ok());
  EXPECT_EQ(found, blobs);
}

// Readers of a blob whose extents are taken away and replaced all the time: each sees the old content or zeros,
// never another blob's bytes.
TEST_F(HammerTest, ReadersNeverSeeARecycledCluster) {
  make_store("ram:16M");
  const BlobId id = make_blob(64);
  const BlobId thief = make_blob();
  auto blob = store_->open_blob(id);
  std::vector<Thread> readers;
  std::atomic<uint64_t> reads{0};
  for (unsigned t = 0; t < 2; ++t) {
    readers.emplace_back("read", [&] {
      std::vector<uint64_t> words(64 * kBlockBytes / 8);
      while (!stop_) {
        ASSERT_TRUE(
            store_->read(**blob, 0, std::as_writable_bytes(std::span(words)), Unwritten::zeros)
                .ok());
        for (const uint64_t word : words) ASSERT_NE(word, 0x7777u);
        ++reads;
      }
    });
  }
  const std::vector<uint64_t> good(64 * kBlockBytes / 8, 1), bad(64 * kBlockBytes / 8, 0x7777);
  const uint64_t all = store_->space().free_clusters * 4;
  for (int i = 0; i < 150; ++i) {
    ASSERT_TRUE(store_->write(**blob, 0, std::as_bytes(std::span(good)), Unwritten::zeros).ok());
    Transaction txn;
    ASSERT_TRUE(store_->free_range(txn, id, {0, 64}));
    ASSERT_TRUE(store_->apply(txn));
    // The thief takes everything there is, and overwrites it.
    Transaction steal;
    ASSERT_TRUE(store_->allocate(steal, thief, {0, all + 64}).ok());
    ASSERT_TRUE(store_->apply(steal));
    {
      auto thief_blob = store_->open_blob(thief);
      for (uint64_t block = 0; block + 64 <= all; block += 64) {
        ASSERT_TRUE(store_
                        ->write(**thief_blob, block * kBlockBytes, std::as_bytes(std::span(bad)),
                                Unwritten::zeros)
                        .ok());
      }
    }
    Transaction back;
    ASSERT_TRUE(store_->free_range(back, thief, {0, all + 64})->empty());
    ASSERT_TRUE(store_->apply(back));
    Transaction again;
    ASSERT_TRUE(store_->allocate(again, id, {0, 64}).ok());
    ASSERT_TRUE(store_->apply(again));
  }
  stop_ = true;
  for (Thread& thread : readers) thread.join();
  EXPECT_GT(reads, 100u);
}

// Opened, used and closed from changing threads, again and again.
TEST_F(HammerTest, ClosingRacesWithNothing) {
  make_store("ram:16M");
  close();
  for (int round = 0; round < 30; ++round) {
    open();
    std::vector<Thread> threads;
    for (unsigned t = 0; t < 3; ++t) {
      threads.emplace_back("commit", [&, t] {
        for (int i = 0; i < 20; ++i) {
          Transaction txn;
          txn.catalog_put("k" + std::to_string(t), std::to_string(round));
          const auto ticket = store_->apply(txn);
          ASSERT_TRUE(ticket);
          if (i % 5 == 0) {
            ASSERT_TRUE(store_->wait_durable(*ticket).ok());
          }
        }
      });
    }
    for (Thread& thread : threads) thread.join();
    Thread closer("close", [&] {
      if (round % 2 == 0) {
        close();
      } else {
        make_durable();
        kill();
      }
    });
    closer.join();
  }
  open();
  for (unsigned t = 0; t < 3; ++t) EXPECT_EQ(get("k" + std::to_string(t)), "29");
}

}  // namespace
}  // namespace basalt::blob
