// Goal: what the journal called durable is found again, in order and once; what it did not is found whole
// or not at all; a damaged record below a durable one is corruption and never an end; nothing of an older
// epoch is taken for new.
// Method: a Journal alone on a RAM device with hooks that stand for the store; every truncation point, damaged
// records in each place, wrapped rings, forged headers; many committing threads.
#include "blob/journal.h"

#include "base/crc32c.h"
#include "store_fixture.h"

#include <atomic>
#include <random>

namespace basalt::blob {
namespace {

std::vector<std::byte> payload_of(uint64_t ticket) {
  std::mt19937_64 random(ticket);
  std::vector<std::byte> bytes(1 + random() % (ticket % 7 == 0 ? 20000 : 300));
  for (std::byte& b : bytes) b = static_cast<std::byte>(random());
  return bytes;
}

class JournalTest : public StoreFixture, public Journal::Hooks {
 protected:
  static constexpr JournalGeometry kGeometry{16, 160};
  static constexpr uint64_t kEpoch = 7;

  void SetUp() override {
    make_device("ram:16M");
    start({}, Ticket{});
  }
  void TearDown() override { journal_.reset(); }
  void start(JournalCursor cursor, Ticket durable, uint64_t epoch = kEpoch) {
    journal_ = std::make_unique<Journal>(*context_, *device_, uuid_, kGeometry, *this);
    start_ = cursor;
    covered_ = durable;
    ASSERT_TRUE(journal_->start(epoch, cursor, cursor.position, durable).ok());
    last_ = durable;
  }
  // Hooks: a checkpoint is remembering where it is.
  void on_durable(Ticket ticket) override { told_ = std::max(told_, ticket); }
  Status make_room() override {
    const MutexLock lock(meta_);
    start_ = journal_->cursor();
    covered_ = last_;
    ++checkpoints_;
    journal_->checkpointed(covered_, start_.position);
    return {};
  }
  void on_failure(const Status& status) override { journal_->fail(status); }

  Ticket append() {
    const MutexLock lock(meta_);
    ++last_.value;
    journal_->append(last_, payload_of(last_.value), 1, false);
    return last_;
  }
  // One record of `count` transactions.
  void commit(unsigned count = 1) {
    Ticket ticket;
    for (unsigned i = 0; i < count; ++i) ticket = append();
    ASSERT_TRUE(journal_->wait(ticket).ok());
  }
  struct Recovered {
    Status status;
    std::vector<uint64_t> tickets;
    JournalCursor cursor;
  };
  Recovered recover(uint64_t epoch = kEpoch) {
    Recovered found;
    found.cursor = start_;
    Ticket covered = covered_;
    found.status = recover_journal(
        raw(), device_->info(), uuid_, kGeometry, epoch, found.cursor, covered,
        [&](Ticket ticket, std::span<const std::byte> bytes) {
          found.tickets.push_back(ticket.value);
          const auto expected = payload_of(ticket.value);
          EXPECT_TRUE(std::equal(bytes.begin(), bytes.end(), expected.begin(), expected.end()));
          return Status();
        });
    return found;
  }
  std::vector<uint64_t> tickets_up_to(uint64_t last) const {
    std::vector<uint64_t> tickets;
    for (uint64_t ticket = covered_.value + 1; ticket <= last; ++ticket) tickets.push_back(ticket);
    return tickets;
  }
  static uint64_t block_at(uint64_t position) {
    return kGeometry.first_block + position % kGeometry.blocks;
  }

