// Goal: whatever comes on the control plane's socket is cut into requests and answered, or not, but never ends the daemon.
// Method: the input in portions whose lengths its first byte chooses, to a dispatcher with methods that take every kind of
// parameter.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "base/try.h"
#include "targets/rpc/dispatcher.h"
#include "targets/rpc/json_stream.h"

namespace {

using namespace basalt;

rpc::Dispatcher make_dispatcher() {
  rpc::Dispatcher dispatcher;
  dispatcher.add("take", [](rpc::Params& params) -> Result<rpc::Json> {
    params.text("text", "");
    params.number_or("number", 1, 1, 100);
    params.flag("flag", false);
    params.only("only", 5);
    params.texts("texts");
    rpc::Params inner = params.object("object");
    inner.text("text");
    BASALT_TRY(params.done());
    BASALT_TRY(inner.done());
    return params.values();
  });
  dispatcher.add("fail", [](rpc::Params&) -> Result<rpc::Json> {
    return error(StatusCode::busy, "it is so");
  });
  return dispatcher;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1) return 0;
  static const rpc::Dispatcher dispatcher = make_dispatcher();
  const size_t portion = data[0] % 64 + 1;
  std::string_view text(reinterpret_cast<const char*>(data + 1), size - 1);
  rpc::JsonStream stream;
  while (!text.empty()) {
    const std::string_view part = text.substr(0, portion);
    text.remove_prefix(part.size());
    stream.add(part);
    while (const auto request = stream.take()) {
      const std::string answer = dispatcher.handle(*request);
      if (!answer.empty() && !rpc::Json::accept(answer)) std::abort();
    }
  }
  return 0;
}
