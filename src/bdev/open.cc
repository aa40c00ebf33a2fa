// open_device(), run() and to_string(Op): the public functions over the contract.
#include <basalt/device.h>

#include "base/try.h"
#include "bdev/scheme_table.h"

namespace basalt {

Result<std::unique_ptr<Device>> open_device(Context& context, std::string_view uri,
                                            const DeviceOpenOptions& options) {
  BASALT_TRY_ASSIGN(const Uri parsed, parse_uri(uri));
  return open_device(context, parsed, options);
}

Result<std::unique_ptr<Device>> open_device(Context& context, const Uri& uri,
                                            const DeviceOpenOptions& options) {
  const OpenScheme open = context.schemes().find(uri.scheme);
  if (open == nullptr) {
    return error(StatusCode::not_found, "URI \"" + uri.to_string() + "\", character " +
                                            std::to_string(uri.position) + ": unknown scheme \"" +
                                            uri.scheme +
                                            "\"; known here: " + context.schemes().known());
  }
  return open(context, uri, options);
}

StatusCode run(Channel& channel, Io& io) {
  bool finished = false;
  io.user = &finished;
  io.done = [](Io& ended) { *static_cast<bool*>(ended.user) = true; };
  channel.submit(io);
  while (!finished) channel.wait(Duration::max());
  return io.status;
}

std::string_view to_string(Op op) {
  switch (op) {
    case Op::read: return "read";
    case Op::write: return "write";
    case Op::write_zeroes: return "write_zeroes";
    case Op::discard: return "discard";
    case Op::flush: return "flush";
    case Op::compare: return "compare";
    case Op::compare_and_write: return "compare_and_write";
    case Op::copy: return "copy";
    case Op::zone_report: return "zone_report";
    case Op::zone_management: return "zone_management";
    case Op::zone_append: return "zone_append";
    case Op::reset: return "reset";
  }
  return "unknown operation";
}

}  // namespace basalt
