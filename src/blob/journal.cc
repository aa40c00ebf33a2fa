#include "blob/journal.h"

#include "base/check.h"
#include "base/crc32c.h"
#include "base/planted.h"
#include "base/try.h"
#include "blob/block_io.h"
#include "blob/node.h"

#include <algorithm>
#include <cstring>

namespace basalt::blob {
namespace {

constexpr Duration kWaitStep = std::chrono::milliseconds(100);

uint32_t record_crc(std::span<const std::byte> record) {
  JournalHeader header;
  std::memcpy(&header, record.data(), sizeof header);
  header.crc = 0;
  const uint32_t crc = crc32c(std::as_bytes(std::span(&header, 1)));
  return crc32c(record.subspan(sizeof header), crc);
}

}  // namespace

Journal::Journal(Context& context, Device& device, const Uuid& uuid, JournalGeometry geometry,
                 Hooks& hooks)
    : context_(context), device_(device), uuid_(uuid), geometry_(geometry), hooks_(hooks) {
  driver_task_.run = [this] {
    MutexLock lock(mutex_);
    while (waiters_ != nullptr) {
      if (driving_) {
        changed_.wait(lock);
      } else {
        drive_once(lock, kWaitStep);
      }
    }
  };
}

Journal::~Journal() { context_.executor().cancel(driver_task_); }

Status Journal::start(uint64_t epoch, JournalCursor cursor, uint64_t tail, Ticket durable) {
  BASALT_TRY_ASSIGN(channel_, device_.open_channel());
  record_ = AlignedBuffer(kMaxRecordBytes);
  epoch_ = epoch;
  cursor_ = cursor;
  tail_ = tail;
  durable_ = appended_ = wanted_ = durable;
  return {};
}

size_t Journal::append(Ticket ticket, std::span<const std::byte> bytes, uint32_t op_count,
                       bool needs_flush) {
  MutexLock lock(mutex_);
  queued_bytes_.insert(queued_bytes_.end(), bytes.begin(), bytes.end());
  queue_.push_back({ticket, static_cast<uint32_t>(bytes.size()), op_count, needs_flush});
  appended_ = ticket;
  return queued_bytes_.size() - queued_from_;
}

Status Journal::wait(Ticket ticket) {
  MutexLock lock(mutex_);
  if (ticket > appended_) {
    return Status(StatusCode::invalid_argument, "ticket " + std::to_string(ticket.value) +
                                                    " has not been given yet; the last is " +
                                                    std::to_string(appended_.value));
  }
  wanted_ = std::max(wanted_, ticket);
  while (durable_ < ticket && failure_.ok()) {
    if (driving_) {
      changed_.wait(lock);
    } else {
      drive_once(lock, kWaitStep);
    }
  }
  return durable_ >= ticket ? Status() : failure_;
}

void Journal::when_durable(DurableWaiter& waiter) {
  MutexLock lock(mutex_);
  BASALT_CHECK(waiter.ticket <= appended_, "when_durable() of a ticket not yet given");
  waiter.next = waiters_;
  waiters_ = &waiter;
  wanted_ = std::max(wanted_, waiter.ticket);
  lock.unlock();
  context_.executor().post(driver_task_);
}

void Journal::poll() {
  MutexLock lock(mutex_);
  if (!driving_) drive_once(lock, Duration::zero());
}

// One turn of the driving role: start what can be started, wait a little, collect, deliver.
void Journal::drive_once(MutexLock& lock, Duration timeout) {
  driving_ = true;
  step(lock);
  if (no_room_) {
    no_room_ = false;
    lock.unlock();
    const Status room = hooks_.make_room();
    lock.lock();
    if (!room.ok() && failure_.ok()) failure_ = room;
  } else if (phase_ != Phase::idle) {
    lock.unlock();
    if (timeout > Duration::zero()) {
      channel_->wait(timeout);
    } else {
      channel_->poll();
    }
    lock.lock();
    if (outstanding_ == 0) step(lock);
  }
  deliver(lock);
  driving_ = false;
  changed_.notify_all();
}

// Moves the record in flight to its next phase as soon as its I/O is done.
void Journal::step(MutexLock& lock) {
  if (outstanding_ > 0) return;
  if (phase_ != Phase::idle) io_status_ = hooks_.judge(io_status_);
  if (phase_ != Phase::idle && io_status_ != StatusCode::ok) {
    const Status status(io_status_, "journal: write of the record at position " +
                                        std::to_string(cursor_.position) + ": " +
                                        std::string(to_string(io_status_)));
    phase_ = Phase::idle;
    if (failure_.ok()) failure_ = status;
    lock.unlock();
    if (!planted("journal_failure_unsaid")) hooks_.on_failure(status);
    lock.lock();
    return;
  }
  switch (phase_) {
    case Phase::idle:
      if (!failure_.ok() || wanted_ <= durable_ || !seal_record()) return;
      if (record_needs_flush_ && device_.info().volatile_write_cache) {
        phase_ = Phase::flushing;
        ios_[0].op = Op::flush;
        ios_[0].flags = {};
        ios_[0].data = {};
        outstanding_ = 1;
        ios_[0].user = this;
        ios_[0].done = [](Io& io) {
          auto* self = static_cast<Journal*>(io.user);
          if (io.status != StatusCode::ok) self->io_status_ = io.status;
          --self->outstanding_;
        };
        channel_->submit(ios_[0]);
        return;
      }
      submit_write();
      return;
    case Phase::flushing: submit_write(); return;
    case Phase::writing:
      finish_record(lock);
      // The next record, if somebody already waits for it, starts in the next turn.
      return;
  }
}

// Takes as many queued transactions as fit; false when there is nothing or no room in the ring.
bool Journal::seal_record() {
  size_t bytes = sizeof(JournalHeader);
  size_t count = 0;
  record_needs_flush_ = false;
  for (const Queued& queued : queue_) {
    const size_t more = sizeof(JournalTransaction) + queued.bytes;
    if (bytes + more > kMaxRecordBytes) break;
    bytes += more;
    ++count;
  }
  if (count == 0) return false;
  record_blocks_ = (bytes + kBlockBytes - 1) / kBlockBytes;
  if (cursor_.position + record_blocks_ - tail_ > geometry_.blocks) {
    no_room_ = true;
    return false;
  }
  JournalHeader header{};
  header.magic = kJournalMagic;
  header.uuid = uuid_;
  header.epoch = epoch_;
  header.sequence = cursor_.sequence;
  header.position = cursor_.position;
  header.durable_position = planted("journal_durable_unstated") ? 0 : cursor_.position;
  header.first_transaction = queue_.front().ticket.value;
  header.transaction_count = static_cast<uint32_t>(count);
  header.payload_bytes = static_cast<uint32_t>(bytes - sizeof header);
  std::byte* out = record_.data() + sizeof header;
  for (size_t i = 0; i < count; ++i) {
    const Queued& queued = queue_.front();
    JournalTransaction prefix{};
    prefix.bytes = queued.bytes;
    prefix.op_count = queued.op_count;
    std::memcpy(out, &prefix, sizeof prefix);
    std::memcpy(out + sizeof prefix, queued_bytes_.data() + queued_from_, queued.bytes);
    out += sizeof prefix + queued.bytes;
    queued_from_ += queued.bytes;
    record_needs_flush_ |= queued.needs_flush;
    record_last_ = queued.ticket;
    queue_.pop_front();
  }
  if (planted("journal_before_data")) record_needs_flush_ = false;
  if (queued_from_ > kMaxRecordBytes || queue_.empty()) {
    queued_bytes_.erase(queued_bytes_.begin(),
                        queued_bytes_.begin() + static_cast<ptrdiff_t>(queued_from_));
    queued_from_ = 0;
  }
  const size_t padded = record_blocks_ * kBlockBytes;
  std::memset(record_.data() + bytes, 0, padded - bytes);
  std::memcpy(record_.data(), &header, sizeof header);
  header.crc = record_crc(record_.span().first(bytes));
  std::memcpy(record_.data(), &header, sizeof header);
  io_status_ = StatusCode::ok;
  return true;
}

// One write, or two where the record goes around the end of the ring.
void Journal::submit_write() {
  phase_ = Phase::writing;
  const uint64_t scale = kBlockBytes / device_.info().block_size;
  const uint64_t slot = cursor_.position % geometry_.blocks;
  const uint64_t first_part = std::min<uint64_t>(record_blocks_, geometry_.blocks - slot);
  const uint64_t starts[2] = {geometry_.first_block + slot, geometry_.first_block};
  const uint64_t counts[2] = {first_part, record_blocks_ - first_part};
  std::byte* from = record_.data();
  outstanding_ = counts[1] > 0 ? 2 : 1;
  for (unsigned i = 0; i < 2 && counts[i] > 0; ++i) {
    vectors_[i] = {from, counts[i] * kBlockBytes};
    from += counts[i] * kBlockBytes;
    Io& io = ios_[i];
    io.op = Op::write;
    io.flags.fua = !planted("journal_not_forced");
    io.lba = Lba{starts[i] * scale};
    io.block_count = BlockCount{counts[i] * scale};
    io.data = {&vectors_[i], 1};
    io.user = this;
    io.done = [](Io& done) {
      auto* self = static_cast<Journal*>(done.user);
      if (done.status != StatusCode::ok) self->io_status_ = done.status;
      --self->outstanding_;
    };
    channel_->submit(io);
  }
}

void Journal::finish_record(MutexLock& lock) {
  phase_ = Phase::idle;
  cursor_.position += record_blocks_;
  cursor_.sequence += 1;
  bytes_written_ += record_blocks_ * kBlockBytes;
  records_written_ += 1;
  if (record_last_ <= durable_) return;
  durable_ = record_last_;
  const Ticket durable = durable_;
  lock.unlock();
  hooks_.on_durable(durable);
  lock.lock();
}

// Calls the waiters whose ticket is durable, or all of them after a failure.
void Journal::deliver(MutexLock& lock) {
  DurableWaiter* ready = nullptr;
  for (DurableWaiter** at = &waiters_; *at != nullptr;) {
    DurableWaiter* waiter = *at;
    if (waiter->ticket > durable_ && failure_.ok()) {
      at = &waiter->next;
      continue;
    }
    *at = waiter->next;
    waiter->next = ready;
    ready = waiter;
  }
  if (ready == nullptr) return;
  const Ticket durable = durable_;
  const Status failure = failure_;
  lock.unlock();
  while (ready != nullptr) {
    DurableWaiter* waiter = ready;
    ready = waiter->next;
    waiter->done(*waiter, waiter->ticket <= durable ? Status() : failure);
  }
  lock.lock();
}

Ticket Journal::durable() {
  MutexLock lock(mutex_);
  return durable_;
}

JournalCursor Journal::cursor() {
  MutexLock lock(mutex_);
  JournalCursor next = cursor_;
  if (phase_ != Phase::idle) {  // the record in flight holds only transactions appended before
    next.position += record_blocks_;
    next.sequence += 1;
  }
  return next;
}

bool Journal::queues(Ticket covered) {
  MutexLock lock(mutex_);
  return !queue_.empty() && queue_.front().ticket <= covered;
}

void Journal::checkpointed(Ticket covered, uint64_t tail) {
  MutexLock lock(mutex_);
  tail_ = tail;
  while (!queue_.empty() && queue_.front().ticket <= covered) {
    queued_from_ += queue_.front().bytes;
    queue_.pop_front();
  }
  if (queue_.empty()) {
    queued_bytes_.clear();
    queued_from_ = 0;
  }
  if (covered > durable_) durable_ = covered;
  changed_.notify_all();
  if (!driving_) deliver(lock);
}

// A checkpoint taken while a record is in flight starts behind that record.
uint64_t Journal::blocks_since(uint64_t since) {
  MutexLock lock(mutex_);
  return cursor_.position > since ? cursor_.position - since : 0;
}

uint64_t Journal::bytes_written() {
  MutexLock lock(mutex_);
  return bytes_written_;
}

uint64_t Journal::records_written() {
  MutexLock lock(mutex_);
  return records_written_;
}

ChannelStats Journal::channel_stats() {
  MutexLock lock(mutex_);
  while (driving_) changed_.wait(lock);
  return channel_ ? channel_->stats() : ChannelStats{};
}

void Journal::fail(const Status& status) {
  MutexLock lock(mutex_);
  if (failure_.ok()) failure_ = status;
  changed_.notify_all();
  if (waiters_ != nullptr) context_.executor().post(driver_task_);  // nobody else may call them
}

void Journal::quiesce() {
  MutexLock lock(mutex_);
  while (driving_ || phase_ != Phase::idle) {
    if (driving_) {
      changed_.wait(lock);
    } else {
      drive_once(lock, kWaitStep);
    }
  }
}

size_t validate_record(std::span<const std::byte> bytes, const Uuid& uuid, uint64_t epoch,
                       uint64_t position) {
  JournalHeader header;
  if (bytes.size() < sizeof header) return 0;
  std::memcpy(&header, bytes.data(), sizeof header);
  if ((header.magic != kJournalMagic && !planted("journal_magic")) ||
      (header.uuid != uuid && !planted("journal_uuid")) ||
      (header.epoch != epoch && !planted("journal_epoch")) ||
      (header.position != position && !planted("journal_position"))) {
    return 0;
  }
  const size_t total = sizeof header + size_t{header.payload_bytes};
  if (total > kMaxRecordBytes || total > bytes.size()) return 0;
  if (record_crc(bytes.first(total)) != header.crc && !planted("journal_checksum")) return 0;
  return total;
}

namespace {

// The ring as one array: reads blocks by position.
class RingReader {
 public:
  RingReader(Channel& channel, const DeviceInfo& info, JournalGeometry geometry)
      : channel_(channel), info_(info), geometry_(geometry), buffer_(2 * kMaxRecordBytes) {}

