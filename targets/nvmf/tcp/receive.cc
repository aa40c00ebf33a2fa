// What arrives on a connection (connection.h).
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/crc32c.h"
#include "targets/nvmf/target.h"
#include "targets/nvmf/tcp/connection.h"

namespace basalt::nvmf {

using namespace nvme::tcp;
using nvme::SglType;

namespace {

// Reads of the socket before others have their turn.
constexpr int kReadsAtOnce = 8;
// For a host to take the termination it is sent.
constexpr Duration kTerminationTime = std::chrono::seconds(5);

}  // namespace

void TcpConnection::receive() noexcept {
  for (int i = 0; i < kReadsAtOnce && stage_ != Stage::closed && stalled_ == nullptr; ++i) {
    if (begin_ == end_) begin_ = end_ = 0;
    std::array<iovec, 2> pieces;
    size_t count = 0, wanted = 0;
    const auto add = [&](std::byte* to, size_t bytes) {
      pieces[count++] = {to, bytes};
      wanted += bytes;
    };
    // Straight to where it belongs, what is expected next; and after it the buffer.
    const bool direct = buffered() == 0 && incoming_.left > 0 && incoming_.request != nullptr;
    const uint32_t expected = direct ? incoming_.left : 0;
    if (direct) add(incoming_.request->data.data() + incoming_.offset, expected);
    if (end_ == kBufferBytes) {
      std::memmove(buffer_.get(), buffer_.get() + begin_, buffered());
      end_ -= begin_;
      begin_ = 0;
    }
    add(buffer_.get() + end_, kBufferBytes - end_);
    const ssize_t got = read_socket(std::span(pieces).first(count));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) break;
    if (got < 0) return hang_up(socket_error(errno).c_str());
    if (got == 0) return hang_up("the host has closed it");
    if (stage_ == Stage::draining || stage_ == Stage::ending) continue;
    const auto bytes = static_cast<size_t>(got);
    const size_t placed = std::min<size_t>(bytes, expected);
    incoming_.offset += static_cast<uint32_t>(placed);
    incoming_.left -= static_cast<uint32_t>(placed);
    end_ += bytes - placed;
    take_pdus();
    if (bytes < wanted && tls_ == nullptr) return;  // there was no more
  }
  receive_again_if_more();
}

// The socket does not tell of what TLS has read from it already: after others have had their turn, it is asked again.
void TcpConnection::receive_again_if_more() noexcept {
  if (tls_ == nullptr || stage_ == Stage::closed || stalled_ != nullptr || !tls_->has_more()) {
    return;
  }
  receive_due_ = true;
  if (!std::exchange(flush_due_, true)) group_.send_soon(*this);
}

void TcpConnection::take_pdus() noexcept {
  while (stage_ == Stage::opening || stage_ == Stage::serving) {
    if (padding_ > 0) {
      const size_t skipped = std::min(padding_, buffered());
      begin_ += skipped;
      padding_ -= skipped;
      if (padding_ > 0) return;
    }
    if (stalled_ != nullptr) return;
    const bool in_data = incoming_.bytes > 0;
    if ((in_data ? take_data() : take_header()) == Step::starved) return;
  }
}

TcpConnection::Step TcpConnection::fail(const PduFault& fault) noexcept {
  target_.log(LogLevel::warning,
              queue_.peer() + ": " + fault.what + "; connection ended (" +
                  std::string(termination_reason_name(static_cast<uint16_t>(fault.reason))) + ")");
  const size_t copied = std::min(buffered(), kMaxTerminationData);
  TerminationPdu pdu{};
  pdu.header = {.type = static_cast<uint8_t>(PduType::controller_termination),
                .flags = 0,
                .header_bytes = sizeof pdu,
                .data_offset = 0,
                .bytes = static_cast<uint32_t>(sizeof pdu + copied)};
  pdu.reason = static_cast<uint16_t>(fault.reason);
  pdu.information = fault.information;
  termination_.resize(sizeof pdu + copied);
  std::memcpy(termination_.data(), &pdu, sizeof pdu);
  std::memcpy(termination_.data() + sizeof pdu, buffer_.get() + begin_, copied);
  stage_ = Stage::ending;
  begin_ = end_ = 0;
  incoming_ = {};
  group_.reactor().set(deadline_, kTerminationTime);
  if (!std::exchange(flush_due_, true)) group_.send_soon(*this);
  return Step::starved;
}

