// Devices: made, listed, counted, deleted.
#include <algorithm>

#include "base/try.h"
#include "bdev/uri.h"
#include "targets/daemon/daemon.h"
#include "targets/daemon/uuid.h"

namespace basalt {

using rpc::Json;
using rpc::Params;

namespace {

constexpr const char* kMalloc = "Malloc disk";
constexpr const char* kNull = "Null disk";
constexpr const char* kAio = "AIO disk";
constexpr const char* kUring = "URING bdev";
constexpr const char* kUri = "Basalt device";

constexpr uint64_t kMostBytes = uint64_t{1} << 62;

Uri make_uri(const std::string& scheme, const std::string& argument) {
  Uri uri;
  uri.scheme = scheme;
  uri.argument = argument;
  return uri;
}

// Metadata and what goes with it: no device here has it.
void no_metadata(Params& params) {
  params.only("md_size", 0);
  params.only("md_interleave", false);
  params.only("dif_type", 0);
  params.only("dif_is_head_of_md", false);
  params.only("dif_pi_format", 0);
}

Json describe_specifics(const Bdev& bdev) {
  Json specifics = {{"uri", bdev.device->info().uri}};
  if (!bdev.base.empty()) specifics["base_bdev_name"] = bdev.base;
  if (!bdev.controller.empty()) specifics["controller_name"] = bdev.controller;
  return specifics;
}

Json describe(const Bdev& bdev) {
  const DeviceInfo& info = bdev.device->info();
  const auto can = [&](Op op) { return info.supported.has(op); };
  Json aliases = Json::array();
  if (!bdev.uuid.empty()) aliases.push_back(bdev.uuid);
  return {{"name", bdev.name},
          {"aliases", aliases},
          {"product_name", bdev.product},
          {"block_size", info.block_size},
          {"num_blocks", info.block_count.value},
          {"uuid", bdev.uuid},
          {"claimed", bdev.device.use_count() > 1},
          {"zoned", info.zone_blocks != 0},
          {"supported_io_types",
           {{"read", can(Op::read)},
            {"write", can(Op::write) && !info.read_only},
            {"unmap", can(Op::discard)},
            {"flush", can(Op::flush)},
            {"write_zeroes", can(Op::write_zeroes)},
            {"compare", can(Op::compare)},
            {"compare_and_write", can(Op::compare_and_write)},
            {"copy", can(Op::copy)}}},
          {"volatile_write_cache", info.volatile_write_cache},
          {"atomic_write_blocks", info.atomic_write_blocks},
          {"driver_specific", describe_specifics(bdev)}};
}

Json describe(const std::string& name, const nvmf::DeviceTotals& totals) {
  return {{"name", name},
          {"bytes_read", totals.read_bytes},
          {"num_read_ops", totals.reads},
          {"bytes_written", totals.written_bytes},
          {"num_write_ops", totals.writes},
          {"num_unmap_ops", totals.discards},
          {"num_flush_ops", totals.flushes},
          {"read_latency_ticks", nvmf::estimated_sum(totals.read_latency)},
          {"write_latency_ticks", nvmf::estimated_sum(totals.write_latency)},
          {"queue_depth", totals.outstanding},
          {"num_errors", totals.errors}};
}

}  // namespace

void Daemon::add_bdev_methods() {
  // A bdev of its parameters: those all have, and what `device` makes of the others.
  const auto add_create = [this](const std::string& method, const char* product,
                                 const std::function<std::string(Params&)>& device,
                                 const char* name_prefix = nullptr) {
    dispatcher_.add(method, [=, this](Params& params) -> Result<Json> {
      Bdev bdev;
      bdev.name = name_prefix == nullptr ? params.text("name")
                                         : params.text("name", bdevs_.free_name(name_prefix));
      bdev.uuid = params.text("uuid", "");
      const OpenMode mode =
          params.flag("readonly", false) ? OpenMode::read_only : OpenMode::read_write;
      const std::string uri = device(params);
      BASALT_TRY(params.done());
      if (!bdev.uuid.empty()) {
        BASALT_TRY_ASSIGN([[maybe_unused]] const auto uuid, parse_uuid(bdev.uuid));
      }
      bdev.product = product;
      bdev.method = method;
      bdev.params = params.values();
      bdev.params["name"] = bdev.name;
      const std::string name = bdev.name;
      BASALT_TRY(bdevs_.add(std::move(bdev), uri, mode));
      return Json(name);
    });
  };
  const auto memory = [](const char* scheme) {
    return [scheme](Params& params) {
      const uint64_t block = params.number("block_size", 512, 65536);
      const uint64_t blocks =
          params.number("num_blocks", 1, kMostBytes / std::max(block, uint64_t{1}));
      params.only("physical_block_size", block);
      params.only("optimal_io_boundary", 0);
      params.only("numa_id", -1);
      no_metadata(params);
      Uri uri = make_uri(scheme, format_size(block * blocks));
      uri.set("block", std::to_string(block));
      return uri.to_string();
    };
  };
  const auto file = [](Params& params) {
    const std::string path = params.text("filename");
    const uint64_t block = params.number_or("block_size", 0, 0, 65536);
    params.only("fallocate", false);
    params.only("nowait", false);
    Uri uri = make_uri("file", path);
    if (block != 0) uri.set("block", std::to_string(block));
    return uri.to_string();
  };
  add_create("bdev_malloc_create", kMalloc, memory("ram"), "Malloc");
  add_create("bdev_null_create", kNull, memory("null"));
  add_create("bdev_aio_create", kAio, file);
  add_create("bdev_uring_create", kUring, file);
  // Any device there is, by its URI.
  add_create("bdev_basalt_create", kUri, [](Params& params) { return params.text("uri"); });

  const auto add_delete = [this](const std::string& method, const char* product) {
    dispatcher_.add(method, [=, this](Params& params) -> Result<Json> {
      const std::string name = params.text("name");
      BASALT_TRY(params.done());
      BASALT_TRY_ASSIGN([[maybe_unused]] const Bdev* bdev, find_bdev(name, product));
      BASALT_TRY(delete_bdev(name));
      return Json(true);
    });
  };
  add_delete("bdev_malloc_delete", kMalloc);
  add_delete("bdev_null_delete", kNull);
  add_delete("bdev_aio_delete", kAio);
  add_delete("bdev_uring_delete", kUring);
  add_delete("bdev_basalt_delete", kUri);

  dispatcher_.add("bdev_get_bdevs", [this](Params& params) -> Result<Json> {
    const std::string name = params.text("name", "");
    params.number_or("timeout", 0);  // all that will come has come
    BASALT_TRY(params.done());
    Json list = Json::array();
    if (!name.empty()) {
      BASALT_TRY_ASSIGN(const Bdev* bdev, bdevs_.find(name));
      list.push_back(describe(*bdev));
      return list;
    }
    for (const auto& bdev : bdevs_.all()) list.push_back(describe(*bdev));
    return list;
  });
  dispatcher_.add("bdev_get_iostat", [this](Params& params) -> Result<Json> {
    std::vector<std::string> names = params.texts("names");
    if (const std::string name = params.text("name", ""); !name.empty()) names.push_back(name);
    params.only("per_channel", false);
    params.only("reset_mode", "none");
    BASALT_TRY(params.done());
    for (const std::string& name : names) {
      BASALT_TRY_ASSIGN([[maybe_unused]] const Bdev* bdev, bdevs_.find(name));
    }
    Json list = Json::array();
    for (const auto& bdev : bdevs_.all()) {
      const bool wanted =
          names.empty() || std::find(names.begin(), names.end(), bdev->name) != names.end();
      if (wanted) list.push_back(describe(bdev->name, target_->totals(*bdev->device)));
    }
    return Json{
        {"tick_rate", 1'000'000'000}, {"ticks", context_->clock().now().count()}, {"bdevs", list}};
  });
}

Result<const Bdev*> Daemon::find_bdev(const std::string& name, const std::string& product) const {
  BASALT_TRY_ASSIGN(const Bdev* bdev, bdevs_.find(name));
  if (bdev->product == product) return bdev;
  return error(StatusCode::invalid_argument,
               name + " is a " + bdev->product + ", made by " + bdev->method);
}

Status Daemon::delete_bdev(const std::string& name) {
  while (const Bdev* over = bdevs_.first_over(name)) {
    BASALT_TRY(delete_bdev(std::string(over->name)));
  }
  BASALT_TRY_ASSIGN(const Bdev* bdev, bdevs_.find(name));
  for (const auto& subsystem : target_->subsystems()) {
    const auto table = subsystem->namespaces();
    for (const auto& space : *table) {
      if (space == nullptr || space->device != bdev->device) continue;
      BASALT_TRY(remove_namespace(subsystem->nqn(), space->nsid));
    }
  }
  target_->forget_totals(*bdev->device);
  return bdevs_.remove(name);
}

Json Daemon::bdev_config() const {
  Json calls = Json::array();
  for (const auto& [name, attachment] : attachments_) {
    calls.push_back({{"method", "bdev_nvme_attach_controller"}, {"params", attachment.params}});
  }
  for (const auto& bdev : bdevs_.all()) {
    if (!bdev->controller.empty()) continue;
    calls.push_back({{"method", bdev->method}, {"params", bdev->params}});
  }
  return calls;
}

}  // namespace basalt
