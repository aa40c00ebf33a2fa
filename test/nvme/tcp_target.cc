// See tcp_target.h.
#include "nvme/tcp_target.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <optional>
#include <utility>

#include "base/crc32c.h"
#include "nvme/tls_server.h"
#include "wire/nvme/admin.h"
#include "wire/nvme/block_ranges.h"

namespace basalt::nvme {

using tcp::DataPdu;
using tcp::PduHeader;
using tcp::PduType;

struct TcpTarget::Connection {
  int fd = -1;
  std::unique_ptr<TlsServer> tls;  // null: in the clear
  std::thread thread;
  tcp::ConnectionTerms terms;  // of the data it sends, as the host's terms are of the host's
  uint16_t queue_id = 0;
  bool discovery = false, enabled = false, shut_down = false;
  std::vector<std::pair<uint64_t, std::vector<std::byte>>> late;  // writes kept back
  std::optional<Command> formatting;
  std::optional<Command> event;  // that is waited for
  int keep_alives_to_go = 0;
  std::deque<std::pair<Command, std::vector<std::byte>>> pending;  // and their data in capsules

  bool receive(void* into, size_t bytes) const {
    auto* at = static_cast<std::byte*>(into);
    while (bytes > 0) {
      const ssize_t n = tls != nullptr ? tls->receive(at, bytes) : ::recv(fd, at, bytes, 0);
      if (n <= 0) return false;
      at += n;
      bytes -= static_cast<size_t>(n);
    }
    return true;
  }
  bool send(const std::vector<std::byte>& bytes) const {
    size_t done = 0;
    while (done < bytes.size()) {
      const std::byte* const at = bytes.data() + done;
      const size_t left = bytes.size() - done;
      const ssize_t n = tls != nullptr ? tls->send(at, left) : ::send(fd, at, left, MSG_NOSIGNAL);
      if (n <= 0) return false;
      done += static_cast<size_t>(n);
    }
    return true;
  }
};

namespace {

bool due(std::atomic<int>& fault) {
  int left = fault.load();
  while (left > 0 && !fault.compare_exchange_weak(left, left - 1)) {
  }
  return left > 0;
}

template <class Struct>
std::vector<std::byte> bytes_of(const Struct& value) {
  const auto bytes = std::as_bytes(std::span(&value, 1));
  return {bytes.begin(), bytes.end()};
}

void append_digest(std::vector<std::byte>& bytes, std::span<const std::byte> of, bool wrong) {
  const le32 digest = crc32c(of) ^ (wrong ? 1 : 0);
  const auto raw = std::as_bytes(std::span(&digest, 1));
  bytes.insert(bytes.end(), raw.begin(), raw.end());
}

uint32_t data_length(const Command& command) {
  SglDescriptor sgl;
  std::memcpy(static_cast<void*>(&sgl), &command.data, sizeof sgl);
  return sgl.length;
}

void set_text(char* field, size_t bytes, const std::string& text, char pad) {
  std::memset(field, pad, bytes);
  std::memcpy(field, text.data(), std::min(bytes, text.size()));
}

}  // namespace

TcpTarget::TcpTarget(const TcpTargetOptions& options)
    : options_(options), media_(std::make_shared<Media>(options.block_size * options.block_count)) {
  start();
}

TcpTarget::TcpTarget(const TcpTargetOptions& options, const TcpTarget& of_the_same_namespace)
    : options_(options), media_(of_the_same_namespace.media_) {
  start();
}

TcpTarget::~TcpTarget() { stop(); }

void TcpTarget::start() {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int on = 1;
  ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port_);
  EXPECT_EQ(::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0)
      << std::strerror(errno);
  EXPECT_EQ(::listen(fd, 64), 0);
  socklen_t bytes = sizeof address;
  ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &bytes);
  port_ = ntohs(address.sin_port);
  listener_ = fd;
  acceptor_ = std::thread([this] { accept_loop(); });
}

void TcpTarget::stop() {
  const int fd = listener_.exchange(-1);
  if (fd < 0) return;
  ::shutdown(fd, SHUT_RDWR);
  acceptor_.join();
  ::close(fd);
  drop_connections();
  for (Connection& connection : connections_) {
    connection.thread.join();
    ::close(connection.fd);
  }
  connections_.clear();
}

