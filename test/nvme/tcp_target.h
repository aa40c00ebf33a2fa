// TcpTarget: a small NVMe/TCP target for the host's tests, which misbehaves on demand.
//
// One subsystem with one namespace in memory, and the discovery subsystem beside it, on a loopback port of its own. A
// second target may be another controller of the first one's namespace, with a write cache of its own.
// Each connection has a thread that takes its commands one after the other. It shares the structs of wire/nvme with the
// driver, and nothing else.
// Threads: any.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "test/zeroed_memory.h"
#include "wire/nvme/admin.h"
#include "wire/nvme/asymmetric_access.h"
#include "wire/nvme/auth/tls_key.h"
#include "wire/nvme/fabrics.h"
#include "wire/nvme/identify.h"
#include "wire/nvme/tcp_pdu.h"

namespace basalt::nvme {

struct TcpTargetOptions {
  std::string nqn = "nqn.2014-08.org.example:disk";
  uint32_t block_size = 4096;
  uint64_t block_count = 16384;
  bool volatile_cache = false;
  uint32_t capsule_data = 8192;     // of I/O commands
  uint8_t data_alignment = 0;       // as in ConnectionResponse
  uint32_t max_host_data = 131072;  // in a PDU
  uint32_t transfer = 65536;        // asked for at a time (R2T)
  uint32_t data_pdu = 16384;        // sent in one PDU
  bool success_flag = false;        // the last data PDU stands for the response
  bool digests = true;              // that are asked for are granted
  uint16_t queue_pairs = 8;
  uint8_t max_transfer_shift = 5;
  std::string only_host{};  // NQN of the one host let in; empty: all
  uint16_t controller_id = 7;
  bool reports_access = false;        // ANA
  std::optional<auth::TlsPsk> tls{};  // nothing is taken but through TLS with this key
};

// What goes wrong next; each counts down where it is a number.
struct TcpTargetFaults {
  std::atomic<int> wrong_data_digest{0};    // of data sent
  std::atomic<int> wrong_header_digest{0};  // of responses
  std::atomic<int> short_data{0};           // reads answered well with half their data
  std::atomic<int> early_response{0};       // writes answered before their data was asked for
  std::atomic<int> wild_request{0};         // R2T beyond the command's data
  std::atomic<int> wild_data{0};            // data beyond what was asked for
  std::atomic<int> unknown_command{0};      // data for a command nobody sent
  std::atomic<int> answer_twice{0};         // the second time with the number the place has next
  std::atomic<int> data_twice{0};           // the first half, in place of the second
  std::atomic<int> bad_header{0};           // a PDU of a type there is not
  std::atomic<int> terminate{0};            // the connection, by a PDU
  std::atomic<int> close_in_response{0};    // half a response, then the end
  std::atomic<int> close_in_connect{0};     // of an I/O queue
  std::atomic<int> refuse_identify{0};      // of the controller
  std::atomic<int> path_error{0};   // commands refused for the path's sake, which says nothing more
  std::atomic<bool> silent{false};  // nothing is answered
  // A queue's number stays taken so long after its connection has ended, as with Linux's target.
  std::atomic<std::chrono::milliseconds> slow_teardown{std::chrono::milliseconds(0)};
  std::atomic<int> close_in_handshake{0};  // of TLS
  std::atomic<int> update_keys{0};         // of TLS, before responses
  // Writes are kept back, unanswered, until their connection has ended and this has passed.
  std::atomic<int> late_writes{0};
  std::atomic<std::chrono::milliseconds> late_by{std::chrono::milliseconds(0)};
};

class TcpTarget {
 public:
  explicit TcpTarget(const TcpTargetOptions& options = {});
  TcpTarget(const TcpTargetOptions& options, const TcpTarget& of_the_same_namespace);
  ~TcpTarget();
  TcpTarget(const TcpTarget&) = delete;

  uint16_t port() const { return port_; }
  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }
  // Ends all connections, and takes no new ones until start().
  void stop();
  void start();
  void drop_connections();
  // What no flush has covered is gone.
  void lose_cache();

  std::vector<std::byte> read(uint64_t lba, uint64_t count);
  uint64_t commands() const { return commands_.load(); }     // of I/O queues
  uint64_t connections() const { return accepted_.load(); }  // since the beginning
  uint64_t keep_alives() const { return keep_alives_.load(); }
  uint64_t terminations() const { return terminations_.load(); }  // received
  uint64_t flushes() const { return flushes_.load(); }
  uint64_t access_logs() const { return access_logs_.load(); }  // read
  // How the namespace is reached from now on. Hosts are told (by an event, with the next keep-alive), or left to find out.
  void set_access(AccessState state, bool tell = true);
  // The namespace has changed (namespace_id): told as that is.
  void tell_namespaces_changed() { namespaces_untold_ = true; }

  TcpTargetFaults faults;
  std::atomic<uint8_t> namespace_id{0};  // its NGUID's last byte

 private:
  struct Connection;
  void accept_loop();
  void serve(Connection& connection);
  bool establish(Connection& c);
  bool take_command(Connection& c);
  bool read_command(Connection& c, const tcp::PduHeader& header);
  bool execute(Connection& c, const Command& command, std::span<const std::byte> capsule);
  bool fabrics(Connection& c, const Command& command, std::span<const std::byte> capsule);
  bool admin(Connection& c, const Command& command, std::span<const std::byte> capsule);
  bool identify(Connection& c, const Command& command);
  bool log_page(Connection& c, const Command& command);
  bool access_log(Connection& c, const Command& command);
  bool tell(Connection& c, AsyncEvent event);
  bool discovery(Connection& c, const Command& command);
  bool input(Connection& c, const Command& command, std::span<const std::byte> capsule);
  bool output(Connection& c, const Command& command, std::span<const std::byte> bytes);
  bool respond(Connection& c, const Command& command, CompletionStatus status = {},
               uint64_t result = 0);
  bool ask_for_data(Connection& c, const Command& command, std::vector<std::byte>& data);
  void write(uint64_t lba, std::span<const std::byte> bytes, bool durable);

  struct Media {
    explicit Media(size_t size) : memory(size), bytes(memory.span()) {}
    std::mutex mutex;
    const ZeroedMemory memory;
    const std::span<std::byte> bytes;
  };

  const TcpTargetOptions options_;
  const std::shared_ptr<Media> media_;
  uint16_t port_ = 0;
  std::thread acceptor_;
  std::mutex mutex_;  // protects all below but the atomics; taken before the media's
  std::map<uint64_t, std::vector<std::byte>> durable_;  // of blocks written since the last flush
  std::list<Connection> connections_;
  std::set<uint16_t> taken_;  // ids of I/O queues
  std::atomic<int> listener_{-1};
  std::atomic<uint64_t> commands_{0}, accepted_{0}, keep_alives_{0}, terminations_{0};
  std::atomic<uint64_t> flushes_{0}, access_logs_{0}, access_changes_{1};
  std::atomic<AccessState> access_{AccessState::optimized};
  std::atomic<bool> access_untold_{false}, namespaces_untold_{false};
};

}  // namespace basalt::nvme
