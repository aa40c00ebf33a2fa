// See tcp_queue.h.
#include "nvme/tcp/tcp_queue.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/crc32c.h"
#include "base/sync.h"
#include "base/try.h"
#include "wire/nvme/fabrics.h"

namespace basalt::nvme {

namespace {

constexpr size_t kMaxPieces = 64;  // of one call to the kernel
constexpr CompletionStatus kTransientTransportError{0, 0x22};

using std::chrono::steady_clock;

// What of `data` lies in [offset, offset + length), piece by piece, until `take(address, bytes)` says false.
template <class Take>
void for_each_piece(std::span<const iovec> data, size_t offset, size_t length, Take take) {
  for (const iovec& piece : data) {
    if (length == 0) return;
    if (offset >= piece.iov_len) {
      offset -= piece.iov_len;
      continue;
    }
    const size_t bytes = std::min(piece.iov_len - offset, length);
    if (!take(static_cast<std::byte*>(piece.iov_base) + offset, bytes)) return;
    length -= bytes;
    offset = 0;
  }
}

void append_digest(std::span<std::byte> header, size_t bytes) {
  const le32 digest = crc32c(header.first(bytes));
  std::memcpy(header.data() + bytes, &digest, sizeof digest);
}

// Sends or receives all of `bytes` on a connection nobody else uses yet.
template <class Call>
Status transfer_all(TcpSocket& socket, short event, size_t bytes, steady_clock::time_point end,
                    const char* what, Call call) {
  for (size_t done = 0; done < bytes;) {
    const ssize_t n = call(done);
    if (n > 0) {
      done += static_cast<size_t>(n);
      continue;
    }
    if (n == 0 && event == POLLIN) {
      return {StatusCode::io_error, std::string(what) + ": the peer has closed the connection"};
    }
    if (errno == EINTR) continue;
    if (errno != EAGAIN) {
      return {StatusCode::io_error, std::string(what) + ": " + socket.error_text(errno)};
    }
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - steady_clock::now());
    if (left.count() <= 0) {
      return {StatusCode::timed_out,
              std::string(what) + ": no answer; is that an NVMe/TCP target?"};
    }
    pollfd entry{socket.fd(), event, 0};
    ::poll(&entry, 1, static_cast<int>(left.count()));
  }
  return {};
}

}  // namespace

// ---- Establishment

Result<tcp::ConnectionTerms> TcpQueue::establish(TcpSocket& socket, uint8_t digests,
                                                 Duration timeout) {
  const auto end = steady_clock::now() + timeout;
  tcp::ConnectionRequest request{};
  request.header = {.type = static_cast<uint8_t>(tcp::PduType::connection_request),
                    .flags = 0,
                    .header_bytes = sizeof request,
                    .data_offset = 0,
                    .bytes = sizeof request};
  request.format_version = tcp::kFormatVersion;
  request.digests = digests;
  request.max_ready_to_transfer = 0;  // one
  const auto out = std::as_bytes(std::span(&request, 1));
  BASALT_TRY(transfer_all(socket, POLLOUT, out.size(), end, "connection request", [&](size_t done) {
    const iovec rest{const_cast<std::byte*>(out.data()) + done, out.size() - done};
    return socket.send({&rest, 1});
  }));
  tcp::ConnectionResponse response{};
  const auto in = std::as_writable_bytes(std::span(&response, 1));
  const auto receive = [&](size_t from, size_t bytes) {
    return transfer_all(socket, POLLIN, bytes, end, "connection response", [&](size_t done) {
      const iovec rest{in.data() + from + done, bytes - done};
      return socket.receive({&rest, 1});
    });
  };
  if (const Status status = receive(0, sizeof response.header); !status.ok()) {
    // A target that waits for a TLS handshake takes the request for a broken one.
    if (status.code() != StatusCode::io_error || socket.secured()) return error(status);
    return error(StatusCode::io_error, std::string(status.message()) + "; it may want TLS");
  }
  BASALT_TRY(tcp::check_header_from_controller(response.header, {}));
  if (static_cast<tcp::PduType>(response.header.type) == tcp::PduType::controller_termination) {
    tcp::TerminationPdu termination{};
    termination.header = response.header;
    const size_t rest = sizeof termination - sizeof termination.header;
    BASALT_TRY(receive(sizeof response.header, rest));
    std::memcpy(static_cast<void*>(&termination), in.data(), sizeof termination);
    return error(StatusCode::unsupported,
                 "the controller refuses the connection: " +
                     std::string(tcp::termination_reason_name(termination.reason)));
  }
  if (static_cast<tcp::PduType>(response.header.type) != tcp::PduType::connection_response) {
    return error(StatusCode::corruption,
                 "the controller's first PDU is a " +
                     std::string(tcp::pdu_name(static_cast<tcp::PduType>(response.header.type))) +
                     ", not a connection response");
  }
  BASALT_TRY(receive(sizeof response.header, sizeof response - sizeof response.header));
  BASALT_TRY(tcp::check_connection_response(response, request));
  return tcp::ConnectionTerms{
      .header_digest = (response.digests & tcp::kUseHeaderDigest) != 0,
      .data_digest = (response.digests & tcp::kUseDataDigest) != 0,
      .host_data_alignment = static_cast<uint8_t>((response.data_alignment + 1) * 4),
      .max_host_data = response.max_host_data};
}