void TcpTarget::drop_connections() {
  const std::lock_guard lock(mutex_);
  for (Connection& connection : connections_) ::shutdown(connection.fd, SHUT_RDWR);
}

void TcpTarget::lose_cache() {
  const std::lock_guard lock(mutex_);
  const std::lock_guard media(media_->mutex);
  for (const auto& [lba, bytes] : durable_) {
    std::copy(bytes.begin(), bytes.end(),
              media_->bytes.begin() + static_cast<ptrdiff_t>(lba * options_.block_size));
  }
  durable_.clear();
}

std::vector<std::byte> TcpTarget::read(uint64_t lba, uint64_t count) {
  const std::lock_guard media(media_->mutex);
  const auto at = media_->bytes.begin() + static_cast<ptrdiff_t>(lba * options_.block_size);
  return {at, at + static_cast<ptrdiff_t>(count * options_.block_size)};
}

void TcpTarget::write(uint64_t lba, std::span<const std::byte> bytes, bool durable) {
  const std::lock_guard lock(mutex_);
  const std::lock_guard media(media_->mutex);
  for (size_t at = 0; at < bytes.size(); at += options_.block_size, ++lba) {
    const auto place = media_->bytes.begin() + static_cast<ptrdiff_t>(lba * options_.block_size);
    if (options_.volatile_cache && !durable) {
      durable_.try_emplace(lba, place, place + options_.block_size);
    }
    if (durable) durable_.erase(lba);
    std::copy_n(bytes.begin() + static_cast<ptrdiff_t>(at), options_.block_size, place);
  }
}

// ---- Connections

void TcpTarget::accept_loop() {
  for (;;) {
    const int listener = listener_;
    if (listener < 0) return;
    const int fd = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0) return;
    const int on = 1;
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    ++accepted_;
    const std::lock_guard lock(mutex_);
    Connection& connection = connections_.emplace_back();
    connection.fd = fd;
    connection.thread = std::thread([this, &connection] { serve(connection); });
  }
}

void TcpTarget::serve(Connection& c) {
  if (establish(c)) {
    while (take_command(c)) {
    }
  }
  ::shutdown(c.fd, SHUT_RDWR);
  if (c.queue_id != 0) {
    std::this_thread::sleep_for(faults.slow_teardown.load());
    const std::lock_guard lock(mutex_);
    taken_.erase(c.queue_id);
  }
  if (c.late.empty()) return;
  std::this_thread::sleep_for(faults.late_by.load());
  for (const auto& [lba, bytes] : c.late) write(lba, bytes, false);
}

bool TcpTarget::establish(Connection& c) {
  if (options_.tls) {
    if (due(faults.close_in_handshake)) return false;
    c.tls = TlsServer::accept(c.fd, *options_.tls);
    if (c.tls == nullptr) return false;
  }
  tcp::ConnectionRequest request{};
  if (!c.receive(&request, sizeof request)) return false;
  if (request.header.type != static_cast<uint8_t>(PduType::connection_request)) return false;
  EXPECT_EQ(request.header.bytes, sizeof request);
  tcp::ConnectionResponse response{};
  response.header = {.type = static_cast<uint8_t>(PduType::connection_response),
                     .flags = 0,
                     .header_bytes = sizeof response,
                     .data_offset = 0,
                     .bytes = sizeof response};
  response.data_alignment = options_.data_alignment;
  response.digests = options_.digests ? request.digests : uint8_t{0};
  response.max_host_data = options_.max_host_data;
  c.terms.header_digest = (response.digests & tcp::kUseHeaderDigest) != 0;
  c.terms.data_digest = (response.digests & tcp::kUseDataDigest) != 0;
  c.terms.host_data_alignment = static_cast<uint8_t>((request.data_alignment + 1) * 4);
  return c.send(bytes_of(response));
}

bool TcpTarget::take_command(Connection& c) {
  if (c.pending.empty()) {
    PduHeader header;
    if (!c.receive(&header, sizeof header)) return false;
    if (header.type == static_cast<uint8_t>(PduType::host_termination)) {
      ++terminations_;
      return false;
    }
    if (!read_command(c, header)) return false;
  }
  const auto [command, data] = std::move(c.pending.front());
  c.pending.pop_front();
  if (faults.silent) return true;
  return execute(c, command, data);
}

