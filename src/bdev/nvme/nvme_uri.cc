// nvme: URIs: from the text to a controller that is up. See nvme_device.h.
#include <charconv>

#include "base/try.h"
#include "bdev/nvme/nvme_device.h"
#include "bdev/scheme_table.h"
#include "nvme/vfio/vfio_function.h"
#include "nvme/vfio_user/vfio_user_function.h"

namespace basalt {

namespace {

constexpr std::string_view kPci = "pci:", kVfioUser = "vfio-user:";

struct Place {
  std::string_view function;  // with its kind in front
  uint32_t nsid = 0;
};

Result<Place> parse_place(const Uri& uri) {
  const std::string_view text = uri.argument;
  const size_t slash = text.rfind('/');
  Place place{text.substr(0, slash), 0};
  const std::string_view number =
      slash == std::string_view::npos ? std::string_view() : text.substr(slash + 1);
  const auto [end, failed] =
      std::from_chars(number.data(), number.data() + number.size(), place.nsid);
  const bool is_number = failed == std::errc() && end == number.data() + number.size();
  const bool is_kind = place.function.starts_with(kPci) || place.function.starts_with(kVfioUser);
  if (is_number && is_kind && place.nsid != 0 && place.nsid != nvme::kAllNamespaces) return place;
  return error(StatusCode::invalid_argument,
               uri.to_string() + ": expected nvme:pci:ADDRESS/NAMESPACE or " +
                   "nvme:vfio-user:SOCKET/NAMESPACE, as nvme:pci:0000:01:00.0/1");
}

Result<std::unique_ptr<Device>> open_nvme(Context& context, const Uri& uri,
                                          const DeviceOpenOptions& options) {
  BASALT_TRY_ASSIGN(const Place place, parse_place(uri));
  UriOptions keys(uri);
  nvme::ControllerOptions controller_options;
  BASALT_TRY_ASSIGN(const uint64_t depth,
                    keys.take_number("depth", controller_options.queue_depth, 1, 1023));
  controller_options.queue_depth = static_cast<uint16_t>(depth);
  BASALT_TRY_ASSIGN(controller_options.interrupts, keys.take_bool("interrupts", true));
  BASALT_TRY(keys.finish());
  Result<std::unique_ptr<nvme::PciFunction>> function =
      place.function.starts_with(kPci)
          ? nvme::VfioFunction::open(place.function.substr(kPci.size()))
          : nvme::VfioUserFunction::open(place.function.substr(kVfioUser.size()));
  if (!function) return error(function.error().with_context(uri.to_string()));
  auto controller =
      nvme::Controller::open({context.memory(), context.clock(), context.log(), context.executor()},
                             std::move(*function), controller_options);
  if (!controller) return error(controller.error().with_context(uri.to_string()));
  return NvmeDevice::create(context, uri.to_string(), std::move(*controller), place.nsid,
                            options.mode);
}

}  // namespace

void register_nvme_scheme(Context& context) {
  context.schemes().add("nvme", "nvme:pci:0000:01:00.0/1", &open_nvme);
}

}  // namespace basalt