TcpQueue::TcpQueue(const TcpQueueShape& shape, std::shared_ptr<TcpSocket> socket, TcpEvents& events,
                   Owner& owner)
    : shape_(shape),
      socket_(std::move(socket)),
      events_(events),
      owner_(owner),
      slot_mask_(static_cast<uint16_t>(std::bit_ceil(unsigned{shape.depth}) - 1)),
      slots_(shape.depth),
      send_ring_(shape.depth),
      buffer_(std::make_unique<std::byte[]>(kBufferBytes)) {}

TcpQueue::~TcpQueue() {
  events_.remove(socket_->fd());
  socket_->hang_up();
}

Result<Completion> TcpQueue::run_alone(const Command& command, std::span<const std::byte> sent,
                                       std::span<std::byte> received, Duration timeout) {
  const auto end = steady_clock::now() + timeout;
  iovec piece{const_cast<std::byte*>(sent.data()), sent.size()};
  if (!received.empty()) piece = {received.data(), received.size()};
  Request request;
  request.command = command;
  if (piece.iov_len > 0) request.data = {&piece, 1};
  BASALT_CHECK(post(0, 0, request) == StatusCode::ok, "a command with one piece of data");
  for (;;) {
    ring();
    Completion completion;
    if (reap({&completion, 1}) == 1) return completion;
    if (failed_) return error(StatusCode::io_error, failure_);
    const Duration left = end - steady_clock::now();
    if (left <= Duration::zero()) {
      fail("not answered in time");
      return error(StatusCode::timed_out, "not answered in time");
    }
    sleep(left);
  }
}

// ---- Sending

StatusCode TcpQueue::post(uint16_t slot_index, uint16_t cid, const Request& request) noexcept {
  if (!request.metadata.empty())
    return StatusCode::invalid_argument;  // it would have to lie between the blocks
  size_t bytes = 0;
  for (const iovec& piece : request.data) bytes += piece.iov_len;
  const DataDirection direction = data_direction(request.command);
  const bool outwards = direction == DataDirection::to_controller;
  if (bytes > UINT32_MAX || (bytes > 0 && !outwards && direction != DataDirection::to_host)) {
    return StatusCode::invalid_argument;
  }
  Slot& slot = slots_[slot_index];
  slot.request = &request;
  slot.cid = cid;
  slot.data_bytes = static_cast<uint32_t>(bytes);
  slot.moved = slot.wanted_end = 0;
  slot.digest_wrong = false;

  // Fabrics commands have room for their data on any queue.
  const bool fabrics = request.command.opcode == static_cast<uint8_t>(AdminOpcode::fabrics);
  const bool in_capsule =
      outwards && bytes <= (fabrics ? tcp::kAdminCapsuleData : shape_.capsule_data);
  slot.offset = 0;
  slot.length = in_capsule ? slot.data_bytes : 0;
  const tcp::PduLayout layout = lay_out(sizeof(tcp::CommandPdu), slot.length, shape_.terms);
  tcp::CommandPdu pdu;
  const uint8_t flags = (shape_.terms.header_digest ? tcp::kHeaderDigest : 0) |
                        (shape_.terms.data_digest && slot.length > 0 ? tcp::kDataDigest : 0);
  pdu.header = {.type = static_cast<uint8_t>(tcp::PduType::command),
                .flags = flags,
                .header_bytes = sizeof pdu,
                .data_offset = static_cast<uint8_t>(layout.data_offset),
                .bytes = layout.bytes};
  pdu.command = request.command;
  pdu.command.cid = cid;
  pdu.command.flags = static_cast<uint8_t>((pdu.command.flags & 0x3f) | kDataIsSgl);
  const SglDescriptor sgl{
      .address = 0,
      .length = slot.data_bytes,
      .reserved = {},
      .type = static_cast<uint8_t>(in_capsule && bytes > 0 ? SglType::in_capsule_data_block
                                                           : SglType::transport_data_block)};
  static_assert(sizeof sgl == sizeof pdu.command.data);
  std::memcpy(static_cast<void*>(&pdu.command.data), &sgl, sizeof sgl);

  slot.header.fill(std::byte{0});
  std::memcpy(slot.header.data(), &pdu, sizeof pdu);
  if (shape_.terms.header_digest) append_digest(slot.header, sizeof pdu);
  slot.header_bytes =
      static_cast<uint8_t>(layout.data_offset != 0 ? layout.data_offset : layout.bytes);
  if (shape_.terms.data_digest && slot.length > 0) {
    slot.data_digest = digest_of(slot, slot.offset, slot.length);
  }
  slot.sending = Sending::capsule;
  queue_pdu(slot_index);
  return StatusCode::ok;
}