// Reads what follows a command's header, and keeps it for its turn.
bool TcpTarget::read_command(Connection& c, const PduHeader& header) {
  tcp::CommandPdu pdu{};
  pdu.header = header;
  EXPECT_EQ(pdu.header.type, static_cast<uint8_t>(PduType::command));
  EXPECT_EQ(pdu.header.header_bytes, sizeof pdu);
  if (!c.receive(&pdu.command, sizeof pdu.command)) return false;
  size_t taken = sizeof pdu;
  if (c.terms.header_digest) {
    le32 digest;
    if (!c.receive(&digest, sizeof digest)) return false;
    taken += sizeof digest;
    EXPECT_EQ(digest, crc32c(std::as_bytes(std::span(&pdu, 1))));
  }
  std::vector<std::byte> data;
  if (pdu.header.data_offset != 0) {
    EXPECT_EQ(pdu.header.data_offset % ((options_.data_alignment + 1) * 4), 0);
    std::vector<std::byte> padding(pdu.header.data_offset - taken);
    data.resize(pdu.header.bytes - pdu.header.data_offset - (c.terms.data_digest ? 4 : 0));
    if (!c.receive(padding.data(), padding.size()) || !c.receive(data.data(), data.size())) {
      return false;
    }
    EXPECT_EQ(data.size(), data_length(pdu.command));
    if (c.terms.data_digest) {
      le32 digest;
      if (!c.receive(&digest, sizeof digest)) return false;
      EXPECT_EQ(digest, crc32c(data));
    }
  }
  c.pending.emplace_back(pdu.command, std::move(data));
  return true;
}

bool TcpTarget::respond(Connection& c, const Command& command, CompletionStatus status,
                        uint64_t result) {
  if (c.tls != nullptr && due(faults.update_keys)) c.tls->update_keys();
  tcp::ResponsePdu pdu{};
  const auto bytes = static_cast<uint32_t>(sizeof pdu + (c.terms.header_digest ? 4 : 0));
  pdu.header = {.type = static_cast<uint8_t>(PduType::response),
                .flags = c.terms.header_digest ? tcp::kHeaderDigest : uint8_t{0},
                .header_bytes = sizeof pdu,
                .data_offset = 0,
                .bytes = bytes};
  const bool bad = c.queue_id != 0 && due(faults.bad_header);
  if (bad) pdu.header.type = 0x2a;
  pdu.completion.result = static_cast<uint32_t>(result);
  pdu.completion.result_high = static_cast<uint32_t>(result >> 32);
  pdu.completion.cid = command.cid;
  pdu.completion.status_and_phase = static_cast<uint16_t>(status.field() << 1);
  std::vector<std::byte> out = bytes_of(pdu);
  if (c.terms.header_digest) {
    append_digest(out, std::as_bytes(std::span(&pdu, 1)),
                  c.queue_id != 0 && due(faults.wrong_header_digest));
  }
  if (c.queue_id != 0 && due(faults.answer_twice)) {
    tcp::ResponsePdu second = pdu;
    second.completion.cid = static_cast<uint16_t>(command.cid + 32);  // the tests' depth
    std::vector<std::byte> more = bytes_of(second);
    if (c.terms.header_digest) append_digest(more, std::as_bytes(std::span(&second, 1)), false);
    out.insert(out.end(), more.begin(), more.end());
  }
  if (c.queue_id != 0 && due(faults.terminate)) {
    tcp::TerminationPdu end{};
    end.header = {.type = static_cast<uint8_t>(PduType::controller_termination),
                  .flags = 0,
                  .header_bytes = sizeof end,
                  .data_offset = 0,
                  .bytes = sizeof end};
    end.reason = static_cast<uint16_t>(tcp::TerminationReason::sequence_error);
    c.send(bytes_of(end));
    return false;
  }
  if (c.queue_id != 0 && due(faults.close_in_response)) {
    out.resize(out.size() / 2);
    c.send(out);
    return false;
  }
  return c.send(out);
}

// ---- Data

