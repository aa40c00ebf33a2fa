#include "bdev/jobs.h"

#include <algorithm>
#include <type_traits>

#include "base/check.h"
#include "base/try.h"
#include "bdev/channel_core.h"
#include "bdev/device_base.h"

namespace basalt {
namespace {

constexpr size_t kGranule = 4096;

bool has_data(Op op) {
  return op == Op::read || op == Op::write || op == Op::compare || op == Op::compare_and_write;
}

bool is_emulated(const DeviceInfo& info, Op op) {
  return info.supported.has(op) && !info.native.has(op);
}

}  // namespace

// Any restriction may split an Io, and a split Io whose vectors are tiny must be bounced.
bool JobEngine::needed(const DeviceBase& device) {
  const NativeLimits& limits = device.limits();
  const DeviceInfo& info = device.info();
  return limits.memory_alignment > 1 || limits.needs_registered_memory ||
         limits.max_transfer_blocks != 0 || limits.max_iovecs != 0 ||
         limits.max_discard_blocks != 0 || limits.max_write_zeroes_blocks != 0 ||
         (info.volatile_write_cache && !limits.fua) || is_emulated(info, Op::compare) ||
         is_emulated(info, Op::copy) || is_emulated(info, Op::compare_and_write) ||
         is_emulated(info, Op::write_zeroes);
}

static_assert(std::is_standard_layout_v<Io>, "a piece is found by its command's address");

JobEngine::JobEngine(ChannelCore& core, DeviceBase& device) : core_(core), device_(device) {}

JobEngine::~JobEngine() = default;

Status JobEngine::prepare() {
  jobs_ = std::make_unique<Job[]>(kJobs);
  for (unsigned i = 0; i < kJobs; ++i) jobs_[i].next = i + 1 < kJobs ? &jobs_[i + 1] : nullptr;
  free_jobs_ = &jobs_[0];
  pieces_ = std::make_unique<Piece[]>(kPieces);
  for (unsigned i = 0; i < kPieces; ++i) {
    pieces_[i].next = i + 1 < kPieces ? &pieces_[i + 1] : nullptr;
  }
  free_pieces_ = &pieces_[0];
  const NativeLimits& limits = device_.limits();
  const size_t granule =
      std::max<size_t>({kGranule, limits.memory_alignment, device_.info().block_size});
  MemoryMap* map = limits.needs_registered_memory ? &device_.context().memory() : nullptr;
  BASALT_TRY_ASSIGN(
      bounce_, BouncePool::create(device_.context().bounce_bytes_per_channel(), granule, map,
                                  limits.needs_hugepages ? Hugepages::required : Hugepages::no));
  return {};
}

void JobEngine::JobList::push_back(Job& job) noexcept {
  job.next = nullptr;
  (head == nullptr ? head : tail->next) = &job;
  tail = &job;
}

JobEngine::Job* JobEngine::JobList::pop_front() noexcept {
  Job* job = head;
  if (job != nullptr) head = job->next;
  return job;
}

bool JobEngine::JobList::remove(Job& job) noexcept {
  Job* before = nullptr;
  for (Job* at = head; at != nullptr; before = at, at = at->next) {
    if (at != &job) continue;
    (before == nullptr ? head : before->next) = job.next;
    if (tail == &job) tail = before;
    return true;
  }
  return false;
}

void JobEngine::submit(Io& io) noexcept {
  io.channel_data = nullptr;
  if (!io.metadata.empty()) return core_.complete_later(io, StatusCode::unsupported);
  if (is_whole(io) && !fits_whole(io)) return core_.complete_later(io, StatusCode::too_large);
  if (!waiting_.empty() || free_jobs_ == nullptr) return waiting_.push_back(io);
  begin(io);
}

// A compare_and_write that the device does itself is one command, or it would not be atomic.
bool JobEngine::is_whole(const Io& io) const noexcept {
  return io.op == Op::compare_and_write && core_.device_.info().native.has(io.op);
}

bool JobEngine::fits_whole(const Io& io) const noexcept {
  const uint64_t blocks = io.block_count.value;
  return blocks <= core_.max_blocks(io.op) && 2 * blocks <= bounce_->size() >> core_.block_shift();
}

void JobEngine::begin(Io& io) noexcept {
  Job& job = *free_jobs_;
  free_jobs_ = job.next;
  job = Job{};
  job.io = &io;
  io.channel_data = &job;
  plan(job);
  if (lock_range(job)) return advance(job);
  parked_.push_back(job);
  core_.core_work_ = true;
}

void JobEngine::plan(Job& job) noexcept {
  const Io& io = *job.io;
  const DeviceInfo& info = device_.info();
  const bool native = info.native.has(io.op);
  switch (io.op) {
    case Op::write_zeroes: job.add(native ? Step::transfer : Step::zero); break;
    case Op::compare: job.add(native ? Step::transfer : Step::compare); break;
    case Op::copy: job.add(native ? Step::transfer : Step::copy); break;
    case Op::compare_and_write:
      job.add(native ? Step::transfer : Step::compare);
      if (!native) job.add(Step::write_new);
      break;
    default: job.add(Step::transfer); break;
  }
  const bool writes = io.op == Op::write || io.op == Op::write_zeroes || io.op == Op::copy ||
                      io.op == Op::compare_and_write;
  const bool flushes = io.flags.fua && writes && info.volatile_write_cache && !device_.limits().fua;
  if (flushes) job.add(Step::flush);
  if (!native || flushes) ++core_.stats_.emulated;
}

// True when the job may begin.
bool JobEngine::lock_range(Job& job) noexcept {
  const Io& io = *job.io;
  if (!core_.tracks_writes_) return true;
  const bool exclusive = io.op == Op::compare_and_write;
  const bool writes =
      io.op == Op::write || io.op == Op::write_zeroes || io.op == Op::discard || io.op == Op::copy;
  if (!exclusive && !writes) return true;
  RangeLocks& ranges = device_.ranges_;
  if (writes && ranges.enter_write(core_.range_user_)) return job.counted_write = true;
  job.range.kind = exclusive ? RangeLock::Kind::exclusive : RangeLock::Kind::write;
  job.range.first = io.lba;
  job.range.count = io.block_count;
  job.range.user = &core_.range_user_;
  ranges.enqueue(job.range);
  return ranges.granted(job.range);
}

void JobEngine::resume() noexcept {
  retry_parked();
  serve_starved();
  serve_waiting();
}

void JobEngine::retry_parked() noexcept {
  JobList parked = parked_;
  parked_ = {};
  while (Job* job = parked.pop_front()) {
    if (device_.ranges_.granted(job->range)) {
      advance(*job);
    } else {
      parked_.push_back(*job);
    }
  }
}

void JobEngine::advance(Job& job) noexcept {
  if (job.starved && job.status == StatusCode::ok) return;  // its turn comes
  for (;;) {
    while (job.status == StatusCode::ok && job.next_block < job.blocks() &&
           job.pieces < kPiecesPerJob) {
      // Nobody overtakes a job that already waits for pieces or memory.
      if ((starved_.head == nullptr || job.starved) && issue(job)) continue;
      if (!job.starved) starved_.push_back(job);
      job.starved = true;
      return;
    }
    if (job.pieces != 0) return;
    if (job.status != StatusCode::ok || ++job.step == job.step_count) return finish(job);
    job.next_block = 0;
  }
}

void JobEngine::serve_starved() noexcept {
  while (Job* job = starved_.head) {
    while (job->status == StatusCode::ok && job->next_block < job->blocks() &&
           job->pieces < kPiecesPerJob) {
      if (!issue(*job)) return;
    }
    starved_.pop_front();
    job->starved = false;
  }
}

void JobEngine::finish(Job& job) noexcept {
  Io& io = *job.io;
  const StatusCode status = job.status;
  core_.stats_.split += job.was_split;
  core_.stats_.bounced += job.was_bounced;
  release(job);
  core_.finish(io, status, status == StatusCode::ok ? io.block_count.value : 0);
}

// Gives back the job and what it holds.
void JobEngine::release(Job& job) noexcept {
  if (job.starved) starved_.remove(job);
  if (job.counted_write) device_.ranges_.leave_write(core_.range_user_);
  if (job.range.queued) device_.ranges_.release(job.range);
  job.io = nullptr;
  job.next = free_jobs_;
  free_jobs_ = &job;
}

void JobEngine::serve_waiting() noexcept {
  while (!waiting_.empty() && free_jobs_ != nullptr) begin(*waiting_.pop_front());
}

void JobEngine::command_done(Io& command, StatusCode status) noexcept {
  Piece& piece = reinterpret_cast<Piece&>(command);
  Job& job = *piece.job;
  status = end_piece(piece, status);
  if (status != StatusCode::ok && job.status == StatusCode::ok) job.status = status;
  const bool copy_write = job.current() == Step::copy && command.op == Op::read;
  if (copy_write && job.status == StatusCode::ok) {
    command.op = Op::write;
    command.flags.fua = job.io->flags.fua && device_.limits().fua;
    command.lba = job.io->lba + (command.lba - job.io->copy_source);
    return core_.start_or_queue(command);
  }
  give_piece(piece);
  --job.pieces;
  advance(job);
  serve_starved();
  serve_waiting();
}

// What the piece's data is for, once the command has completed.
StatusCode JobEngine::end_piece(Piece& piece, StatusCode status) noexcept {
  if (status != StatusCode::ok || piece.bounce.empty()) return status;
  const Io& io = *piece.job->io;
  if (piece.job->current() == Step::compare) {
    return same(io.data, piece.at, piece.bounce) ? StatusCode::ok : StatusCode::miscompare;
  }
  if (piece.job->current() == Step::transfer && io.op == Op::read) {
    scatter(piece.bounce, io.data, piece.at);
  }
  return StatusCode::ok;
}

bool JobEngine::cancel(Io& io) noexcept {
  if (waiting_.remove(io)) {
    core_.complete_later(io, StatusCode::canceled);
    return true;
  }
  const auto held = reinterpret_cast<uintptr_t>(io.channel_data);
  if (held == 0 || (held & ChannelCore::kHolds) != 0) return false;
  Job& job = *static_cast<Job*>(io.channel_data);
  if (job.status == StatusCode::ok) job.status = StatusCode::canceled;
  if (job.pieces == 0) {  // parked or starved
    parked_.remove(job);
    release(job);
    core_.complete_later(io, StatusCode::canceled);  // and the next poll calls resume()
    return true;
  }
  for (unsigned i = 0; i < kPieces; ++i) {
    Piece& piece = pieces_[i];
    if (piece.job == &job && !core_.pending_.contains(piece.command)) {
      core_.cancel_command(piece.command);
    }
  }
  return true;
}

JobEngine::Piece* JobEngine::take_piece() noexcept {
  Piece* piece = free_pieces_;
  if (piece != nullptr) free_pieces_ = piece->next;
  return piece;
}

void JobEngine::give_piece(Piece& piece) noexcept {
  if (!piece.bounce.empty()) bounce_->give(piece.bounce);
  if (piece.holds_memory) core_.memory_user_->leave(piece.memory_phase);
  piece.job = nullptr;
  piece.next = free_pieces_;
  free_pieces_ = &piece;
}

bool JobEngine::issue(Job& job) noexcept {
  Piece* piece = take_piece();
  if (piece == nullptr) return false;
  const Io& io = *job.io;
  piece->job = &job;
  piece->at = job.at;
  piece->bounce = {};
  piece->holds_memory = core_.memory_user_.has_value();
  if (piece->holds_memory) piece->memory_phase = core_.memory_user_->enter();
  Io& command = piece->command;
  command = Io{};
  command.flags = io.flags;
  command.flags.fua = io.flags.fua && device_.limits().fua;
  command.priority = io.priority;
  command.lifetime = io.lifetime;
  command.tenant = io.tenant;
  command.channel_data = &job;
  const uint64_t blocks = fill(job, *piece);
  if (blocks == 0) {
    give_piece(*piece);
    return false;
  }
  if (job.current() == Step::transfer && blocks != job.blocks()) job.was_split = true;
  job.next_block += blocks;
  ++job.pieces;
  core_.start_or_queue(command);
  return true;
}

uint64_t JobEngine::fill(Job& job, Piece& piece) noexcept {
  const Io& io = *job.io;
  Io& command = piece.command;
  const Step step = job.current();
  if (step == Step::flush) {
    command.op = Op::flush;
    return 1;
  }
  const BlockCount done{job.next_block};
  const uint64_t left = job.blocks() - job.next_block;
  command.lba = (step == Step::copy ? io.copy_source : io.lba) + done;
  uint64_t blocks = 0;
  switch (step) {
    case Step::transfer:
      command.op = io.op;
      command.copy_source = io.copy_source + done;
      blocks = fill_transfer(job, piece, std::min(left, core_.max_blocks(io.op)));
      break;
    case Step::write_new:
      command.op = Op::write;
      blocks = fill_transfer(job, piece, std::min(left, core_.max_blocks(Op::write)));
      break;
    case Step::zero:
      command.op = Op::write;
      blocks = fill_zero(job, piece, std::min(left, core_.max_blocks(Op::write)));
      break;
    case Step::compare:
    case Step::copy:
      command.op = Op::read;
      command.flags.fua = false;
      blocks = fill_bounce(piece, 1, std::min(left, core_.max_blocks(Op::read)));
      if (step == Step::compare) job.at.skip(io.data, blocks << core_.block_shift());
      break;
    case Step::flush: break;
  }
  command.block_count = BlockCount{blocks};
  return blocks;
}

uint64_t JobEngine::fill_transfer(Job& job, Piece& piece, uint64_t most) noexcept {
  const Io& io = *job.io;
  if (!has_data(io.op)) return most;
  const unsigned shift = core_.block_shift();
  if (is_whole(io)) {
    if (fill_bounce(piece, 2 * most, 2 * most) == 0) return 0;
    gather(io.data, {}, piece.bounce);
    return most;
  }
  const size_t direct = slice(job, piece, most << shift);
  if (direct != 0) {
    job.at.skip(io.data, direct);
    return direct >> shift;
  }
  const uint64_t blocks = fill_bounce(piece, 1, most);
  if (blocks == 0) return 0;
  if (piece.command.op != Op::read) gather(io.data, job.at, piece.bounce);
  job.at.skip(io.data, blocks << shift);
  job.was_bounced = true;
  return blocks;
}

uint64_t JobEngine::fill_zero(Job&, Piece& piece, uint64_t most) noexcept {
  const std::span<std::byte> zeroes = bounce_->zeroes();
  const uint32_t max_iovecs = device_.limits().max_iovecs;
  const size_t vectors = max_iovecs == 0 ? kPieceVectors : std::min(max_iovecs, kPieceVectors);
  const size_t bytes = std::min<uint64_t>(most, vectors * zeroes.size() >> core_.block_shift())
                       << core_.block_shift();
  size_t count = 0;
  for (size_t at = 0; at < bytes; at += zeroes.size()) {
    piece.vectors[count++] = {zeroes.data(), std::min(zeroes.size(), bytes - at)};
  }
  piece.command.data = {piece.vectors.data(), count};
  return bytes >> core_.block_shift();
}

// Bounce memory for up to `most` blocks, but no more than a quarter of it for one piece unless
// `least` asks for more.
uint64_t JobEngine::fill_bounce(Piece& piece, uint64_t least, uint64_t most) noexcept {
  const unsigned shift = core_.block_shift();
  const uint64_t share = std::max(least, uint64_t{bounce_->size() / 4} >> shift);
  const std::span<std::byte> bytes = bounce_->take(least << shift, std::min(most, share) << shift);
  if (bytes.empty()) return 0;
  piece.bounce = bytes;
  piece.vectors[0] = {piece.bounce.data(), piece.bounce.size()};
  piece.command.data = {piece.vectors.data(), 1};
  return piece.bounce.size() >> shift;
}

// Takes the user's own memory, from the job's position on, as far as the device can use it and the
// piece has room for it, in whole blocks. 0: it must be bounced.
size_t JobEngine::slice(const Job& job, Piece& piece, size_t most) noexcept {
  const std::span<const iovec> vectors = job.io->data;
  const uint32_t max_iovecs = device_.limits().max_iovecs;
  const size_t room = max_iovecs == 0 ? kPieceVectors : std::min(max_iovecs, kPieceVectors);
  IoCursor at = job.at;
  size_t bytes = 0;
  size_t count = 0;
  while (bytes < most && count < room) {
    const iovec& vector = vectors[at.index];
    const iovec part{static_cast<std::byte*>(vector.iov_base) + at.offset,
                     std::min(vector.iov_len - at.offset, most - bytes)};
    if (part.iov_len != 0) {
      if (!core_.usable(part)) break;
      piece.vectors[count++] = part;
    }
    bytes += part.iov_len;
    at.skip_in(vector, part.iov_len);
  }
  size_t extra = bytes & ((size_t{1} << core_.block_shift()) - 1);
  bytes -= extra;
  while (extra != 0) {
    iovec& last = piece.vectors[count - 1];
    const size_t cut = std::min(extra, last.iov_len);
    last.iov_len -= cut;
    extra -= cut;
    if (last.iov_len == 0) --count;
  }
  if (bytes == 0 || !core_.usable(piece.vectors[count - 1])) return 0;
  piece.command.data = {piece.vectors.data(), count};
  return bytes;
}

}  // namespace basalt
