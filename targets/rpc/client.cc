// See client.h.
#include "targets/rpc/client.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "base/unique_fd.h"
#include "targets/rpc/json_stream.h"

namespace basalt::rpc {

namespace {

Status connect_error(const std::string& path) {
  switch (errno) {
    case ENOENT:
    case ECONNREFUSED:
      return {StatusCode::not_found, path + ": no daemon serves this socket; is basaltd running?"};
    case EACCES:
    case EPERM:
      return {StatusCode::permission_denied, path + ": only the daemon's user may use it"};
    default: return {StatusCode::io_error, path + ": " + std::strerror(errno)};
  }
}

}  // namespace

Result<Json> call(const std::string& socket_path, const std::string& method, const Json& params,
                  Duration patience) {
  sockaddr_un address{};
  if (socket_path.size() >= sizeof address.sun_path) {
    return error(StatusCode::invalid_argument, socket_path + ": too long for a socket's path");
  }
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, socket_path.c_str(), socket_path.size());
  const UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (patience > Duration::zero()) {
    const timeval time{patience / std::chrono::seconds(1),
                       patience % std::chrono::seconds(1) / std::chrono::microseconds(1)};
    ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time);
    ::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &time, sizeof time);
  }
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return error(connect_error(socket_path));
  }
  Json request = {{"jsonrpc", "2.0"}, {"id", 1}, {"method", method}};
  if (!params.is_null()) request["params"] = params;
  std::string_view text;
  std::string whole;
  try {
    whole = request.dump();
  } catch (const Json::type_error& failure) {
    return error(StatusCode::invalid_argument,
                 method + ": its parameters are not UTF-8, which JSON is: " + failure.what());
  }
  for (text = whole; !text.empty();) {
    const ssize_t sent = ::send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL);
    if (sent < 0) return error(StatusCode::io_error, socket_path + ": " + std::strerror(errno));
    text.remove_prefix(static_cast<size_t>(sent));
  }
  // Answers may be longer than a request may: they come from one we trust.
  JsonStream stream;
  std::array<char, 65536> buffer;
  for (;;) {
    if (const auto answer = stream.take()) {
      Json json = Json::parse(*answer, nullptr, false);
      if (json.is_object() && (json.contains("result") || json.contains("error"))) return json;
      return error(StatusCode::corruption, socket_path + ": it answers " + *answer);
    }
    const ssize_t got = ::recv(fd.get(), buffer.data(), buffer.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) {
      return error(StatusCode::timed_out, socket_path + ": the daemon does not answer");
    }
    if (got <= 0) {
      return error(StatusCode::io_error, socket_path + ": the daemon ended the connection");
    }
    stream.add({buffer.data(), static_cast<size_t>(got)});
    if (stream.is_too_deep()) {
      return error(StatusCode::corruption, socket_path + ": its answer is nested too deep");
    }
  }
}

}  // namespace basalt::rpc