void TcpQueue::queue_pdu(uint16_t slot) noexcept {
  send_ring_[(send_first_ + send_count_++) % send_ring_.size()] = slot;
}

uint32_t TcpQueue::digest_of(const Slot& slot, uint32_t offset, uint32_t length) const noexcept {
  uint32_t digest = 0;
  for_each_piece(slot.request->data, offset, length, [&](std::byte* at, size_t bytes) {
    digest = crc32c({at, bytes}, digest);
    return true;
  });
  return digest;
}

// The next PDU of the data that the controller has asked for.
void TcpQueue::start_host_data(Slot& slot) noexcept {
  slot.offset = slot.moved;
  slot.length = std::min(slot.wanted_end - slot.offset, shape_.terms.max_host_data);
  const tcp::PduLayout layout = lay_out(sizeof(tcp::DataPdu), slot.length, shape_.terms);
  tcp::DataPdu pdu{};
  const uint8_t flags = (shape_.terms.header_digest ? tcp::kHeaderDigest : 0) |
                        (shape_.terms.data_digest ? tcp::kDataDigest : 0) |
                        (slot.offset + slot.length == slot.wanted_end ? tcp::kLastData : 0);
  pdu.header = {.type = static_cast<uint8_t>(tcp::PduType::host_data),
                .flags = flags,
                .header_bytes = sizeof pdu,
                .data_offset = static_cast<uint8_t>(layout.data_offset),
                .bytes = layout.bytes};
  pdu.cid = slot.cid;
  pdu.tag = slot.tag;
  pdu.offset = slot.offset;
  pdu.length = slot.length;
  slot.header.fill(std::byte{0});
  std::memcpy(slot.header.data(), &pdu, sizeof pdu);
  if (shape_.terms.header_digest) append_digest(slot.header, sizeof pdu);
  slot.header_bytes = static_cast<uint8_t>(layout.data_offset);
  if (shape_.terms.data_digest) slot.data_digest = digest_of(slot, slot.offset, slot.length);
  slot.sending = Sending::data;
  queue_pdu(static_cast<uint16_t>(&slot - slots_.data()));
}

size_t TcpQueue::pdu_bytes(const Slot& slot) const noexcept {
  const bool digest = shape_.terms.data_digest && slot.length > 0;
  return slot.header_bytes + slot.length + (digest ? tcp::kDigestBytes : 0);
}

// The front of what is to be sent, without what has been.
size_t TcpQueue::gather(std::span<iovec> pieces) noexcept {
  size_t count = 0, skip = sent_;
  const auto add = [&](std::byte* at, size_t bytes) {
    const size_t skipped = std::min(skip, bytes);
    skip -= skipped;
    if (skipped < bytes) pieces[count++] = {at + skipped, bytes - skipped};
    return count < pieces.size();
  };
  for (size_t i = 0; i < send_count_ && count < pieces.size(); ++i) {
    Slot& slot = slots_[send_ring_[(send_first_ + i) % send_ring_.size()]];
    if (!add(slot.header.data(), slot.header_bytes)) break;
    if (slot.length == 0) continue;
    bool room = true;
    for_each_piece(slot.request->data, slot.offset, slot.length,
                   [&](std::byte* at, size_t bytes) { return room = add(at, bytes); });
    if (!room) break;
    if (shape_.terms.data_digest) {
      add(reinterpret_cast<std::byte*>(&slot.data_digest), sizeof slot.data_digest);
    }
  }
  return count;
}