  Uuid uuid_{std::byte{1}, std::byte{2}};
  std::unique_ptr<Journal> journal_;
  Mutex meta_;
  Ticket last_, told_, covered_;
  JournalCursor start_;
  unsigned checkpoints_ = 0;
};

TEST_F(JournalTest, WhatIsDurableIsFoundAgain) {
  for (int i = 0; i < 20; ++i) commit(1 + i % 4);
  EXPECT_EQ(journal_->durable(), last_);
  EXPECT_EQ(told_, last_);
  const Recovered found = recover();
  EXPECT_TRUE(found.status.ok()) << found.status.to_string();
  EXPECT_EQ(found.tickets, tickets_up_to(last_.value));
  EXPECT_EQ(found.cursor.position, journal_->cursor().position);
  EXPECT_EQ(found.cursor.sequence, journal_->cursor().sequence);
}

TEST_F(JournalTest, WhatNobodyWaitsForIsNotWritten) {
  commit();
  append();
  journal_->poll();
  EXPECT_EQ(recover().tickets, tickets_up_to(1));
  EXPECT_EQ(journal_->wait(Ticket{3}).code(), StatusCode::invalid_argument);  // not yet given
}

TEST_F(JournalTest, AQueueBeyondOneRecordTakesSeveral) {
  Ticket ticket;
  for (int i = 0; i < 700; ++i) ticket = append();  // some 2.1 MB; the ring holds 640 KiB
  ASSERT_TRUE(journal_->wait(ticket).ok());
  EXPECT_GT(checkpoints_, 0u);
  const Recovered found = recover();
  EXPECT_TRUE(found.status.ok());
  EXPECT_EQ(found.tickets, tickets_up_to(last_.value));
}

TEST_F(JournalTest, TheRingGoesRound) {
  uint64_t wraps = 0;
  for (int i = 0; i < 400; ++i) {
    const uint64_t before = journal_->cursor().position;
    commit(1 + i % 30);
    const uint64_t after = journal_->cursor().position;
    wraps += before / kGeometry.blocks != after / kGeometry.blocks && after % kGeometry.blocks != 0;
    const Recovered found = recover();
    ASSERT_TRUE(found.status.ok()) << found.status.to_string();
    ASSERT_EQ(found.tickets, tickets_up_to(last_.value)) << "after record " << i;
  }
  EXPECT_GT(wraps, 5u) << "no record went around the end";
  EXPECT_GT(checkpoints_, 5u);
}

TEST_F(JournalTest, MakesRoomByACheckpointThatIsEnough) {
  // The hook's checkpoint covers the waiting transaction: no record is needed for it.
  while (checkpoints_ == 0) commit(25);
  EXPECT_EQ(journal_->durable(), last_);
  EXPECT_EQ(recover().tickets, tickets_up_to(last_.value));
}

// The last record cut off after each of its blocks, and each of its blocks lost alone: it was never
// acknowledged, so it is the end.
TEST_F(JournalTest, ATornLastRecordIsTheEnd) {
  commit(3);
  commit(2);
  const uint64_t acknowledged = last_.value;
  const uint64_t first = journal_->cursor().position;
  commit(40);
  const uint64_t end = journal_->cursor().position;
  ASSERT_GT(end - first, 10u);
  const auto whole = read_raw(block_at(first), end - first);
  const std::vector<std::byte> zeros(kBlockBytes);
  for (const bool cut : {true, false}) {
    for (uint64_t at = first; at < end; ++at) {
      for (uint64_t lost = at; lost < (cut ? end : at + 1); ++lost)
        write_raw(block_at(lost), zeros);
      const Recovered found = recover();
      EXPECT_TRUE(found.status.ok()) << found.status.to_string();
      EXPECT_EQ(found.tickets, tickets_up_to(acknowledged)) << "block " << at - first;
      EXPECT_EQ(found.cursor.position, first);
      write_raw(block_at(first), whole);
    }
  }
  EXPECT_EQ(recover().tickets, tickets_up_to(last_.value));
}

TEST_F(JournalTest, ADamagedRecordBelowADurableOneIsCorruption) {
  std::vector<uint64_t> starts;
  for (int i = 0; i < 12; ++i) {
    starts.push_back(journal_->cursor().position);
    commit(i % 3 == 0 ? 45 : 1);
  }
  for (size_t i = 0; i + 1 < starts.size(); ++i) {
    for (const uint64_t block : {starts[i], starts[i + 1] - 1}) {
      const auto whole = read_raw(block_at(block));
      damage(block_at(block), block == starts[i] ? 100 : 2);
      const Recovered found = recover();
      EXPECT_EQ(found.status.code(), StatusCode::corruption) << "record " << i;
      EXPECT_NE(found.status.message().find("position " + std::to_string(starts[i])),
                std::string_view::npos)
          << found.status.to_string();
      write_raw(block_at(block), whole);
    }
  }
}

// As long as records can be, so that the search for a later one has to look its farthest.
TEST_F(JournalTest, TheSearchSpansTheLongestRecord) {
  const auto big = [&] {
    Ticket ticket;
    const MutexLock lock(meta_);
    for (int i = 0; i < 5; ++i) {
      ticket = Ticket{++last_.value};
      journal_->append(ticket, std::vector<std::byte>(52000, std::byte{1}), 1, false);
    }
    return ticket;
  };
  ASSERT_TRUE(journal_->wait(big()).ok());
  const uint64_t first = start_.position;
  ASSERT_EQ(journal_->cursor().position - first, kMaxRecordBytes / kBlockBytes);
  const Ticket next{++last_.value};
  journal_->append(next, payload_of(next.value), 1, false);
  ASSERT_TRUE(journal_->wait(next).ok());
  damage(block_at(first));
  EXPECT_EQ(recover().status.code(), StatusCode::corruption);
}

TEST_F(JournalTest, RecordsOfAnotherEpochOrStoreAreNotThere) {
  commit(3);
  EXPECT_TRUE(recover(kEpoch + 1).tickets.empty());
  EXPECT_TRUE(recover(kEpoch - 1).tickets.empty());
  EXPECT_TRUE(recover(kEpoch + 1).status.ok());
  uuid_[0] = std::byte{9};
  EXPECT_TRUE(recover().tickets.empty());
}

// A crash, a new epoch from the end that was found, one record of it; behind it lie longer remains of the
// old epoch, at positions and sequences that would continue it.
TEST_F(JournalTest, RemainsOfAnOlderEpochNeverContinueANewOne) {
  for (int i = 0; i < 3; ++i) commit(2);
  const JournalCursor end = journal_->cursor();
  const Ticket durable = last_;
  for (int i = 0; i < 5; ++i) commit(1);
  start(end, durable, kEpoch + 1);
  commit(1);
  const Recovered found = recover(kEpoch + 1);
  EXPECT_TRUE(found.status.ok()) << found.status.to_string();
  EXPECT_EQ(found.tickets, (std::vector<uint64_t>{durable.value + 1}));
  EXPECT_EQ(found.cursor.position, journal_->cursor().position);
}

TEST_F(JournalTest, AnOldLapOfTheRingIsNotTheNewOne) {
  while (journal_->cursor().position < 3 * kGeometry.blocks) commit(10);
  // A store that starts where the ring was a lap ago finds nothing there.
  start_ = {journal_->cursor().position - 2 * kGeometry.blocks, 1};
  covered_ = {};
  EXPECT_TRUE(recover().tickets.empty());
}

// Right checksums, impossible headers.
TEST_F(JournalTest, ForgedHeadersAreErrors) {
  commit(3);
  const auto good = read_raw(block_at(0));
  const auto forge = [&](auto&& change) {
    auto bytes = good;
    JournalHeader header;
    std::memcpy(&header, bytes.data(), sizeof header);
    change(header, bytes);
    const size_t total =
        std::min<size_t>(bytes.size(), sizeof header + size_t{header.payload_bytes});
    header.crc = 0;
    const uint32_t crc = crc32c(std::as_bytes(std::span(&header, 1)));
    header.crc = crc32c(std::span(bytes).subspan(sizeof header, total - sizeof header), crc);
    std::memcpy(bytes.data(), &header, sizeof header);
    write_raw(block_at(0), bytes);
    return recover();
  };
  EXPECT_EQ(forge([](auto&, auto&) {}).tickets.size(), 3u);
  EXPECT_EQ(forge([](auto& h, auto&) { h.transaction_count = 4; }).status.code(),
            StatusCode::corruption);
  EXPECT_EQ(forge([](auto& h, auto&) { h.transaction_count = 2; }).status.code(),
            StatusCode::corruption);
  EXPECT_EQ(forge([](auto& h, auto&) { h.transaction_count = ~0u; }).status.code(),
            StatusCode::corruption);
  EXPECT_EQ(forge([](auto& h, auto&) { h.first_transaction = 2; }).status.code(),
            StatusCode::corruption);
  EXPECT_EQ(forge([](auto& h, auto&) { h.first_transaction = ~uint64_t{0}; }).status.code(),
            StatusCode::corruption);
  EXPECT_EQ(forge([](auto&, auto& bytes) {
              const le32 huge = ~0u;
              std::memcpy(bytes.data() + sizeof(JournalHeader), &huge, 4);
            }).status.code(),
            StatusCode::corruption);
  // Not records at all:
  EXPECT_TRUE(forge([](auto& h, auto&) { h.payload_bytes = ~0u; }).tickets.empty());
  EXPECT_TRUE(forge([](auto& h, auto&) { h.sequence = 5; }).tickets.empty());
  EXPECT_TRUE(forge([](auto& h, auto&) { h.position = 1; }).tickets.empty());
  EXPECT_TRUE(forge([](auto& h, auto&) { h.magic = 0; }).tickets.empty());
}

TEST_F(JournalTest, ValidateLooksOnlyAtItsBytes) {
  commit(1);
  const auto block = read_raw(block_at(0));
  const size_t length = validate_record(block, uuid_, kEpoch, 0);
  ASSERT_GT(length, sizeof(JournalHeader));
  for (size_t cut = 0; cut < length; ++cut) {
    // A copy of exactly that size: a sanitizer sees any byte too far.
    const std::vector<std::byte> part(block.begin(), block.begin() + static_cast<ptrdiff_t>(cut));
    ASSERT_EQ(validate_record(part, uuid_, kEpoch, 0), 0u);
  }
}

TEST_F(JournalTest, ManyThreadsShareRecords) {
  constexpr unsigned kThreads = 8, kCommits = 200;
  std::vector<Thread> threads;
  for (unsigned t = 0; t < kThreads; ++t) {
    threads.emplace_back("commit", [this] {
      for (unsigned i = 0; i < kCommits; ++i) {
        const Ticket ticket = append();
        ASSERT_TRUE(journal_->wait(ticket).ok());
        ASSERT_GE(journal_->durable(), ticket);
      }
    });
  }
  for (Thread& thread : threads) thread.join();
  const Recovered found = recover();
  EXPECT_TRUE(found.status.ok()) << found.status.to_string();
  EXPECT_EQ(found.tickets, tickets_up_to(last_.value));
  EXPECT_EQ(last_.value, kThreads * kCommits);
}

TEST_F(JournalTest, WaitersAreCalledOnceAndInTheRightState) {
  struct Counted : DurableWaiter {
    std::atomic<int> calls{0};
    StatusCode code = StatusCode::internal;
  };
  constexpr unsigned kWaiters = 300;
  std::vector<Counted> waiters(kWaiters);
  std::vector<Thread> threads;
  for (unsigned t = 0; t < 4; ++t) {
    threads.emplace_back("wait", [&, t] {
      for (unsigned i = t; i < kWaiters; i += 4) {
        waiters[i].ticket = append();
        waiters[i].user = journal_.get();
        waiters[i].done = [](DurableWaiter& waiter, const Status& status) {
          auto& counted = static_cast<Counted&>(waiter);
          counted.code = status.code();
          EXPECT_GE(static_cast<Journal*>(waiter.user)->durable(), waiter.ticket);
          ++counted.calls;
        };
        journal_->when_durable(waiters[i]);
        if (i % 3 == 0) {
          EXPECT_TRUE(journal_->wait(waiters[i].ticket).ok());
        }
      }
    });
  }
  for (Thread& thread : threads) thread.join();
  for (int i = 0; i < 2000; ++i) {
    bool all = true;
    for (const Counted& waiter : waiters) all &= waiter.calls == 1;
    if (all) break;
    sleep_for(std::chrono::milliseconds(5));
  }
  for (const Counted& waiter : waiters) {
    ASSERT_EQ(waiter.calls, 1);
    ASSERT_EQ(waiter.code, StatusCode::ok);
  }
}

// The bug: after a failure told from outside (a checkpoint's), nobody called those who waited.
TEST_F(JournalTest, WaitersAreCalledAfterAFailureToo) {
  struct Told : DurableWaiter {
    std::atomic<bool> called{false};
    StatusCode code = StatusCode::ok;
  };
  const auto done = [](DurableWaiter& waiter, const Status& status) {
    static_cast<Told&>(waiter).code = status.code();
    static_cast<Told&>(waiter).called = true;
  };
  const auto await = [](Told& waiter) {
    for (int i = 0; i < 2000 && !waiter.called; ++i) sleep_for(std::chrono::milliseconds(5));
    return waiter.called.load();
  };
  const Ticket ticket = append();
  journal_->fail(Status(StatusCode::io_error, "the checkpoint failed"));
  Told after;
  after.ticket = ticket;
  after.done = done;
  journal_->when_durable(after);
  EXPECT_TRUE(await(after));
  EXPECT_EQ(after.code, StatusCode::io_error);
  EXPECT_EQ(journal_->wait(ticket).code(), StatusCode::io_error);
}

}  // namespace
}  // namespace basalt::blob
