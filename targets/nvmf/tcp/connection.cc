// See connection.h. What arrives is in receive.cc.
#include "targets/nvmf/tcp/connection.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/check.h"
#include "base/crc32c.h"
#include "targets/nvmf/target.h"

namespace basalt::nvmf {

using nvme::tcp::DataPdu;
using nvme::tcp::PduType;
using nvme::tcp::ResponsePdu;

namespace {

constexpr size_t kMostPieces = 96;  // of one write
constexpr Duration kDrainTime = std::chrono::seconds(1);

void put_digest(std::byte* at, uint32_t digest) {
  const le32 value = digest;
  std::memcpy(at, &value, sizeof value);
}

}  // namespace

TcpConnection::TcpConnection(Target& target, PollGroup& group, UniqueFd fd, std::string listener,
                             std::string peer, std::function<void(TcpConnection&)> ended)
    : target_(target),
      group_(group),
      fd_(std::move(fd)),
      ended_(std::move(ended)),
      buffer_(new std::byte[kBufferBytes]),
      queue_(target, group, *this, std::move(listener), std::move(peer)) {
  deadline_.expired = [this] {
    const bool ends = stage_ == Stage::ending || stage_ == Stage::draining;
    hang_up(ends ? "the host does not close it" : "no Connect in time");
  };
  data_timer_.expired = [this] { look_for_data(); };
}

TcpConnection::~TcpConnection() {
  BASALT_CHECK(told_ended_, "a connection is destroyed when it has ended");
}

Status TcpConnection::start(Security security) {
  if (security == Security::tls) {
    auto tls = nvme::TlsStream::accept(
        fd_.get(), [this](std::string_view identity) { return target_.find_tls_key(identity); });
    if (!tls) return tls.error();
    tls_ = std::move(*tls);
    stage_ = Stage::securing;
  }
  watched_ = EPOLLIN;
  Status watched = group_.reactor().watch(watch_, fd_.get(), EPOLLIN, *this);
  if (watched.ok()) group_.reactor().set(deadline_, target_.options().connect_timeout);
  return watched;
}

std::string TcpConnection::local_host() const { return local_address(fd_.get()).host; }

void TcpConnection::hang_up(const char* why) noexcept {
  if (stage_ == Stage::closed) return;
  // The usual end of an association is no news; its controller has told it.
  target_.log(LogLevel::debug, queue_.peer() + ": connection ends: " + why);
  close();
}

void TcpConnection::close() noexcept {
  stage_ = Stage::closed;
  group_.reactor().unwatch(watch_);
  group_.reactor().cancel(deadline_);
  group_.reactor().cancel(data_timer_);
  ::shutdown(fd_.get(), SHUT_RDWR);
  group_.forget(*this);
  incoming_ = {};
  stalled_ = nullptr;
  // What is not at a device goes with the connection.
  for (const auto& request : requests_) {
    if (request->state != TcpRequest::State::free &&
        request->state != TcpRequest::State::executing) {
      queue_.abandon(*request);
      release(*request);
    }
  }
  to_send_.clear();
  starved_.clear();
  queue_.close();  // completes what waits for an event
  end_if_quiet();
}

void TcpConnection::end_if_quiet() noexcept {
  if (stage_ != Stage::closed || free_.size() != requests_.size() || told_ended_) return;
  told_ended_ = true;
  // The call destroys the connection, and this copy outlives it.
  group_.reactor().post([this, ended = ended_] { ended(*this); });
}

void TcpConnection::on_ready(uint32_t events) noexcept {
  if (stage_ == Stage::securing) return shake_hands();
  // Nothing is read while it waits for memory; that the host has gone shows all the same.
  if (stalled_ != nullptr && (events & (EPOLLERR | EPOLLHUP)) != 0) {
    return hang_up("the host has gone");
  }
  if ((events & EPOLLOUT) != 0) flush();
  if (stage_ != Stage::closed && (events & ~uint32_t{EPOLLOUT}) != 0) receive();
}

void TcpConnection::shake_hands() noexcept {
  const auto hands = tls_->shake_hands();
  if (!hands) {
    target_.log(LogLevel::warning, queue_.peer() + ": " + std::string(hands.error().message()));
    return hang_up("the TLS handshake failed");
  }
  if (*hands == nvme::TlsStream::Handshake::waits) return;
  // find_tls_key() has taken it for one.
  secured_by_ = *nvme::auth::TlsIdentity::parse(tls_->identity());
  stage_ = Stage::opening;
  receive();
}

// ---- The socket

namespace {
msghdr message_of(std::span<const iovec> pieces) {
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(pieces.data());
  message.msg_iovlen = pieces.size();
  return message;
}
}  // namespace

ssize_t TcpConnection::read_socket(std::span<const iovec> pieces) noexcept {
  if (tls_ != nullptr) return tls_->receive(pieces);
  msghdr message = message_of(pieces);
  return ::recvmsg(fd_.get(), &message, MSG_DONTWAIT);
}

ssize_t TcpConnection::write_socket(std::span<const iovec> pieces) noexcept {
  if (tls_ != nullptr) return tls_->send(pieces);
  const msghdr message = message_of(pieces);
  return ::sendmsg(fd_.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

std::string TcpConnection::socket_error(int number) const {
  return tls_ != nullptr && number == EPROTO ? tls_->failure() : std::strerror(number);
}

void TcpConnection::watch_for(uint32_t events) noexcept {
  if (events == watched_ || watch_.handler == nullptr) return;
  watched_ = events;
  group_.reactor().rewatch(watch_, events);
}

// ---- Requests

TcpConnection::TcpRequest* TcpConnection::take_request() noexcept {
  if (free_.empty()) {
    if (requests_.size() >= queue_.entries()) return nullptr;
    requests_.push_back(std::make_unique<TcpRequest>());
    requests_.back()->tag = static_cast<uint16_t>(requests_.size() - 1);
    free_.reserve(requests_.size());
    return requests_.back().get();
  }
  TcpRequest* const request = free_.back();
  free_.pop_back();
  return request;
}

void TcpConnection::visit_requests(const std::function<void(Request&)>& visit) {
  for (const auto& request : requests_) {
    if (request->state != TcpRequest::State::free && request->state != TcpRequest::State::sending) {
      visit(*request);
    }
  }
}

void TcpConnection::release_memory(TcpRequest& request) noexcept {
  if (request.kind == Kind::none) return;
  --held_[static_cast<size_t>(request.kind)];
  group_.give_buffer(request.buffer);
  request.kind = Kind::none;
  request.buffer = {};
}

void TcpConnection::release(TcpRequest& request) noexcept {
  release_memory(request);
  request.data = {};
  request.state = TcpRequest::State::free;
  free_.push_back(&request);
}

// ---- Answers

void TcpConnection::complete(Request& base) noexcept {
  auto& request = static_cast<TcpRequest&>(base);
  if (stage_ != Stage::serving) {
    release(request);
    return end_if_quiet();
  }
  if (deadline_.set && queue_.admitted()) group_.reactor().cancel(deadline_);
  const bool reads = nvme::data_direction(request.command) == nvme::DataDirection::to_host;
  request.has_data_to_send = reads && !request.data.empty() && request.completion.status().ok();
  if (!request.has_data_to_send) release_memory(request);
  lay_out_answer(request);
  request.state = TcpRequest::State::sending;
  send(request);
}

// A header with its digest and the padding before data; answers its length.
size_t TcpConnection::put_header(TcpRequest& request, const void* pdu, size_t bytes,
                                 size_t data_bytes) noexcept {
  const auto layout = nvme::tcp::lay_out(bytes, data_bytes, sending_);
  const size_t length = data_bytes > 0 ? layout.data_offset : layout.bytes;
  std::memset(request.header.data(), 0, length);
  std::memcpy(request.header.data(), pdu, bytes);
  if (sending_.header_digest) {
    put_digest(request.header.data() + bytes, crc32c(std::span(request.header).first(bytes)));
  }
  request.header_bytes = static_cast<uint8_t>(length);
  return length;
}

void TcpConnection::lay_out_answer(TcpRequest& request) noexcept {
  using namespace nvme::tcp;
  const uint8_t header_digest = sending_.header_digest ? kHeaderDigest : 0;
  ResponsePdu response{};
  response.header = {.type = static_cast<uint8_t>(PduType::response),
                     .flags = header_digest,
                     .header_bytes = sizeof response,
                     .data_offset = 0,
                     .bytes = lay_out(sizeof response, 0, sending_).bytes};
  response.completion = request.completion;
  request.trailer_bytes = 0;
  if (!request.has_data_to_send) {
    put_header(request, &response, sizeof response, 0);
    return;
  }
  // Data that stands for the response, where the host need not be told more than that it went well.
  const bool implied = queue_.flow_control_disabled() && request.completion.result == 0 &&
                       request.completion.result_high == 0;
  const auto layout = lay_out(sizeof(DataPdu), request.data.size(), sending_);
  DataPdu data{};
  data.header = {.type = static_cast<uint8_t>(PduType::controller_data),
                 .flags = static_cast<uint8_t>(header_digest | kLastData |
                                               (sending_.data_digest ? kDataDigest : 0) |
                                               (implied ? kSuccess : 0)),
                 .header_bytes = sizeof data,
                 .data_offset = static_cast<uint8_t>(layout.data_offset),
                 .bytes = layout.bytes};
  data.cid = request.command.cid;
  data.length = static_cast<uint32_t>(request.data.size());
  put_header(request, &data, sizeof data, request.data.size());
  std::byte* at = request.trailer.data();
  if (sending_.data_digest) {
    put_digest(at, crc32c(request.data));
    at += kDigestBytes;
  }
  if (!implied) {
    std::memcpy(at, &response, sizeof response);
    if (sending_.header_digest) {
      put_digest(at + sizeof response, crc32c(std::span(at, sizeof response)));
      at += kDigestBytes;
    }
    at += sizeof response;
  }
  request.trailer_bytes = static_cast<uint8_t>(at - request.trailer.data());
}

void TcpConnection::send(TcpRequest& request) noexcept {
  to_send_.push_back(&request);
  if (std::exchange(flush_due_, true)) return;
  group_.send_soon(*this);
}

// The host's turn, which it has for so long.
void TcpConnection::wait_for_data() noexcept {
  if (data_timer_.set) return;
  data_moved_ = true;
  group_.reactor().set(data_timer_, target_.options().data_timeout);
}

size_t TcpConnection::gather(std::span<iovec> pieces, size_t& bytes) noexcept {
  size_t count = 0, skip = sent_;
  bytes = 0;
  const auto add = [&](std::byte* data, size_t length) {
    const size_t skipped = std::min(skip, length);
    skip -= skipped;
    if (skipped == length) return;
    pieces[count++] = {data + skipped, length - skipped};
    bytes += length - skipped;
  };
  for (size_t i = first_to_send_; i < to_send_.size() && count + 3 <= pieces.size(); ++i) {
    TcpRequest& request = *to_send_[i];
    add(request.header.data(), request.header_bytes);
    if (request.has_data_to_send) add(request.data.data(), request.data.size());
    add(request.trailer.data(), request.trailer_bytes);
  }
  const bool all = count + 3 <= pieces.size();
  if (all && !termination_.empty()) add(termination_.data(), termination_.size());
  return count;
}

void TcpConnection::sent(size_t bytes) noexcept {
  sent_ += bytes;
  while (first_to_send_ < to_send_.size()) {
    TcpRequest& request = *to_send_[first_to_send_];
    const size_t length = request.header_bytes + request.trailer_bytes +
                          (request.has_data_to_send ? request.data.size() : 0);
    if (sent_ < length) break;
    sent_ -= length;
    ++first_to_send_;
    if (request.state == TcpRequest::State::asking) {
      request.state = TcpRequest::State::asked;
      ++asked_;
      wait_for_data();
    } else {
      release(request);
    }
  }
  // Not at every answer, and not never: a socket that always has some left would let the list grow.
  if (first_to_send_ < to_send_.size() && first_to_send_ < kMostPieces) return;
  to_send_.erase(to_send_.begin(), to_send_.begin() + static_cast<ptrdiff_t>(first_to_send_));
  first_to_send_ = 0;
}

void TcpConnection::flush() noexcept {
  flush_due_ = false;
  if (std::exchange(receive_due_, false)) receive();
  if (stage_ == Stage::closed) return;
  std::array<iovec, kMostPieces> pieces;
  for (;;) {
    size_t bytes = 0;
    const size_t count = gather(pieces, bytes);
    if (count == 0) break;
    const ssize_t got = write_socket(std::span(pieces).first(count));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno != EAGAIN) return hang_up(socket_error(errno).c_str());
    if (got > 0) {
      sent(static_cast<size_t>(got));
      data_moved_ = true;
    }
    // A TLS record ends where there was room for more.
    if (got < 0 || (tls_ == nullptr && static_cast<size_t>(got) < bytes)) {
      wait_for_data();
      return watch_for(watched_ | EPOLLOUT);
    }
    if (to_send_.empty() && !termination_.empty() && sent_ == termination_.size()) {
      // The host closes when it has read that; what it still sends is thrown away.
      stage_ = Stage::draining;
      termination_.clear();
      sent_ = 0;
      ::shutdown(fd_.get(), SHUT_WR);
      group_.reactor().set(deadline_, kDrainTime);
      return watch_for(EPOLLIN);
    }
  }
  watch_for(watched_ & ~uint32_t{EPOLLOUT});
}

}  // namespace basalt::nvmf
