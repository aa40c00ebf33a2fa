// TcpQueue: a submission and a completion queue as one TCP connection.
//
// NVM Express TCP transport specification 1.0, §3.3 (data transfer), §3.4 (connections), §3.6 (PDUs). post() lays a
// command's capsule out beside its place; ring() hands all of them to the socket in as few calls as it takes, with
// the data straight from the caller's memory. Data up to the controller's limit travels in the capsule; for more
// the controller asks (R2T). reap() reads into a buffer, from which small data is copied to the caller's memory; what
// has not arrived yet of larger data is read straight into it.
//
// A connection on which the peer breaks the protocol, or that ends, is of no more use: it is hung up, its owner is
// told why, once, and from then on commands are taken and nothing is completed, until the owner has everything
// sent again elsewhere. Data whose digest is wrong fails its command alone, as a transport error that may be retried.
//
// Invariants: a place has at most one PDU to be sent at a time; bytes of one PDU are not interleaved with
// another's. Threads: one at a time.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "nvme/queue_pair.h"
#include "nvme/tcp/socket.h"
#include "nvme/tcp/tcp_events.h"
#include "wire/nvme/tcp_pdu.h"

namespace basalt::nvme {

struct TcpQueueShape {
  uint64_t association = 0;  // which of its owner's it belongs to
  uint16_t id = 0;
  uint16_t depth = 0;         // commands outstanding
  uint32_t capsule_data = 0;  // bytes of data in a command's capsule, at most
  tcp::ConnectionTerms terms{};
};

class TcpQueue final : public CommandQueue {
 public:
  class Owner {
   public:
    virtual ~Owner() = default;
    // From the queue's thread.
    virtual void connection_failed(const TcpQueueShape& queue, const std::string& why) noexcept = 0;
  };

  // Agrees on the connection's terms with the controller; `digests` as in tcp::ConnectionRequest.
  static Result<tcp::ConnectionTerms> establish(TcpSocket& socket, uint8_t digests,
                                                Duration timeout);

  // `events` has the socket already, and outlives the queue.
  TcpQueue(const TcpQueueShape& shape, std::shared_ptr<TcpSocket> socket, TcpEvents& events,
           Owner& owner);
  ~TcpQueue() override;

  // Sends one command and waits for its completion, before there is a QueuePair: Connect, authentication.
  // `sent` goes to the controller, or `received` is filled by it; one of them is empty.
  Result<Completion> run_alone(const Command& command, std::span<const std::byte> sent,
                               std::span<std::byte> received, Duration timeout);
  // That is over: from here on the owner is told when the connection fails. Before, run_alone() says it.
  void serve() noexcept { serving_ = true; }

  uint16_t depth() const override { return shape_.depth; }
  StatusCode post(uint16_t slot, uint16_t cid, const Request& request) noexcept override;
  void ring() noexcept override;
  unsigned reap(std::span<Completion> out) noexcept override;
  void sleep(Duration limit) noexcept override;
  // The same for all connections that follow each other under one number.
  int event_fd() const override { return events_.fd(); }

 private:
  static constexpr size_t kBufferBytes = 64 * 1024;
  enum class Sending : uint8_t { nothing, capsule, data };
  struct Slot {
    const Request* request = nullptr;  // null: the place is free
    uint32_t data_bytes = 0;           // of the command
    uint32_t moved = 0;                // of them, sent or received
    uint16_t cid = 0;
    bool digest_wrong = false;
    // The PDU to be sent: its header, with digest and padding, and its part of the data.
    Sending sending = Sending::nothing;
    uint8_t header_bytes = 0;
    uint16_t tag = 0;
    uint32_t offset = 0, length = 0;
    uint32_t wanted_end = 0;  // how far the controller has asked for data
    le32 data_digest;
    std::array<std::byte, tcp::kMaxHeaderBytes> header;
  };
  // Data that is arriving.
  struct Incoming {
    Slot* slot = nullptr;
    uint32_t offset = 0, left = 0;  // of the command's data
    uint32_t begin = 0, bytes = 0;  // of this PDU's
    bool digest = false;            // follows
    bool completes = false;         // no response follows
  };
  enum class Step : uint8_t { more, starved, completed };

  Slot* find(uint16_t cid) noexcept;
  void queue_pdu(uint16_t slot) noexcept;
  void start_host_data(Slot& slot) noexcept;
  size_t pdu_bytes(const Slot& slot) const noexcept;
  void finish_sent(Slot& slot) noexcept;
  uint32_t digest_of(const Slot& slot, uint32_t offset, uint32_t length) const noexcept;
  size_t gather(std::span<iovec> pieces) noexcept;
  void want_room(bool wanted) noexcept;
  bool receive() noexcept;
  Step take_pdu(Completion& out) noexcept;
  Step take_header(Completion& out) noexcept;
  Step take_data(Completion& out) noexcept;
  Step begin_data(const tcp::DataPdu& pdu) noexcept;
  Step ready_to_transfer(const tcp::DataPdu& pdu) noexcept;
  Step respond(const Completion& completion, Completion& out) noexcept;
  Step fail(const std::string& why,
            tcp::TerminationReason reason = tcp::TerminationReason{}) noexcept;
  size_t buffered() const noexcept { return end_ - begin_; }

  const TcpQueueShape shape_;
  const std::shared_ptr<TcpSocket> socket_;
  TcpEvents& events_;
  Owner& owner_;
  const uint16_t slot_mask_;
  std::vector<Slot> slots_;
  std::vector<uint16_t> send_ring_;  // slots with a PDU to be sent, first come first
  size_t send_first_ = 0, send_count_ = 0;
  size_t sent_ = 0;  // bytes of the first one's PDU
  std::unique_ptr<std::byte[]> buffer_;
  size_t begin_ = 0, end_ = 0;  // of what has been read and not been looked at
  size_t padding_ = 0;          // to be skipped before anything else
  Incoming incoming_;
  bool drained_ = false;  // the socket had no more when it was read last
  bool full_ = false;     // reap() has left something in the buffer
  bool failed_ = false;
  bool serving_ = false;
  std::string failure_;      // why
  bool wants_room_ = false;  // the event is to tell of room to send, too
};

}  // namespace basalt::nvme
