// TcpConnection: one NVMe/TCP connection of a host, which is one queue.
//
// NVM Express TCP transport specification 1.0, §3.3 (data transfer), §3.4 (connections), §3.6 (PDUs). Many PDUs are taken
// from one read of the socket and all answers that are ready go out in one write, the data straight from the memory it was
// read into. A command's data comes in its capsule or is asked for whole (R2T); what of it is not in the buffer yet is
// read from the socket to where it belongs. A header that breaks the protocol ends the connection by a termination PDU;
// data with a wrong digest fails its command.
//
// Memory is bounded: a buffer for what arrives, a request for each entry of the queue, and data from the poll group's pool.
// When that is empty commands wait, which is told by retry(); a connection is always given kReserve buffers of each kind
// all the same, which is what it takes to get on without anybody else's doing.
//
// Threads: its poll group's reactor's.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "reactor/reactor.h"
#include "targets/nvmf/queue.h"
#include "targets/nvmf/tcp/listener.h"
#include "wire/nvme/fabrics.h"
#include "wire/nvme/tcp_pdu.h"
#include "wire/nvme/tls/tls_stream.h"

namespace basalt::nvmf {

class TcpConnection final : Reactor::Handler, Transport {
 public:
  // `ended`: it has, nothing of it is under way any more, and it may be destroyed; told once, by a posted call.
  TcpConnection(Target& target, PollGroup& group, UniqueFd fd, std::string listener,
                std::string peer, std::function<void(TcpConnection&)> ended);
  ~TcpConnection();
  // Errors: no_space.
  Status start(Security security);
  // Ends it, if it has not ended: then `ended` is told.
  void hang_up(const char* why) noexcept override;

 private:
  static constexpr size_t kBufferBytes = 32 * 1024;
  static constexpr unsigned kReserve = 2;
  static constexpr unsigned kMostHeld = 64;  // of a kind, however much there is

  enum class Stage : uint8_t {
    securing,  // TLS is being agreed on
    opening,   // before the connection request
    serving,
    ending,    // a termination is to be sent
    draining,  // it was; the host is to close
    closed,    // the socket is of no more use; requests may still be at devices
  };
  enum class Kind : uint8_t { none, capsule, small, large };  // of memory for data
  struct TcpRequest : Request {
    enum class State : uint8_t {
      free,
      starved,   // waits for memory
      arriving,  // the capsule's data does
      asking,    // its data is to be asked for
      asked,     // … and was
      executing,
      sending,
    } state = State::free;
    Kind kind = Kind::none;
    bool digest_wrong = false;
    bool has_data_to_send = false;
    uint8_t header_bytes = 0, trailer_bytes = 0;
    uint16_t tag = 0;       // its place: the tag of its transfer
    uint32_t received = 0;  // of the data that was asked for
    std::span<std::byte> buffer;
    std::array<std::byte, nvme::tcp::kMaxHeaderBytes> header;  // the PDU's that is sent
    std::array<std::byte, 32> trailer;  // what follows its data: digest, response
  };
  // Data that is arriving.
  struct Incoming {
    TcpRequest* request = nullptr;  // null: nobody wants it
    uint32_t offset = 0, left = 0;  // of the command's data
    uint32_t begin = 0, bytes = 0;  // of this PDU's
    bool digest = false;            // follows
  };
  enum class Step : bool { more, starved };

  void on_ready(uint32_t events) noexcept override;
  void complete(Request& request) noexcept override;
  void flush() noexcept override;
  void retry() noexcept override;
  void visit_requests(const std::function<void(Request&)>& visit) override;
  std::string local_host() const override;
  const nvme::auth::TlsIdentity* secured_by() const override {
    return tls_ == nullptr ? nullptr : &secured_by_;
  }

  // As recvmsg() and sendmsg() without waiting.
  ssize_t read_socket(std::span<const iovec> pieces) noexcept;
  ssize_t write_socket(std::span<const iovec> pieces) noexcept;
  std::string socket_error(int number) const;
  void shake_hands() noexcept;
  void receive_again_if_more() noexcept;

