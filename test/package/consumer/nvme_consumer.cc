// A program outside the tree that uses the NVMe driver alone: it finds no controller at three places, and hears why.
#include <basalt/context.h>

#include <chrono>
#include <cstdio>
#include <memory>
#include <utility>

#include "nvme/commands.h"
#include "nvme/controller.h"
#include "nvme/multipath.h"
#include "nvme/tcp/tcp_transport.h"
#include "nvme/vfio/vfio_function.h"
#include "nvme/vfio_user/vfio_user_function.h"

namespace {

using namespace basalt;

Status open_over_tcp(Context& context) {
  nvme::TcpOptions tcp;
  tcp.addresses = {*nvme::TcpAddress::parse("127.0.0.1:1", nvme::kIoPort)};
  tcp.subsystem_nqn = "nqn.2014-08.org.example:disk";
  tcp.host = *nvme::HostIdentity::of_this_host("/nonexistent");
  auto transport = nvme::TcpTransport::create(tcp);
  if (!transport) return transport.error();
  const nvme::HostServices host{context.memory(), context.clock(), context.log()};
  auto controller = nvme::Controller::open(host, std::move(*transport));
  return controller ? Status() : controller.error();
}

bool fails(const char* where, const Status& status) {
  std::printf("%s: %s\n", where, status.to_string().c_str());
  return !status.ok();
}

}  // namespace

int main() {
  auto context = Context::create();
  if (!context) return 1;
  const auto function = nvme::VfioFunction::open("ffff:ff:1f.7");
  const auto emulated = nvme::VfioUserFunction::open("/nonexistent/socket");
  const nvme::Command command = nvme::read_command(1, 0, 8);
  const bool all = fails("vfio", function ? Status() : function.error()) &
                   fails("vfio-user", emulated ? Status() : emulated.error()) &
                   fails("tcp", open_over_tcp(**context));
  return all && command.nsid == 1 ? 0 : 1;
}
