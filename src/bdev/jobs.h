// JobEngine: carries out the Ios that a backend cannot take as they are.
//
// A job is one user's Io and up to three steps; each step covers the Io's blocks with pieces,
// native commands of the core's own:
//   transfer   the Io's own op, split at the device's limits; data bounced where it must be
//   write_new  compare_and_write's second half: write the new data
//   zero       write_zeroes as writes of zeroes
//   compare    read into bounce memory and compare with the Io's data
//   copy       read into bounce memory, then write that
//   flush      what FUA means where the device has none
// Jobs, pieces and bounce memory are allocated with the channel and bounded. An Io that finds no
// job waits in `waiting_`, a job that finds no piece or memory in `starved_`, a job whose blocks
// are locked in `parked_`; all are intrusive and first come, first served, and always somebody else
// who needs nothing more will finish and give back. Invariants: a job in `starved_` or `parked_` is
// in no other list; a parked job has no pieces; a piece's command is with the backend, or in the
// channel's pending list, and nowhere else. Thread rules: the channel's.
#pragma once

#include <basalt/device.h>

#include <array>
#include <cstdint>
#include <memory>
#include <span>

#include "bdev/bounce_pool.h"
#include "bdev/io_cursor.h"
#include "bdev/io_list.h"
#include "bdev/range_lock.h"

namespace basalt {

class ChannelCore;
class DeviceBase;

class JobEngine {
 public:
  // Whether a device's channels need jobs at all.
  static bool needed(const DeviceBase& device);

  JobEngine(ChannelCore& core, DeviceBase& device);
  ~JobEngine();
  Status prepare();

  // Carries out an Io that has passed the checks. Completes nothing before returning.
  void submit(Io& io) noexcept;
  // A piece's command has completed.
  void command_done(Io& command, StatusCode status) noexcept;
  // True when the Io was here, waiting or with a job.
  bool cancel(Io& io) noexcept;

  // Jobs that wait for a range another channel holds.
  bool has_parked() const noexcept { return parked_.head != nullptr; }
  // From poll(), when something may have become free otherwise than by a command's completion: a
  // range, or what a cancelled job held.
  void resume() noexcept;

 private:
  static constexpr unsigned kJobs = 64;
  static constexpr unsigned kPieces = 128;
  static constexpr unsigned kPieceVectors = 32;
  static constexpr unsigned kPiecesPerJob = 16;

  enum class Step : uint8_t { transfer, write_new, zero, compare, copy, flush };

  struct Job {
    Io* io = nullptr;
    Job* next = nullptr;
    std::array<Step, 3> steps{};
    uint8_t step_count = 0;
    uint8_t step = 0;
    StatusCode status = StatusCode::ok;  // the first failure; nothing new is started after it
    bool starved = false;
    bool counted_write = false;  // entered RangeLocks as a plain write
    bool was_split = false;
    bool was_bounced = false;
    unsigned pieces = 0;      // in flight
    uint64_t next_block = 0;  // of the step, not yet given to a piece
    IoCursor at;              // of that block's data
    RangeLock range;

    Step current() const { return steps[step]; }
    uint64_t blocks() const { return current() == Step::flush ? 1 : io->block_count.value; }
    void add(Step s) { steps[step_count++] = s; }
  };

  struct Piece {
    Io command;  // first: a command's address is its piece's
    Job* job = nullptr;
    Piece* next = nullptr;
    IoCursor at;                  // where its data begins in the user's vectors
    std::span<std::byte> bounce;  // empty: the user's memory is used
    bool holds_memory = false;
    unsigned memory_phase = 0;
    std::array<iovec, kPieceVectors> vectors;
  };

  struct JobList {
    Job* head = nullptr;
    Job* tail = nullptr;
    void push_back(Job& job) noexcept;
    Job* pop_front() noexcept;
    bool remove(Job& job) noexcept;
  };

  void begin(Io& io) noexcept;
  void plan(Job& job) noexcept;
  bool lock_range(Job& job) noexcept;
  void advance(Job& job) noexcept;
  void finish(Job& job) noexcept;
  void release(Job& job) noexcept;
  void retry_parked() noexcept;
  void serve_starved() noexcept;
  void serve_waiting() noexcept;

  // Starts the step's next piece; false: no piece or no memory now.
  bool issue(Job& job) noexcept;
  // Fill `piece` for the step's next blocks; answer how many, 0: no memory now.
  uint64_t fill(Job& job, Piece& piece) noexcept;
  uint64_t fill_transfer(Job& job, Piece& piece, uint64_t most) noexcept;
  uint64_t fill_zero(Job& job, Piece& piece, uint64_t most) noexcept;
  uint64_t fill_bounce(Piece& piece, uint64_t least, uint64_t most) noexcept;
  size_t slice(const Job& job, Piece& piece, size_t most) noexcept;
  void use_bounce(Piece& piece) noexcept;
  StatusCode end_piece(Piece& piece, StatusCode status) noexcept;
  bool is_whole(const Io& io) const noexcept;
  bool fits_whole(const Io& io) const noexcept;

  Piece* take_piece() noexcept;
  void give_piece(Piece& piece) noexcept;

  ChannelCore& core_;
  DeviceBase& device_;
  std::unique_ptr<BouncePool> bounce_;
  std::unique_ptr<Job[]> jobs_;
  std::unique_ptr<Piece[]> pieces_;
  Job* free_jobs_ = nullptr;
  Piece* free_pieces_ = nullptr;
  IoList waiting_;
  JobList starved_;
  JobList parked_;
};

}  // namespace basalt