std::optional<PduFault> TcpConnection::check_digest(const PduHeader& header) noexcept {
  if ((header.flags & kHeaderDigest) == 0) return {};
  le32 digest;
  std::memcpy(&digest, buffer_.get() + begin_ + header.header_bytes, sizeof digest);
  if (digest == crc32c({buffer_.get() + begin_, header.header_bytes})) return {};
  return PduFault{
      TerminationReason::header_digest_error, digest,
      std::string(pdu_name(static_cast<PduType>(header.type))) + ": its header digest is wrong"};
}

TcpConnection::Step TcpConnection::take_header() noexcept {
  PduHeader header;
  if (buffered() < sizeof header) return Step::starved;
  std::memcpy(&header, buffer_.get() + begin_, sizeof header);
  const auto type = static_cast<PduType>(header.type);
  if (auto fault = check_header_from_host(header, terms_, queue_.capsule_data())) {
    return fail(*fault);
  }
  const bool opens = type == PduType::connection_request;
  if (opens != (stage_ == Stage::opening) && type != PduType::host_termination) {
    return fail({TerminationReason::sequence_error, 0,
                 std::string(pdu_name(type)) +
                     (opens ? ": there was one" : ": no connection request before it")});
  }
  const size_t whole =
      header.header_bytes + ((header.flags & kHeaderDigest) != 0 ? kDigestBytes : 0);
  if (buffered() < whole) return Step::starved;
  if (auto fault = check_digest(header)) return fail(*fault);
  const uint32_t data = data_bytes(header, terms_);
  switch (type) {
    case PduType::connection_request: return take_connection_request();
    case PduType::command: return take_command(header, data);
    case PduType::host_data: return take_host_data(header, data);
    default: {
      TerminationPdu pdu;
      std::memcpy(&pdu, buffer_.get() + begin_, sizeof pdu);
      target_.log(LogLevel::warning, queue_.peer() + ": the host ends the connection: " +
                                         std::string(termination_reason_name(pdu.reason)));
      hang_up("the host's termination");
      return Step::starved;
    }
  }
}

TcpConnection::Step TcpConnection::take_connection_request() noexcept {
  ConnectionRequest request;
  std::memcpy(static_cast<void*>(&request), buffer_.get() + begin_, sizeof request);
  if (auto fault = check_connection_request(request)) return fail(*fault);
  begin_ += sizeof request;
  ConnectionResponse response{};
  response.header = {.type = static_cast<uint8_t>(PduType::connection_response),
                     .flags = 0,
                     .header_bytes = sizeof response,
                     .data_offset = 0,
                     .bytes = sizeof response};
  response.digests = request.digests;
  response.max_host_data = Queue::max_data();
  terms_.header_digest = sending_.header_digest = (request.digests & kUseHeaderDigest) != 0;
  terms_.data_digest = sending_.data_digest = (request.digests & kUseDataDigest) != 0;
  terms_.max_host_data = Queue::max_data();
  sending_.host_data_alignment = static_cast<uint8_t>((request.data_alignment + 1) * 4);
  stage_ = Stage::serving;
  // Nothing was sent before: the socket has room for this.
  const iovec piece{&response, sizeof response};
  if (write_socket({&piece, 1}) != static_cast<ssize_t>(sizeof response)) {
    hang_up("the connection response cannot be sent");
    return Step::starved;
  }
  return Step::more;
}