void TcpQueue::ring() noexcept {
  while (send_count_ > 0 && !failed_) {
    std::array<iovec, kMaxPieces> pieces;
    const ssize_t sent = socket_->send(std::span(pieces).first(gather(pieces)));
    if (sent < 0) {
      if (errno == EINTR) continue;
      if (errno != EAGAIN) fail("send: " + socket_->error_text(errno));
      want_room(true);
      return;
    }
    sent_ += static_cast<size_t>(sent);
    while (send_count_ > 0) {
      Slot& slot = slots_[send_ring_[send_first_]];
      const size_t bytes = pdu_bytes(slot);
      if (sent_ < bytes) break;
      sent_ -= bytes;
      send_first_ = (send_first_ + 1) % send_ring_.size();
      --send_count_;
      finish_sent(slot);
    }
  }
  want_room(false);
}

void TcpQueue::want_room(bool wanted) noexcept {
  if (wanted == wants_room_ || failed_) return;
  wants_room_ = wanted;
  events_.want_room(socket_->fd(), wanted);
}

void TcpQueue::finish_sent(Slot& slot) noexcept {
  slot.sending = Sending::nothing;
  slot.moved += slot.length;
  if (slot.moved < slot.wanted_end) start_host_data(slot);
}

// ---- Receiving

TcpQueue::Slot* TcpQueue::find(uint16_t cid) noexcept {
  const auto index = static_cast<uint16_t>(cid & slot_mask_);
  if (index >= slots_.size()) return nullptr;
  Slot& slot = slots_[index];
  return slot.request != nullptr && slot.cid == cid ? &slot : nullptr;
}

unsigned TcpQueue::reap(std::span<Completion> out) noexcept {
  unsigned count = 0;
  drained_ = false;
  full_ = false;
  events_.settle();
  while (!failed_) {
    if (count == out.size()) {
      full_ = buffered() > 0 || socket_->has_more();
      break;
    }
    const Step step = take_pdu(out[count]);
    if (step == Step::completed) ++count;
    if (step == Step::starved && !receive()) break;
  }
  return count;
}

// False: there is nothing to read now.
bool TcpQueue::receive() noexcept {
  if (drained_) return false;
  if (begin_ > 0) {
    std::memmove(buffer_.get(), buffer_.get() + begin_, buffered());
    end_ -= begin_;
    begin_ = 0;
  }
  std::array<iovec, 17> pieces;
  size_t count = 0, direct = 0;
  if (incoming_.left > 0 && end_ == 0) {
    for_each_piece(incoming_.slot->request->data, incoming_.offset, incoming_.left,
                   [&](std::byte* at, size_t bytes) {
                     pieces[count++] = {at, bytes};
                     direct += bytes;
                     return count + 1 < pieces.size();
                   });
  }
  // What follows is of use only if all of the data before it was asked for.
  if (direct == 0 || direct == incoming_.left) {
    pieces[count++] = {buffer_.get() + end_, kBufferBytes - end_};
  }
  size_t wanted = 0;
  for (size_t i = 0; i < count; ++i) wanted += pieces[i].iov_len;
  ssize_t got;
  do {
    got = socket_->receive(std::span(pieces).first(count));
  } while (got < 0 && errno == EINTR);
  if (got < 0 && errno == EAGAIN) return false;
  if (got <= 0) {
    fail(got == 0 ? "the controller has closed the connection"
                  : "receive: " + socket_->error_text(errno));
    return false;
  }
  const auto bytes = static_cast<size_t>(got);
  drained_ = bytes < wanted;
  const auto straight = static_cast<uint32_t>(std::min(bytes, direct));
  incoming_.offset += straight;
  incoming_.left -= straight;
  end_ += bytes - straight;
  return true;
}