  // ---- Arriving (receive.cc)
  void receive() noexcept;
  void take_pdus() noexcept;
  Step take_header() noexcept;
  Step take_data() noexcept;
  Step take_connection_request() noexcept;
  Step take_command(const nvme::tcp::PduHeader& header, uint32_t data_bytes) noexcept;
  Step take_host_data(const nvme::tcp::PduHeader& header, uint32_t data_bytes) noexcept;
  void begin_data(const nvme::tcp::PduHeader& header, TcpRequest* request, uint32_t offset,
                  uint32_t bytes) noexcept;
  void finish_data() noexcept;
  std::optional<nvme::tcp::PduFault> check_digest(const nvme::tcp::PduHeader& header) noexcept;
  bool get_memory(TcpRequest& request, uint32_t bytes, Kind kind) noexcept;
  void proceed(TcpRequest& request, uint32_t bytes) noexcept;
  void ask_for_data(TcpRequest& request) noexcept;
  void wait_for_data() noexcept;
  void look_for_data() noexcept;
  void execute(TcpRequest& request) noexcept;
  void refuse(TcpRequest& request, nvme::CompletionStatus status) noexcept;
  Step fail(const nvme::tcp::PduFault& fault) noexcept;
  size_t buffered() const noexcept { return end_ - begin_; }

  // ---- Leaving (connection.cc)
  TcpRequest* take_request() noexcept;
  void release(TcpRequest& request) noexcept;
  void release_memory(TcpRequest& request) noexcept;
  void send(TcpRequest& request) noexcept;
  void lay_out_answer(TcpRequest& request) noexcept;
  size_t put_header(TcpRequest& request, const void* pdu, size_t bytes, size_t data_bytes) noexcept;
  size_t gather(std::span<iovec> pieces, size_t& bytes) noexcept;
  void sent(size_t bytes) noexcept;
  void watch_for(uint32_t events) noexcept;
  void close() noexcept;
  void end_if_quiet() noexcept;

  Target& target_;
  PollGroup& group_;
  const UniqueFd fd_;
  const std::function<void(TcpConnection&)> ended_;
  Stage stage_ = Stage::opening;
  std::unique_ptr<nvme::TlsStream> tls_;  // null: in the clear
  nvme::auth::TlsIdentity secured_by_;
  bool told_ended_ = false;
  Reactor::Watch watch_;
  uint32_t watched_ = 0;
  Reactor::Timer deadline_;             // for Connect; for the host's closing
  Reactor::Timer data_timer_;           // while there is data that was asked for, or not taken
  bool data_moved_ = false;             // some of it, since the timer was set
  unsigned asked_ = 0;                  // requests whose data that is
  nvme::tcp::ConnectionTerms terms_;    // of what the host sends
  nvme::tcp::ConnectionTerms sending_;  // and we
  std::unique_ptr<std::byte[]> buffer_;
  size_t begin_ = 0, end_ = 0;  // of what has been read and not been looked at
  size_t padding_ = 0;          // to be skipped before data
  Incoming incoming_;
  TcpRequest* stalled_ =
      nullptr;  // its capsule's data has no memory: nothing more is taken before it has
  uint32_t stalled_bytes_ = 0;
  std::vector<std::unique_ptr<TcpRequest>> requests_;
  std::vector<TcpRequest*> free_;
  std::vector<TcpRequest*> starved_;
  std::array<unsigned, 4> held_{};  // buffers, by kind
  std::vector<TcpRequest*> to_send_;
  size_t first_to_send_ = 0;
  size_t sent_ = 0;  // bytes of the first one's
  bool flush_due_ = false, receive_due_ = false, waits_for_buffer_ = false;
  std::vector<std::byte> termination_;  // the PDU, once there is one
  Queue queue_;                         // last: it lets go of requests
};

}  // namespace basalt::nvmf