bool TcpConnection::get_memory(TcpRequest& request, uint32_t bytes, Kind kind) noexcept {
  if (kind != Kind::capsule) {
    kind = bytes <= BufferPool::kSmallBytes ? Kind::small : Kind::large;
  }
  unsigned& held = held_[static_cast<size_t>(kind)];
  if (held >= kMostHeld) return false;
  const auto need = held < kReserve ? BufferPool::Need::must : BufferPool::Need::may_wait;
  request.buffer = group_.buffers().take(bytes, need);
  if (request.buffer.empty()) return false;
  request.kind = kind;
  ++held;
  // Of another host's, perhaps. A read fills all of it; what other commands leave is to be zero.
  const bool fills_all =
      queue_.id() != 0 && request.command.opcode == static_cast<uint8_t>(nvme::IoOpcode::read);
  const bool takes_data = nvme::data_direction(request.command) != nvme::DataDirection::to_host;
  if (!fills_all && !takes_data)
    std::fill(request.buffer.begin(), request.buffer.end(), std::byte{});
  return true;
}

TcpConnection::Step TcpConnection::take_command(const PduHeader& header,
                                                uint32_t capsule_bytes) noexcept {
  TcpRequest* const request = take_request();
  if (request == nullptr) {
    return fail({TerminationReason::invalid_header_field, 0,
                 "command capsule: more commands than the queue has entries (" +
                     std::to_string(queue_.entries()) + ")"});
  }
  CommandPdu pdu;
  std::memcpy(static_cast<void*>(&pdu), buffer_.get() + begin_, sizeof pdu);
  request->command = pdu.command;
  queue_.arrive(*request);
  request->digest_wrong = false;
  request->has_data_to_send = false;
  request->received = 0;
  request->state = TcpRequest::State::arriving;
  nvme::SglDescriptor sgl;
  std::memcpy(static_cast<void*>(&sgl), &pdu.command.data, sizeof sgl);
  const auto direction = nvme::data_direction(pdu.command);
  const bool has_data =
      direction == nvme::DataDirection::to_controller || direction == nvme::DataDirection::to_host;
  const uint32_t scratch = Queue::scratch_bytes(pdu.command, queue_.id());
  const uint32_t bytes = has_data && scratch == 0 ? uint32_t{sgl.length} : 0;
  const auto type = static_cast<SglType>(sgl.type);

  nvme::CompletionStatus wrong;
  if (bytes > 0 && (pdu.command.flags & 0xc0) != nvme::kDataIsSgl) wrong = nvme::kInvalidField;
  const bool in_capsule = bytes > 0 && direction == nvme::DataDirection::to_controller &&
                          type == SglType::in_capsule_data_block;
  if (bytes > 0 && !in_capsule && type != SglType::transport_data_block) {
    wrong = nvme::kSglTypeInvalid;
  }
  if (in_capsule && (sgl.address != 0 || bytes != capsule_bytes)) wrong = nvme::kDataLengthInvalid;
  if (bytes > Queue::max_data()) wrong = nvme::kInvalidField;

  if (capsule_bytes > 0) {
    if (!wrong.ok() || !in_capsule) {
      // Its data is read past.
      begin_data(header, nullptr, 0, capsule_bytes);
      refuse(*request, wrong.ok() ? nvme::kDataLengthInvalid : wrong);
      return Step::more;
    }
    begin_data(header, request, 0, capsule_bytes);
    if (get_memory(*request, capsule_bytes, Kind::capsule)) {
      request->data = request->buffer.first(capsule_bytes);
      return Step::more;
    }
    stalled_ = request;
    watch_for(watched_ & ~uint32_t{EPOLLIN});
    if (!std::exchange(waits_for_buffer_, true)) group_.wait_for_buffer(*this);
    return Step::starved;
  }
  begin_ += header.bytes;
  if (!wrong.ok()) {
    refuse(*request, wrong);
  } else if (in_capsule) {
    refuse(*request, nvme::kDataLengthInvalid);
  } else if (bytes + scratch == 0) {
    execute(*request);
  } else if (starved_.empty() && get_memory(*request, bytes + scratch, Kind::none)) {
    proceed(*request, bytes + scratch);
  } else {
    request->state = TcpRequest::State::starved;
    starved_.push_back(request);
    if (!std::exchange(waits_for_buffer_, true)) group_.wait_for_buffer(*this);
  }
  return stage_ == Stage::serving ? Step::more : Step::starved;
}