TcpQueue::Step TcpQueue::take_pdu(Completion& out) noexcept {
  const size_t skipped = std::min(padding_, buffered());
  begin_ += skipped;
  padding_ -= skipped;
  if (padding_ > 0) return Step::starved;
  return incoming_.slot != nullptr ? take_data(out) : take_header(out);
}

TcpQueue::Step TcpQueue::take_header(Completion& out) noexcept {
  if (buffered() < sizeof(tcp::PduHeader)) return Step::starved;
  tcp::PduHeader header;
  std::memcpy(static_cast<void*>(&header), buffer_.get() + begin_, sizeof header);
  if (const Status status = check_header_from_controller(header, shape_.terms); !status.ok()) {
    return fail(std::string(status.message()), tcp::TerminationReason::invalid_header_field);
  }
  const auto type = static_cast<tcp::PduType>(header.type);
  const bool digest = (header.flags & tcp::kHeaderDigest) != 0;
  const size_t bytes = header.header_bytes + (digest ? tcp::kDigestBytes : 0);
  if (buffered() < bytes) return Step::starved;
  const std::byte* const pdu = buffer_.get() + begin_;
  if (digest) {
    le32 told;
    std::memcpy(static_cast<void*>(&told), pdu + header.header_bytes, sizeof told);
    if (told != crc32c({pdu, header.header_bytes})) {
      return fail(std::string(pdu_name(type)) + ": its header's digest is wrong",
                  tcp::TerminationReason::header_digest_error);
    }
  }
  begin_ += bytes;
  if (type == tcp::PduType::response) {
    tcp::ResponsePdu response;
    std::memcpy(static_cast<void*>(&response), pdu, sizeof response);
    return respond(response.completion, out);
  }
  if (type == tcp::PduType::controller_termination) {
    tcp::TerminationPdu termination;
    std::memcpy(static_cast<void*>(&termination), pdu, sizeof termination);
    return fail("the controller ends the connection: " +
                std::string(tcp::termination_reason_name(termination.reason)));
  }
  if (type == tcp::PduType::connection_response) {
    return fail("a second connection response", tcp::TerminationReason::sequence_error);
  }
  tcp::DataPdu data;
  std::memcpy(static_cast<void*>(&data), pdu, sizeof data);
  if (type == tcp::PduType::ready_to_transfer) return ready_to_transfer(data);
  padding_ = header.data_offset - bytes;
  return begin_data(data);
}

TcpQueue::Step TcpQueue::begin_data(const tcp::DataPdu& pdu) noexcept {
  Slot* const slot = find(pdu.cid);
  const uint32_t bytes = data_bytes(pdu.header, shape_.terms);
  if (slot == nullptr || data_direction(slot->request->command) != DataDirection::to_host) {
    return fail("data for command " + std::to_string(pdu.cid) + ", which wants none",
                tcp::TerminationReason::invalid_header_field);
  }
  // In order, so that no part can come twice in another's place.
  if (pdu.length != bytes || pdu.offset != slot->moved ||
      uint64_t{pdu.offset} + bytes > slot->data_bytes) {
    return fail("data " + std::to_string(pdu.offset) + "+" + std::to_string(pdu.length) +
                    " for a command with " + std::to_string(slot->data_bytes) +
                    " B, in a PDU with " + std::to_string(bytes) + ", after " +
                    std::to_string(slot->moved),
                tcp::TerminationReason::data_out_of_range);
  }
  incoming_ = {.slot = slot,
               .offset = pdu.offset,
               .left = bytes,
               .begin = pdu.offset,
               .bytes = bytes,
               .digest = shape_.terms.data_digest,
               .completes = (pdu.header.flags & tcp::kSuccess) != 0};
  return Step::more;
}

TcpQueue::Step TcpQueue::take_data(Completion& out) noexcept {
  Slot& slot = *incoming_.slot;
  if (incoming_.left > 0 && buffered() > 0) {
    const size_t available = std::min<size_t>(incoming_.left, buffered());
    for_each_piece(slot.request->data, incoming_.offset, available,
                   [&](std::byte* at, size_t bytes) {
                     std::memcpy(at, buffer_.get() + begin_, bytes);
                     begin_ += bytes;
                     return true;
                   });
    incoming_.offset += static_cast<uint32_t>(available);
    incoming_.left -= static_cast<uint32_t>(available);
  }
  if (incoming_.left > 0) return Step::starved;
  if (incoming_.digest) {
    if (buffered() < tcp::kDigestBytes) return Step::starved;
    le32 told;
    std::memcpy(static_cast<void*>(&told), buffer_.get() + begin_, sizeof told);
    begin_ += sizeof told;
    if (told != digest_of(slot, incoming_.begin, incoming_.bytes)) slot.digest_wrong = true;
  }
  slot.moved += incoming_.bytes;
  const bool completes = incoming_.completes;
  incoming_ = {};
  if (!completes) return Step::more;
  Completion success{};
  success.cid = slot.cid;
  return respond(success, out);
}

