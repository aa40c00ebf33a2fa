#include "bdev/nvme/nvme_uri.h"

#include <charconv>
#include <fstream>
#include <optional>

#include "base/try.h"
#include "bdev/nvme/nvme_device.h"
#include "bdev/scheme_table.h"
#include "nvme/tcp/discovery.h"
#include "nvme/tcp/tcp_transport.h"
#include "nvme/vfio/vfio_function.h"
#include "nvme/vfio_user/vfio_user_function.h"

namespace basalt {

namespace {

constexpr std::string_view kScheme = "nvme";
constexpr std::string_view kPci = "pci:", kVfioUser = "vfio-user:", kTcp = "tcp:";

enum class Named : uint8_t { device, controller };

// What a URI says of a controller and how to reach it.
struct Place {
  std::string controller;  // with its kind in front, as "pci:0000:01:00.0"
  uint32_t nsid = 0;       // 0: none was named
  nvme::ControllerOptions options;
  std::string settings;    // the keys that all who share the controller must agree on, as text
  nvme::VfioOptions vfio;  // of pci: alone; what follows of tcp:
  nvme::TcpOptions tcp;
  bool discover = false;
  std::optional<nvme::PathPolicy> multipath;
};

// Takes the number behind the last slash off, if there is one; 0: there is none.
uint32_t take_trailing_number(std::string_view& text) {
  const size_t slash = text.rfind('/');
  if (slash == std::string_view::npos) return 0;
  const char* const end = text.data() + text.size();
  uint32_t number = 0;
  const auto [stopped, failed] = std::from_chars(text.data() + slash + 1, end, number);
  if (failed != std::errc() || stopped != end || number == 0 || number == nvme::kAllNamespaces) {
    return 0;
  }
  text = text.substr(0, slash);
  return number;
}

tl::unexpected<Status> no_place(const Uri& uri, Named named) {
  const std::string tail = named == Named::device ? "/NAMESPACE" : "";
  return error(StatusCode::invalid_argument,
               uri.to_string() + ": expected nvme:pci:ADDRESS" + tail + ", nvme:vfio-user:SOCKET" +
                   tail + " or nvme:tcp:HOST:PORT[,HOST:PORT...]/NQN" + tail +
                   ", as nvme:pci:0000:01:00.0" +
                   (named == Named::device ? "/1" : ", with /NAMESPACE behind it or not"));
}

// "HOST[:PORT][,HOST[:PORT]...]/NQN".
Status parse_target(const Uri& uri, std::string_view text, Place& place) {
  const size_t slash = text.find('/');
  if (slash == std::string_view::npos) {
    return no_place(uri, Named::device).value();
  }
  constexpr size_t kMaxAddresses = 16;
  std::string_view list = text.substr(0, slash);
  for (bool more = true; more;) {
    const size_t comma = list.find(',');
    auto address = nvme::TcpAddress::parse(list.substr(0, comma),
                                           place.discover ? nvme::kDiscoveryPort : nvme::kIoPort);
    if (!address) return address.error().with_context(uri.to_string());
    place.tcp.addresses.push_back(std::move(*address));
    more = comma != std::string_view::npos;
    if (more) list.remove_prefix(comma + 1);
  }
  if (place.tcp.addresses.size() > kMaxAddresses) {
    return {StatusCode::invalid_argument,
            uri.to_string() + ": more than " + std::to_string(kMaxAddresses) + " addresses"};
  }
  place.tcp.subsystem_nqn = text.substr(slash + 1);
  return nvme::check_nqn(place.tcp.subsystem_nqn).with_context(uri.to_string());
}

// A secret (auth::Secret, auth::TlsKey) from the file that `key` names: URIs are shown and logged.
template <class Secret>
Status take_secret(const Uri& uri, UriOptions& keys, std::string_view key,
                   std::optional<Secret>& secret) {
  const bool given = uri.find(key) != nullptr;
  const std::string path = keys.take_text(key, "");
  if (!given) return {};
  if (path.empty()) return keys.complain(key, "names no file").value();
  std::ifstream file(path);
  std::string text;
  if (!(file >> text)) return keys.complain(key, "there is nothing to read").value();
  auto parsed = Secret::parse(text);
  if (!parsed) return keys.complain(key, parsed.error().message()).value();
  secret = std::move(*parsed);
  return {};
}

Status take_tcp_keys(const Uri& uri, UriOptions& keys, Place& place) {
  nvme::TcpOptions& tcp = place.tcp;
  const auto seconds = [](uint64_t count) { return std::chrono::seconds(count); };
  BASALT_TRY_ASSIGN(tcp.header_digest, keys.take_bool("header_digest", false));
  BASALT_TRY_ASSIGN(tcp.data_digest, keys.take_bool("data_digest", false));
  BASALT_TRY_ASSIGN(const uint64_t keep_alive, keys.take_number("keep_alive", 5, 1, 86400));
  tcp.keep_alive = seconds(keep_alive);
  BASALT_TRY_ASSIGN(const uint64_t reconnect, keys.take_number("reconnect", 60, 0, 86400));
  place.options.reconnect_timeout = seconds(reconnect);
  BASALT_TRY_ASSIGN(tcp.write_cache_survives, keys.take_bool("write_cache_survives", false));
  BASALT_TRY_ASSIGN(place.discover, keys.take_bool("discover", false));
  BASALT_TRY_ASSIGN(const size_t policy,
                    keys.take_choice("multipath", {"off", "round-robin", "queue-depth"}, 0));
  if (policy == 1) place.multipath = nvme::PathPolicy::round_robin;
  if (policy == 2) place.multipath = nvme::PathPolicy::queue_depth;
  BASALT_TRY_ASSIGN(tcp.host, nvme::HostIdentity::of_this_host());
  if (const std::string nqn = keys.take_text("hostnqn", ""); !nqn.empty()) tcp.host.nqn = nqn;
  if (const std::string id = keys.take_text("hostid", ""); !id.empty()) {
    auto parsed = nvme::parse_uuid(id);
    if (!parsed) return keys.complain("hostid", parsed.error().message()).value();
    tcp.host.id = *parsed;
  }
  BASALT_TRY(take_secret(uri, keys, "dhchap_secret_file", tcp.credentials.host));
  BASALT_TRY(take_secret(uri, keys, "dhchap_ctrl_secret_file", tcp.credentials.controller));
  BASALT_TRY(take_secret(uri, keys, "tls_key_file", tcp.tls_key));
  for (const char* key : {"header_digest", "data_digest", "keep_alive", "reconnect",
                          "write_cache_survives", "discover", "multipath", "hostnqn", "hostid",
                          "dhchap_secret_file", "dhchap_ctrl_secret_file", "tls_key_file"}) {
    if (const std::string* value = uri.find(key); value != nullptr) {
      place.settings += std::string("&") + key + (value->empty() ? "" : "=" + *value);
    }
  }
  return {};
}

Result<Place> parse_place(const Uri& uri, Named named) {
  std::string_view text = uri.argument;
  Place place;
  place.nsid = take_trailing_number(text);
  const bool tcp = text.starts_with(kTcp);
  if ((!tcp && !text.starts_with(kPci) && !text.starts_with(kVfioUser)) ||
      (named == Named::device && place.nsid == 0)) {
    return no_place(uri, named);
  }
  place.controller = text;
  UriOptions keys(uri);
  BASALT_TRY_ASSIGN(const uint64_t depth,
                    keys.take_number("depth", place.options.queue_depth, 1, 1023));
  place.options.queue_depth = static_cast<uint16_t>(depth);
  BASALT_TRY_ASSIGN(place.options.interrupts, keys.take_bool("interrupts", true));
  place.settings =
      "depth=" + std::to_string(depth) + "&interrupts=" + (place.options.interrupts ? "on" : "off");
  if (text.starts_with(kPci)) {
    BASALT_TRY_ASSIGN(place.vfio.allow_noiommu, keys.take_bool("unsafe_noiommu", false));
    if (place.vfio.allow_noiommu) place.settings += "&unsafe_noiommu";
  }
  if (tcp) BASALT_TRY(take_tcp_keys(uri, keys, place));
  BASALT_TRY(keys.finish());
  if (tcp) BASALT_TRY(parse_target(uri, text.substr(kTcp.size()), place));
  return place;
}

nvme::HostServices services(Context& context) {
  return {context.memory(), context.clock(), context.log()};
}

// Asks the discovery controller at the place's address where the subsystem is.
Status find_target(Context& context, nvme::TcpOptions& tcp) {
  nvme::TcpOptions discovery = tcp;
  discovery.subsystem_nqn = nvme::kDiscoveryNqn;
  BASALT_TRY_ASSIGN(auto transport, nvme::TcpTransport::create(std::move(discovery)));
  BASALT_TRY_ASSIGN(const auto controller,
                    nvme::Controller::open(services(context), std::move(transport)));
  BASALT_TRY_ASSIGN(const auto found, nvme::read_discovery_log(*controller));
  BASALT_TRY_ASSIGN(tcp.addresses, nvme::addresses_of(tcp.subsystem_nqn, found));
  return {};
}

// Where the subsystem is, if that is to be asked for.
Result<nvme::TcpOptions> resolve(Context& context, const Place& place) {
  nvme::TcpOptions tcp = place.tcp;
  if (place.discover) {
    if (Status status = find_target(context, tcp); !status.ok()) {
      return error(status.with_context("discovery"));
    }
  }
  return tcp;
}

Result<std::unique_ptr<nvme::Controller>> bring_up(Context& context, const Place& place) {
  if (place.controller.starts_with(kTcp)) {
    BASALT_TRY_ASSIGN(nvme::TcpOptions tcp, resolve(context, place));
    BASALT_TRY_ASSIGN(std::unique_ptr<nvme::Transport> transport,
                      nvme::TcpTransport::create(std::move(tcp)));
    return nvme::Controller::open(services(context), std::move(transport), place.options);
  }
  const std::string_view text = place.controller;
  Result<std::unique_ptr<nvme::PciFunction>> opened =
      text.starts_with(kPci) ? nvme::VfioFunction::open(text.substr(kPci.size()), place.vfio)
                             : nvme::VfioUserFunction::open(text.substr(kVfioUser.size()));
  if (!opened) return error(std::move(opened.error()));
  return nvme::Controller::open(services(context), std::move(*opened), place.options);
}

// Of an address, and not of what is there: another may do.
bool is_unreachable(const Status& status) {
  return status.code() == StatusCode::not_found || status.code() == StatusCode::timed_out ||
         status.code() == StatusCode::io_error;
}

Result<std::unique_ptr<Device>> open_nvme(Context& context, const Uri& uri,
                                          const DeviceOpenOptions& options) {
  BASALT_TRY_ASSIGN(const Place place, parse_place(uri, Named::device));
  const auto controllers =
      std::static_pointer_cast<SharedControllers>(context.schemes().state(kScheme));
  const std::string text = uri.to_string();
  std::vector<SharedControllers::Lease> leases;
  if (!place.multipath) {
    auto lease = controllers->lease(place.controller, place.nsid, options.mode, place.settings,
                                    [&] { return bring_up(context, place); });
    if (!lease) return error(lease.error().with_context(text));
    leases.push_back(std::move(*lease));
    return NvmeDevice::create(context, text, std::move(leases), place.nsid, options.mode);
  }
  // A controller for each address; those that cannot be reached now are done without, and those that are lost later
  // are sought as long as the device is open.
  auto tcp = resolve(context, place);
  if (!tcp) return error(tcp.error().with_context(text));
  Status last;
  for (const nvme::TcpAddress& address : tcp->addresses) {
    Place path = place;
    path.discover = false;
    path.options.reconnect_timeout = kForGood;
    path.tcp.addresses = {address};
    path.controller = std::string(kTcp) + address.to_string() + "/" + path.tcp.subsystem_nqn;
    auto lease = controllers->lease(path.controller, path.nsid, options.mode, path.settings,
                                    [&] { return bring_up(context, path); });
    if (lease) {
      leases.push_back(std::move(*lease));
      continue;
    }
    last = lease.error().with_context(address.to_string());
    if (!is_unreachable(last)) return error(last.with_context(text));
    context.log().log(LogLevel::warning, "nvme",
                      last.with_context(text + ": without the path to").to_string());
  }
  if (leases.empty()) return error(last.with_context(text));
  return NvmeDevice::create(
      context, text, std::move(leases), place.nsid, options.mode,
      NvmePaths{.policy = *place.multipath, .patience = place.options.reconnect_timeout});
}

}  // namespace

Result<NvmeController> open_nvme_controller(Context& context, std::string_view text) {
  const std::string whole = (text.starts_with("nvme:") ? "" : "nvme:") + std::string(text);
  BASALT_TRY_ASSIGN(const Uri uri, parse_uri(whole));
  BASALT_TRY_ASSIGN(const Place place, parse_place(uri, Named::controller));
  auto controller = bring_up(context, place);
  if (!controller) return error(controller.error().with_context(std::string(text)));
  return NvmeController{std::move(*controller), place.nsid};
}

Result<SharedControllers::Lease> lease_nvme_controller(Context& context, const Uri& uri) {
  constexpr uint32_t kNoNamespace = 0;
  Uri of_namespace = uri;
  of_namespace.argument += "/1";
  BASALT_TRY_ASSIGN(const Place place, parse_place(of_namespace, Named::device));
  const std::string text = uri.to_string();
  if (place.multipath) {
    return error(StatusCode::unsupported, text + ": with multipath there are several controllers");
  }
  const auto controllers =
      std::static_pointer_cast<SharedControllers>(context.schemes().state(kScheme));
  auto lease = controllers->lease(place.controller, kNoNamespace, OpenMode::read_only,
                                  place.settings, [&] { return bring_up(context, place); });
  if (!lease) return error(lease.error().with_context(text));
  return lease;
}

void stop_reconnecting_nvme(Context& context) {
  std::static_pointer_cast<SharedControllers>(context.schemes().state(kScheme))
      ->stop_reconnecting();
}

Result<std::vector<nvme::DiscoveredSubsystem>> discover_nvme(Context& context,
                                                             std::string_view text) {
  constexpr std::string_view kWhole = "nvme:tcp:";
  std::string whole(text);
  if (whole.starts_with(kTcp)) whole = "nvme:" + whole;
  if (!whole.starts_with(kWhole)) whole = std::string(kWhole) + whole;
  BASALT_TRY_ASSIGN(Uri uri, parse_uri(whole));
  if (uri.argument.find('/') == std::string::npos) {
    uri.argument += "/" + std::string(nvme::kDiscoveryNqn);
  }
  uri.set("discover", "on");  // for its port; the address itself is what is asked
  BASALT_TRY_ASSIGN(Place place, parse_place(uri, Named::controller));
  place.discover = false;
  BASALT_TRY_ASSIGN(const auto controller, bring_up(context, place));
  return nvme::read_discovery_log(*controller);
}

void register_nvme_scheme(Context& context) {
  context.schemes().add(kScheme, "nvme:pci:0000:01:00.0/1", &open_nvme,
                        std::make_shared<SharedControllers>());
}

}  // namespace basalt