// Its memory is there.
void TcpConnection::proceed(TcpRequest& request, uint32_t bytes) noexcept {
  request.data = request.buffer.first(bytes);
  if (nvme::data_direction(request.command) == nvme::DataDirection::to_controller) {
    ask_for_data(request);
  } else {
    execute(request);
  }
}

void TcpConnection::retry() noexcept {
  waits_for_buffer_ = false;
  if (stage_ != Stage::serving) return;
  if (TcpRequest* const request = stalled_;
      request != nullptr && get_memory(*request, incoming_.left, Kind::capsule)) {
    request->data = request->buffer.first(incoming_.left);
    stalled_ = nullptr;
    watch_for(watched_ | EPOLLIN);
  }
  size_t started = 0;
  for (; started < starved_.size() && stage_ == Stage::serving; ++started) {
    TcpRequest& request = *starved_[started];
    nvme::SglDescriptor sgl;
    std::memcpy(static_cast<void*>(&sgl), &request.command.data, sizeof sgl);
    const uint32_t scratch = Queue::scratch_bytes(request.command, queue_.id());
    const uint32_t bytes = scratch > 0 ? scratch : uint32_t{sgl.length};
    if (!get_memory(request, bytes, Kind::none)) break;
    proceed(request, bytes);
  }
  if (stage_ != Stage::serving) return;
  starved_.erase(starved_.begin(), starved_.begin() + static_cast<ptrdiff_t>(started));
  if ((stalled_ != nullptr || !starved_.empty()) && !std::exchange(waits_for_buffer_, true)) {
    group_.wait_for_buffer(*this);
  }
  take_pdus();
  receive_again_if_more();
}

// ---- Data

void TcpConnection::begin_data(const PduHeader& header, TcpRequest* request, uint32_t offset,
                               uint32_t bytes) noexcept {
  const size_t before =
      header.header_bytes + ((header.flags & kHeaderDigest) != 0 ? kDigestBytes : 0);
  begin_ += before;
  padding_ = header.data_offset - before;
  incoming_ = {.request = request,
               .offset = offset,
               .left = bytes,
               .begin = offset,
               .bytes = bytes,
               .digest = (header.flags & kDataDigest) != 0};
}

TcpConnection::Step TcpConnection::take_data() noexcept {
  if (incoming_.left > 0) {
    const auto count = static_cast<uint32_t>(std::min<size_t>(incoming_.left, buffered()));
    if (incoming_.request != nullptr && count > 0) {
      std::memcpy(incoming_.request->data.data() + incoming_.offset, buffer_.get() + begin_, count);
    }
    begin_ += count;
    incoming_.offset += count;
    incoming_.left -= count;
    if (incoming_.left > 0) return Step::starved;
  }
  if (incoming_.digest) {
    if (buffered() < kDigestBytes) return Step::starved;
    le32 digest;
    std::memcpy(&digest, buffer_.get() + begin_, sizeof digest);
    begin_ += kDigestBytes;
    if (TcpRequest* const request = incoming_.request) {
      const auto data = request->data.subspan(incoming_.begin, incoming_.bytes);
      if (digest != crc32c(data)) request->digest_wrong = true;
    }
  }
  finish_data();
  return stage_ == Stage::serving ? Step::more : Step::starved;
}

void TcpConnection::finish_data() noexcept {
  const Incoming done = std::exchange(incoming_, {});
  TcpRequest* const request = done.request;
  if (request == nullptr) return;
  if (request->state == TcpRequest::State::asked) {
    request->received += done.bytes;
    data_moved_ = true;
    if (request->received < request->data.size()) return;
    --asked_;
  }
  if (request->digest_wrong) return refuse(*request, nvme::kDataDigestError);
  execute(*request);
}