  // `blocks` blocks from `position`, valid until the next call.
  Result<std::span<const std::byte>> at(uint64_t position, uint64_t blocks) {
    if (position < from_ || position + blocks > from_ + held_) {
      const uint64_t want = std::min<uint64_t>(buffer_.size() / kBlockBytes, geometry_.blocks);
      for (uint64_t done = 0; done < want;) {
        const uint64_t slot = (position + done) % geometry_.blocks;
        const uint64_t count = std::min(want - done, geometry_.blocks - slot);
        BASALT_TRY(read_blocks(channel_, info_, geometry_.first_block + slot,
                               buffer_.span().subspan(done * kBlockBytes, count * kBlockBytes),
                               "journal"));
        done += count;
      }
      from_ = position;
      held_ = want;
    }
    return std::span<const std::byte>(buffer_.span())
        .subspan((position - from_) * kBlockBytes, blocks * kBlockBytes);
  }

 private:
  Channel& channel_;
  const DeviceInfo& info_;
  JournalGeometry geometry_;
  AlignedBuffer buffer_;
  uint64_t from_ = 0, held_ = 0;
};

Status replay_record(std::span<const std::byte> record, Ticket& covered,
                     const std::function<Status(Ticket, std::span<const std::byte>)>& replay) {
  JournalHeader header;
  std::memcpy(&header, record.data(), sizeof header);
  std::span<const std::byte> rest = record.subspan(sizeof header);
  Ticket ticket{header.first_transaction};
  for (uint32_t i = 0; i < header.transaction_count; ++i, ++ticket.value) {
    JournalTransaction prefix;
    if (rest.size() < sizeof prefix) break;
    std::memcpy(&prefix, rest.data(), sizeof prefix);
    rest = rest.subspan(sizeof prefix);
    if (rest.size() < prefix.bytes) break;
    const auto operations = rest.first(prefix.bytes);
    rest = rest.subspan(prefix.bytes);
    if (ticket <= covered) continue;
    if (ticket.value != covered.value + 1 && !planted("journal_first_transaction")) {
      return Status(StatusCode::corruption, "journal: transaction " + std::to_string(ticket.value) +
                                                " follows " + std::to_string(covered.value));
    }
    BASALT_TRY(replay(ticket, operations)
                   .with_context("journal: transaction " + std::to_string(ticket.value)));
    covered = ticket;
  }
  if ((!rest.empty() || ticket.value != header.first_transaction + header.transaction_count) &&
      !planted("journal_count")) {
    return Status(StatusCode::corruption, "journal: record at position " +
                                              std::to_string(header.position) +
                                              " does not hold what its header says");
  }
  return {};
}

}  // namespace

Status recover_journal(Channel& channel, const DeviceInfo& info, const Uuid& uuid,
                       JournalGeometry geometry, uint64_t epoch, JournalCursor& cursor,
                       Ticket& covered,
                       const std::function<Status(Ticket, std::span<const std::byte>)>& replay) {
  RingReader ring(channel, info, geometry);
  const uint64_t window = std::min<uint64_t>(kMaxRecordBytes / kBlockBytes, geometry.blocks);
  const uint64_t start = cursor.position;
  while (cursor.position - start < geometry.blocks) {
    BASALT_TRY_ASSIGN(const auto bytes, ring.at(cursor.position, window));
    const size_t length = validate_record(bytes, uuid, epoch, cursor.position);
    JournalHeader header{};
    if (length > 0) std::memcpy(&header, bytes.data(), sizeof header);
    if (length == 0 || (header.sequence != cursor.sequence && !planted("journal_sequence"))) break;
    BASALT_TRY(replay_record(bytes.first(length), covered, replay));
    cursor.position += (length + kBlockBytes - 1) / kBlockBytes;
    cursor.sequence += 1;
  }
  // A later record of this epoch was written only after the one that should be here was durable. The
  // lost record is at most one window long; look two windows ahead.
  for (uint64_t ahead = 1; ahead <= 2 * window && !planted("journal_hole_is_end"); ++ahead) {
    const uint64_t position = cursor.position + ahead;
    if (position - start >= geometry.blocks) break;
    const uint64_t here = std::min(window, geometry.blocks);
    BASALT_TRY_ASSIGN(const auto bytes, ring.at(position, here));
    if (validate_record(bytes, uuid, epoch, position) == 0) continue;
    JournalHeader header;
    std::memcpy(&header, bytes.data(), sizeof header);
    if (header.durable_position <= cursor.position || header.sequence <= cursor.sequence) continue;
    return Status(StatusCode::corruption,
                  "journal: the record at position " + std::to_string(cursor.position) +
                      " (sequence " + std::to_string(cursor.sequence) +
                      ") is damaged: the record at position " + std::to_string(position) +
                      " was written after it had become durable; transactions from " +
                      std::to_string(covered.value + 1) + " on cannot be recovered");
  }
  return {};
}

}  // namespace basalt::blob