// Sends what a command reads, and its response.
bool TcpTarget::output(Connection& c, const Command& command, std::span<const std::byte> bytes) {
  const bool io = c.queue_id != 0;
  const size_t wanted = std::min<size_t>(bytes.size(), data_length(command));
  size_t total = wanted;
  if (io && due(faults.short_data)) total /= 2;
  for (size_t at = 0; at < total;) {
    const size_t length = std::min<size_t>(options_.data_pdu, total - at);
    const bool last = at + length == total;
    const bool success = last && options_.success_flag && total == wanted;
    const size_t before = sizeof(DataPdu) + (c.terms.header_digest ? 4 : 0);
    DataPdu pdu{};
    pdu.header = {
        .type = static_cast<uint8_t>(PduType::controller_data),
        .flags = static_cast<uint8_t>((c.terms.header_digest ? tcp::kHeaderDigest : 0) |
                                      (c.terms.data_digest ? tcp::kDataDigest : 0) |
                                      (last ? tcp::kLastData : 0) | (success ? tcp::kSuccess : 0)),
        .header_bytes = sizeof pdu,
        .data_offset = static_cast<uint8_t>(before),
        .bytes = static_cast<uint32_t>(before + length + (c.terms.data_digest ? 4 : 0))};
    pdu.cid = io && due(faults.unknown_command) ? static_cast<uint16_t>(command.cid ^ 0x8000)
                                                : static_cast<uint16_t>(command.cid);
    pdu.offset = static_cast<uint32_t>(at) + (io && due(faults.wild_data) ? 1 << 30 : 0);
    if (io && at > 0 && due(faults.data_twice)) pdu.offset = 0;
    pdu.length = static_cast<uint32_t>(length);
    std::vector<std::byte> out = bytes_of(pdu);
    if (c.terms.header_digest) append_digest(out, std::as_bytes(std::span(&pdu, 1)), false);
    const auto data = bytes.subspan(at, length);
    out.insert(out.end(), data.begin(), data.end());
    if (c.terms.data_digest) append_digest(out, data, io && due(faults.wrong_data_digest));
    if (!c.send(out)) return false;
    if (success) return true;
    at += length;
  }
  return respond(c, command);
}

// Asks for what a command writes, `transfer` bytes at a time.
bool TcpTarget::ask_for_data(Connection& c, const Command& command, std::vector<std::byte>& data) {
  data.resize(data_length(command));
  for (size_t at = 0; at < data.size();) {
    const size_t length = std::min<size_t>(options_.transfer, data.size() - at);
    DataPdu ask{};
    ask.header = {.type = static_cast<uint8_t>(PduType::ready_to_transfer),
                  .flags = c.terms.header_digest ? tcp::kHeaderDigest : uint8_t{0},
                  .header_bytes = sizeof ask,
                  .data_offset = 0,
                  .bytes = static_cast<uint32_t>(sizeof ask + (c.terms.header_digest ? 4 : 0))};
    ask.cid = command.cid;
    ask.tag = static_cast<uint16_t>(command.cid ^ at >> 9);
    ask.offset = static_cast<uint32_t>(at);
    ask.length = static_cast<uint32_t>(length) + (due(faults.wild_request) ? 1 << 20 : 0);
    std::vector<std::byte> out = bytes_of(ask);
    if (c.terms.header_digest) append_digest(out, std::as_bytes(std::span(&ask, 1)), false);
    if (!c.send(out)) return false;
    for (const size_t end = at + length; at < end;) {
      DataPdu pdu{};
      if (!c.receive(&pdu.header, sizeof pdu.header)) return false;
      if (pdu.header.type == static_cast<uint8_t>(PduType::host_termination)) ++terminations_;
      if (pdu.header.type == static_cast<uint8_t>(PduType::command)) {
        if (!read_command(c, pdu.header)) return false;
        continue;
      }
      if (pdu.header.type != static_cast<uint8_t>(PduType::host_data)) return false;
      if (!c.receive(reinterpret_cast<std::byte*>(&pdu) + sizeof pdu.header,
                     sizeof pdu - sizeof pdu.header)) {
        return false;
      }
      EXPECT_EQ(pdu.cid, command.cid);
      EXPECT_EQ(pdu.tag, ask.tag);
      EXPECT_EQ(pdu.offset, at);
      EXPECT_LE(pdu.length, options_.max_host_data);
      EXPECT_EQ((pdu.header.flags & tcp::kLastData) != 0, at + pdu.length == end);
      std::vector<std::byte> before(pdu.header.data_offset - sizeof pdu);
      if (!c.receive(before.data(), before.size())) return false;
      if (c.terms.header_digest) {
        le32 digest;
        std::memcpy(static_cast<void*>(&digest), before.data(), sizeof digest);
        EXPECT_EQ(digest, crc32c(std::as_bytes(std::span(&pdu, 1))));
      }
      if (at + pdu.length > end || !c.receive(data.data() + at, pdu.length)) return false;
      if (c.terms.data_digest) {
        le32 digest;
        if (!c.receive(&digest, sizeof digest)) return false;
        EXPECT_EQ(digest, crc32c({data.data() + at, pdu.length}));
      }
      at += pdu.length;
    }
  }
  return true;
}