void TcpConnection::ask_for_data(TcpRequest& request) noexcept {
  DataPdu pdu{};
  pdu.header = {.type = static_cast<uint8_t>(PduType::ready_to_transfer),
                .flags = sending_.header_digest ? kHeaderDigest : uint8_t{0},
                .header_bytes = sizeof pdu,
                .data_offset = 0,
                .bytes = lay_out(sizeof pdu, 0, sending_).bytes};
  pdu.cid = request.command.cid;
  pdu.tag = request.tag;
  pdu.length = static_cast<uint32_t>(request.data.size());
  request.trailer_bytes = 0;
  put_header(request, &pdu, sizeof pdu, 0);
  request.state = TcpRequest::State::asking;
  send(request);
}

// A host that asks to write and does not send, or to read and does not take, keeps memory that others wait for.
void TcpConnection::look_for_data() noexcept {
  if (asked_ == 0 && to_send_.empty()) return;
  if (!std::exchange(data_moved_, false)) {
    const std::string what = asked_ > 0
                                 ? ": the host does not send the data of " +
                                       std::to_string(asked_) + " writes that it was asked for"
                                 : ": the host does not take its answers";
    target_.log(LogLevel::warning, queue_.peer() + what + "; connection ended");
    return hang_up("the host lets data wait");
  }
  group_.reactor().set(data_timer_, target_.options().data_timeout);
}

TcpConnection::Step TcpConnection::take_host_data(const PduHeader& header,
                                                  uint32_t bytes) noexcept {
  DataPdu pdu;
  std::memcpy(static_cast<void*>(&pdu), buffer_.get() + begin_, sizeof pdu);
  const auto wrong = [&](size_t offset, const std::string& what) {
    return fail({TerminationReason::invalid_header_field, static_cast<uint32_t>(offset),
                 "host's data: " + what});
  };
  TcpRequest* const request = pdu.tag < requests_.size() ? requests_[pdu.tag].get() : nullptr;
  if (request == nullptr || request->state != TcpRequest::State::asked) {
    return wrong(offsetof(DataPdu, tag),
                 "transfer " + std::to_string(pdu.tag) + " was not asked for");
  }
  if (pdu.cid != request->command.cid) {
    return wrong(offsetof(DataPdu, cid), "transfer " + std::to_string(pdu.tag) + " is of command " +
                                             std::to_string(request->command.cid) + ", not " +
                                             std::to_string(pdu.cid));
  }
  if (pdu.length != bytes) {
    return wrong(
        offsetof(DataPdu, length),
        std::to_string(pdu.length) + " B are said to follow, and " + std::to_string(bytes) + " do");
  }
  const std::string place = "bytes " + std::to_string(pdu.offset) + " + " + std::to_string(bytes) +
                            " of " + std::to_string(request->data.size());
  if (pdu.offset != request->received || bytes > request->data.size() - request->received) {
    return fail(
        {TerminationReason::data_out_of_range, 0,
         "host's data: " + place + ", where " + std::to_string(request->received) + " is next"});
  }
  const bool is_last = pdu.offset + bytes == request->data.size();
  if (is_last != ((header.flags & kLastData) != 0)) {
    return wrong(offsetof(PduHeader, flags),
                 place + (is_last ? " are the last" : " are not the last"));
  }
  begin_data(header, request, pdu.offset, bytes);
  return Step::more;
}

// ---- Commands

void TcpConnection::execute(TcpRequest& request) noexcept {
  request.state = TcpRequest::State::executing;
  queue_.execute(request);
}

void TcpConnection::refuse(TcpRequest& request, nvme::CompletionStatus status) noexcept {
  request.state = TcpRequest::State::executing;
  queue_.refuse(request, status);
}

}  // namespace basalt::nvmf
