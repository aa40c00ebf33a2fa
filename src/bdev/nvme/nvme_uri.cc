#include "bdev/nvme/nvme_uri.h"

#include <charconv>

#include "base/try.h"
#include "bdev/nvme/nvme_device.h"
#include "bdev/scheme_table.h"
#include "nvme/vfio/vfio_function.h"
#include "nvme/vfio_user/vfio_user_function.h"

namespace basalt {

namespace {

constexpr std::string_view kScheme = "nvme";
constexpr std::string_view kPci = "pci:", kVfioUser = "vfio-user:";

struct Place {
  std::string function;  // with its kind in front
  uint32_t nsid = 0;
};

// The number behind the last slash, if there is one; 0: there is none.
uint32_t trailing_number(std::string_view text) {
  const size_t slash = text.rfind('/');
  if (slash == std::string_view::npos) return 0;
  const char* const end = text.data() + text.size();
  uint32_t number = 0;
  const auto [stopped, failed] = std::from_chars(text.data() + slash + 1, end, number);
  return failed == std::errc() && stopped == end ? number : 0;
}

Result<Place> parse_place(const Uri& uri) {
  const std::string_view text = uri.argument;
  const uint32_t nsid = trailing_number(text);
  const bool is_kind = text.starts_with(kPci) || text.starts_with(kVfioUser);
  if (is_kind && nsid != 0 && nsid != nvme::kAllNamespaces) {
    return Place{std::string(text.substr(0, text.rfind('/'))), nsid};
  }
  return error(StatusCode::invalid_argument,
               uri.to_string() + ": expected nvme:pci:ADDRESS/NAMESPACE or " +
                   "nvme:vfio-user:SOCKET/NAMESPACE, as nvme:pci:0000:01:00.0/1");
}

Result<std::unique_ptr<nvme::Controller>> bring_up(Context& context, std::string_view function,
                                                   const SharedControllers::Settings& settings) {
  Result<std::unique_ptr<nvme::PciFunction>> opened =
      function.starts_with(kPci) ? nvme::VfioFunction::open(function.substr(kPci.size()))
                                 : nvme::VfioUserFunction::open(function.substr(kVfioUser.size()));
  if (!opened) return error(std::move(opened.error()));
  nvme::ControllerOptions options;
  options.queue_depth = settings.queue_depth;
  options.interrupts = settings.interrupts;
  return nvme::Controller::open(
      {context.memory(), context.clock(), context.log(), context.executor()}, std::move(*opened),
      options);
}

Result<std::unique_ptr<Device>> open_nvme(Context& context, const Uri& uri,
                                          const DeviceOpenOptions& options) {
  BASALT_TRY_ASSIGN(const Place place, parse_place(uri));
  UriOptions keys(uri);
  SharedControllers::Settings settings;
  BASALT_TRY_ASSIGN(const uint64_t depth,
                    keys.take_number("depth", nvme::ControllerOptions().queue_depth, 1, 1023));
  settings.queue_depth = static_cast<uint16_t>(depth);
  BASALT_TRY_ASSIGN(settings.interrupts, keys.take_bool("interrupts", true));
  BASALT_TRY(keys.finish());
  const auto controllers =
      std::static_pointer_cast<SharedControllers>(context.schemes().state(kScheme));
  auto lease = controllers->lease(place.function, place.nsid, options.mode, settings,
                                  [&] { return bring_up(context, place.function, settings); });
  if (!lease) return error(lease.error().with_context(uri.to_string()));
  return NvmeDevice::create(context, uri.to_string(), std::move(*lease), place.nsid, options.mode);
}

}  // namespace

Result<NvmeController> open_nvme_controller(Context& context, std::string_view text) {
  std::string_view function = text;
  if (function.starts_with("nvme:")) function.remove_prefix(5);
  if (!function.starts_with(kPci) && !function.starts_with(kVfioUser)) {
    return error(StatusCode::invalid_argument,
                 std::string(text) + ": expected nvme:pci:ADDRESS or nvme:vfio-user:SOCKET, with " +
                     "/NAMESPACE behind it or not, as nvme:pci:0000:01:00.0");
  }
  NvmeController opened;
  opened.nsid = trailing_number(function);
  if (opened.nsid != 0) function = function.substr(0, function.rfind('/'));
  auto controller = bring_up(context, function, {nvme::ControllerOptions().queue_depth, true});
  if (!controller) return error(controller.error().with_context(std::string(text)));
  opened.controller = std::move(*controller);
  return opened;
}

void register_nvme_scheme(Context& context) {
  context.schemes().add(kScheme, "nvme:pci:0000:01:00.0/1", &open_nvme,
                        std::make_shared<SharedControllers>());
}

}  // namespace basalt