// ---- Commands

bool TcpTarget::execute(Connection& c, const Command& command, std::span<const std::byte> capsule) {
  if (command.opcode == static_cast<uint8_t>(AdminOpcode::fabrics)) {
    return fabrics(c, command, capsule);
  }
  if (c.queue_id == 0) return admin(c, command, capsule);
  ++commands_;
  const uint64_t lba = command.cdw10 | uint64_t{command.cdw11} << 32;
  const uint64_t count = (command.cdw12 & 0xffff) + uint64_t{1};
  const auto opcode = static_cast<IoOpcode>(command.opcode);
  if (due(faults.path_error)) return respond(c, command, CompletionStatus(3, 0x60));
  if (options_.reports_access) {
    switch (access_.load()) {
      case AccessState::optimized:
      case AccessState::non_optimized: break;
      case AccessState::persistent_loss: return respond(c, command, kAccessPersistentLoss);
      case AccessState::change: return respond(c, command, kAccessTransition);
      default: return respond(c, command, kAccessInaccessible);
    }
  }
  const bool in_range = lba < options_.block_count && count <= options_.block_count - lba;
  switch (opcode) {
    case IoOpcode::flush: {
      ++flushes_;
      const std::lock_guard lock(mutex_);
      durable_.clear();
      break;
    }
    case IoOpcode::read:
      if (!in_range) return respond(c, command, kLbaOutOfRange);
      return output(c, command, read(lba, count));
    case IoOpcode::write:
      if (!in_range) return respond(c, command, kLbaOutOfRange);
      return input(c, command, capsule);
    case IoOpcode::write_zeroes:
      if (!in_range) return respond(c, command, kLbaOutOfRange);
      write(lba, std::vector<std::byte>(count * options_.block_size), false);
      break;
    case IoOpcode::dataset_management: {
      std::vector<std::byte> list(capsule.begin(), capsule.end());
      if (list.empty() && !ask_for_data(c, command, list)) return false;
      if (list.size() < sizeof(DatasetRange)) return respond(c, command, kInvalidField);
      DatasetRange range;
      std::memcpy(static_cast<void*>(&range), list.data(), sizeof range);
      write(range.first_block, std::vector<std::byte>(range.block_count * options_.block_size),
            false);
      break;
    }
    default: return respond(c, command, kInvalidOpcode);
  }
  return respond(c, command);
}

bool TcpTarget::input(Connection& c, const Command& command, std::span<const std::byte> capsule) {
  std::vector<std::byte> data(capsule.begin(), capsule.end());
  if (data.empty()) {
    if (due(faults.early_response)) return respond(c, command);
    if (!ask_for_data(c, command, data)) return false;
  }
  const uint64_t lba = command.cdw10 | uint64_t{command.cdw11} << 32;
  if (due(faults.late_writes)) {
    c.late.emplace_back(lba, std::move(data));
    return true;
  }
  write(lba, data, (command.cdw12 & kForceUnitAccess) != 0);
  return respond(c, command);
}