TcpQueue::Step TcpQueue::ready_to_transfer(const tcp::DataPdu& pdu) noexcept {
  Slot* const slot = find(pdu.cid);
  if (slot == nullptr || data_direction(slot->request->command) != DataDirection::to_controller) {
    return fail("the controller is ready for data of command " + std::to_string(pdu.cid) +
                    ", which has none",
                tcp::TerminationReason::invalid_header_field);
  }
  if (slot->sending != Sending::nothing) {
    return fail("the controller asks for data of command " + std::to_string(pdu.cid) +
                    " before it has what it asked for",
                tcp::TerminationReason::data_limit_exceeded);
  }
  if (pdu.length == 0 || pdu.offset != slot->moved ||
      uint64_t{pdu.offset} + pdu.length > slot->data_bytes) {
    return fail("the controller asks for data " + std::to_string(pdu.offset) + "+" +
                    std::to_string(pdu.length) + " of a command with " +
                    std::to_string(slot->data_bytes) + " B, of which it has " +
                    std::to_string(slot->moved),
                tcp::TerminationReason::data_out_of_range);
  }
  slot->tag = pdu.tag;
  slot->wanted_end = pdu.offset + pdu.length;
  start_host_data(*slot);
  ring();
  return Step::more;
}

TcpQueue::Step TcpQueue::respond(const Completion& completion, Completion& out) noexcept {
  out = completion;
  out.sq_id = shape_.id;  // reserved on a network
  Slot* const slot = find(completion.cid);
  if (slot == nullptr) {
    // Not for the queue pair to judge: by the time it looks, the number may have been given out.
    return fail("an answer to command " + std::to_string(completion.cid) + ", which nobody sent",
                tcp::TerminationReason::invalid_header_field);
  }
  if (slot->sending != Sending::nothing) {
    return fail(
        "command " + std::to_string(completion.cid) + " is answered before its data has been sent",
        tcp::TerminationReason::sequence_error);
  }
  // Success without all of the data would be taken for the data. Admin commands may have less to say than was asked.
  const bool short_of_data = slot->moved < slot->data_bytes && shape_.id != 0;
  if (completion.status().ok() && (slot->digest_wrong || short_of_data)) {
    const CompletionStatus status =
        slot->digest_wrong ? kTransientTransportError : kDataTransferError;
    out.status_and_phase = static_cast<uint16_t>(status.field() << 1);
  }
  slot->request = nullptr;
  return Step::completed;
}

// ---- The end of a connection

TcpQueue::Step TcpQueue::fail(const std::string& why, tcp::TerminationReason reason) noexcept {
  if (failed_) return Step::starved;
  failed_ = true;
  if (reason != tcp::TerminationReason{} && sent_ == 0 &&
      !wants_room_) {  // between two PDUs of ours
    tcp::TerminationPdu pdu{};
    pdu.header = {.type = static_cast<uint8_t>(tcp::PduType::host_termination),
                  .flags = 0,
                  .header_bytes = sizeof pdu,
                  .data_offset = 0,
                  .bytes = sizeof pdu};
    pdu.reason = static_cast<uint16_t>(reason);
    const iovec piece{&pdu, sizeof pdu};
    [[maybe_unused]] const ssize_t told = socket_->send({&piece, 1});
  }
  events_.remove(socket_->fd());
  socket_->hang_up();
  failure_ = why;
  if (serving_) owner_.connection_failed(shape_, why);
  return Step::starved;
}

void TcpQueue::sleep(Duration limit) noexcept {
  if (full_) return;
  pollfd entry{events_.fd(), POLLIN, 0};
  const timespec span{limit.count() / 1'000'000'000, limit.count() % 1'000'000'000};
  if (::ppoll(&entry, 1, &span, nullptr) > 0) events_.settle();
}

}  // namespace basalt::nvme