bool TcpTarget::fabrics(Connection& c, const Command& command, std::span<const std::byte> capsule) {
  switch (fabrics_type(command)) {
    case FabricsType::connect: {
      if (capsule.size() != sizeof(ConnectData)) return respond(c, command, kInvalidField);
      ConnectData data;
      std::memcpy(static_cast<void*>(&data), capsule.data(), sizeof data);
      c.discovery = data.subsystem_nqn == kDiscoveryNqn;
      if (!c.discovery && data.subsystem_nqn != options_.nqn) {
        return respond(c, command, kConnectInvalidParameters,
                       1u << 16 | offsetof(ConnectData, subsystem_nqn));
      }
      if (!options_.only_host.empty() && data.host_nqn != options_.only_host) {
        return respond(c, command, kConnectInvalidHost);
      }
      const auto id = static_cast<uint16_t>(command.cdw10 >> 16);
      if (id != 0 && due(faults.close_in_connect)) return false;
      if (id != 0) {
        const std::lock_guard lock(mutex_);
        if (!taken_.insert(id).second) return respond(c, command, kCommandSequenceError);
      }
      c.queue_id = id;
      EXPECT_EQ(data.controller_id, c.queue_id == 0 ? kAnyController : options_.controller_id);
      return respond(c, command, {}, options_.controller_id);
    }
    case FabricsType::property_get: {
      uint64_t value = 0;
      switch (static_cast<Register>(uint32_t{command.cdw11})) {
        case Register::capabilities:
          value = 127 | uint64_t{1} << 16 | uint64_t{20} << 24 | uint64_t{1} << 37;
          break;
        case Register::configuration: value = c.enabled ? kEnable : 0; break;
        case Register::status: value = (c.enabled ? 1 : 0) | (c.shut_down ? 2 << 2 : 0); break;
        default: break;
      }
      return respond(c, command, {}, value);
    }
    case FabricsType::property_set:
      if (command.cdw11 == static_cast<uint32_t>(Register::configuration)) {
        c.enabled = (command.cdw12 & kEnable) != 0;
        c.shut_down = (command.cdw12 & kShutdownMask) != 0;
      }
      return respond(c, command);
    default: return respond(c, command, kInvalidOpcode);
  }
}

bool TcpTarget::admin(Connection& c, const Command& command, std::span<const std::byte>) {
  switch (static_cast<AdminOpcode>(command.opcode)) {
    case AdminOpcode::identify: return identify(c, command);
    case AdminOpcode::get_log_page: return log_page(c, command);
    case AdminOpcode::set_features: {
      if ((command.cdw10 & 0xff) != static_cast<uint32_t>(Feature::queue_count)) {
        return respond(c, command);
      }
      const uint32_t queues = options_.queue_pairs - 1u;
      return respond(c, command, {}, queues | queues << 16);
    }
    case AdminOpcode::get_features: return respond(c, command, {}, options_.volatile_cache);
    case AdminOpcode::keep_alive:
      ++keep_alives_;
      if (c.formatting && --c.keep_alives_to_go == 0) {
        if (!respond(c, *c.formatting)) return false;
        c.formatting.reset();
      }
      if (c.event && access_untold_.exchange(false)) {
        if (!tell(c, {AsyncEventType::notice, kAsymmetricAccessChanged,
                      static_cast<uint8_t>(LogPage::asymmetric_access)}))
          return false;
      } else if (c.event && namespaces_untold_.exchange(false)) {
        if (!tell(c, {AsyncEventType::notice, kNamespacesChanged,
                      static_cast<uint8_t>(LogPage::changed_namespaces)}))
          return false;
      }
      return respond(c, command);
    case AdminOpcode::format_nvm:  // takes as long as three keep-alives
      c.formatting = command;
      c.keep_alives_to_go = 3;
      return true;
    case AdminOpcode::async_event_request: c.event = command; return true;
    case AdminOpcode::abort: return respond(c, command, {}, kNotAborted);
    default: return respond(c, command, kInvalidOpcode);
  }
}

bool TcpTarget::identify(Connection& c, const Command& command) {
  switch (static_cast<IdentifyKind>(command.cdw10 & 0xff)) {
    case IdentifyKind::controller: {
      if (due(faults.refuse_identify)) return respond(c, command, kInternalError);
      IdentifyController data{};
      set_text(data.serial, sizeof data.serial, "TCP1", ' ');
      set_text(data.model, sizeof data.model, "Basalt test target", ' ');
      data.max_transfer_shift = options_.max_transfer_shift;
      data.controller_id = options_.controller_id;
      data.optional_async_events = kReportNamespaces;
      if (options_.reports_access) {
        data.multipath = kReportsAccess;
        data.optional_async_events = kReportNamespaces | kReportAsymmetricAccess;
        data.access_groups = data.max_access_group = 1;
      }
      data.keep_alive_granularity = 1;
      data.submission_entry_size = 0x66;
      data.completion_entry_size = 0x44;
      data.namespace_count = 1;
      data.optional_commands = kSupportsWriteZeroes | kSupportsDatasetManagement;
      data.volatile_write_cache = options_.volatile_cache;
      data.sgl_support = 1;
      data.io_capsule_units = (sizeof(Command) + options_.capsule_data) / 16;
      data.io_response_units = 1;
      return output(c, command, bytes_of(data));
    }
    case IdentifyKind::active_namespaces: {
      std::array<le32, 1024> ids{};
      if (command.nsid < 1) ids[0] = 1;
      return output(c, command, std::as_bytes(std::span(ids)));
    }
    case IdentifyKind::name_space: {
      if (command.nsid != 1) return respond(c, command, kInvalidNamespace);
      IdentifyNamespace data{};
      data.size = data.capacity = data.utilization = options_.block_count;
      data.formats[0].data_shift = static_cast<uint8_t>(std::countr_zero(options_.block_size));
      data.nguid[15] = namespace_id;
      return output(c, command, bytes_of(data));
    }
    default: return respond(c, command, kInvalidField);
  }
}

void TcpTarget::set_access(AccessState state, bool tell) {
  access_ = state;
  ++access_changes_;
  access_untold_ = tell;
}

bool TcpTarget::tell(Connection& c, AsyncEvent event) {
  const Command asked = *c.event;
  c.event.reset();
  return respond(c, asked, {}, event.word());
}

bool TcpTarget::log_page(Connection& c, const Command& command) {
  const auto page = static_cast<LogPage>(command.cdw10 & 0xff);
  if (c.discovery && page == LogPage::discovery) return discovery(c, command);
  if (options_.reports_access && page == LogPage::asymmetric_access) return access_log(c, command);
  if (!c.discovery && page == LogPage::changed_namespaces) {
    return output(c, command, std::vector<std::byte>(data_length(command)));
  }
  return respond(c, command, kInvalidLogPage);
}

bool TcpTarget::access_log(Connection& c, const Command& command) {
  ++access_logs_;
  AccessLogHeader header{};
  header.change_count = access_changes_.load();
  header.groups = 1;
  AccessGroup group{};
  group.id = 1;
  group.namespaces = 1;
  group.state = static_cast<uint8_t>(access_.load());
  const le32 nsid = 1;
  std::vector<std::byte> page = bytes_of(header);
  for (const auto& more : {bytes_of(group), bytes_of(nsid)}) {
    page.insert(page.end(), more.begin(), more.end());
  }
  page.resize(data_length(command));
  return output(c, command, page);
}

bool TcpTarget::discovery(Connection& c, const Command& command) {
  DiscoveryHeader header{};
  header.generation = 3;
  header.count = 2;
  DiscoveryEntry entry{};
  entry.transport = static_cast<uint8_t>(TransportType::tcp);
  entry.address_family = static_cast<uint8_t>(AddressFamily::ipv4);
  entry.subsystem_type = static_cast<uint8_t>(SubsystemType::nvm);
  entry.controller_id = kAnyController;
  set_text(entry.service, sizeof entry.service, std::to_string(port_), ' ');
  set_text(entry.address, sizeof entry.address, "127.0.0.1", ' ');
  set_text(entry.subsystem_nqn, sizeof entry.subsystem_nqn, options_.nqn, '\0');
  DiscoveryEntry other = entry;
  other.transport = static_cast<uint8_t>(TransportType::rdma);
  set_text(other.subsystem_nqn, sizeof other.subsystem_nqn, "nqn.2014-08.org.example:other", '\0');
  std::vector<std::byte> page = bytes_of(header);
  for (const DiscoveryEntry& e : {other, entry}) {
    const auto bytes = bytes_of(e);
    page.insert(page.end(), bytes.begin(), bytes.end());
  }
  const size_t offset = std::min<size_t>(command.cdw12, page.size());
  page.erase(page.begin(), page.begin() + static_cast<ptrdiff_t>(offset));
  page.resize(std::max<size_t>(page.size(), data_length(command)));
  return output(c, command, page);
}

}  // namespace basalt::nvme
