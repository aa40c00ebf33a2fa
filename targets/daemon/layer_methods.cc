// Devices over other bdevs: made slow, made to fail.
#include <algorithm>

#include "base/try.h"
#include "bdev/delay/delay_device.h"
#include "bdev/error/error_device.h"
#include "bdev/uri.h"
#include "targets/daemon/daemon.h"
#include "targets/daemon/uuid.h"

namespace basalt {

using rpc::Json;
using rpc::Params;

namespace {

constexpr const char* kDelay = "delay";
constexpr const char* kError = "Error Injection Disk";
constexpr uint64_t kMostUs = DelayDevice::kMaxLatency / std::chrono::microseconds(1);

struct LatencyName {
  const char* type;       // as an update names it
  const char* parameter;  // as creation does
  DelayKind kind;
};
constexpr LatencyName kLatencyNames[] = {
    {"avg_read", "avg_read_latency", DelayKind::read},
    {"p99_read", "p99_read_latency", DelayKind::read_p99},
    {"avg_write", "avg_write_latency", DelayKind::write},
    {"p99_write", "p99_write_latency", DelayKind::write_p99},
};

// SPDK's "unmap" is a discard; write_zeroes and those after it are ours.
struct FailureName {
  const char* name;
  Op op;
};
constexpr FailureName kFailureNames[] = {
    {"read", Op::read},
    {"write", Op::write},
    {"unmap", Op::discard},
    {"flush", Op::flush},
    {"write_zeroes", Op::write_zeroes},
    {"compare", Op::compare},
    {"compare_and_write", Op::compare_and_write},
    {"copy", Op::copy},
};

// What can change while it is open is not part of it: hosts know a namespace by its device's URI.
Result<std::string> layer_uri(const char* scheme, const Device& base) {
  BASALT_TRY_ASSIGN(Uri below, parse_uri(base.info().uri));
  Uri uri;
  uri.scheme = scheme;
  uri.children.push_back(std::move(below));
  return uri.to_string();
}

Status check_uuid(const std::string& uuid) {
  if (uuid.empty()) return {};
  const auto parsed = parse_uuid(uuid);
  return parsed ? Status() : parsed.error();
}

}  // namespace

void Daemon::add_layer_methods() {
  dispatcher_.add("bdev_delay_create", [this](Params& params) -> Result<Json> {
    Bdev bdev;
    bdev.name = params.text("name");
    bdev.base = params.text("base_bdev_name");
    bdev.uuid = params.text("uuid", "");
    std::array<uint64_t, kDelayKinds> latencies_us{};
    for (const LatencyName& known : kLatencyNames) {
      latencies_us[static_cast<size_t>(known.kind)] = params.number(known.parameter, 0, kMostUs);
    }
    BASALT_TRY(params.done());
    BASALT_TRY(check_uuid(bdev.uuid));
    BASALT_TRY(bdevs_.check_free(bdev.name));
    BASALT_TRY_ASSIGN(const Bdev* base, bdevs_.find(bdev.base));
    BASALT_TRY_ASSIGN(const std::string uri, layer_uri("delay", *base->device));
    BASALT_TRY_ASSIGN(std::shared_ptr<DelayDevice> device,
                      DelayDevice::create(*context_, base->device, uri));
    for (const LatencyName& known : kLatencyNames) {
      device->set_latency(known.kind,
                          std::chrono::microseconds(latencies_us[static_cast<size_t>(known.kind)]));
    }
    bdev.device = std::move(device);
    bdev.product = kDelay;
    bdev.method = "bdev_delay_create";
    bdev.params = params.values();
    const std::string name = bdev.name;
    BASALT_TRY(bdevs_.add(std::move(bdev)));
    return Json(name);
  });
  dispatcher_.add("bdev_delay_update_latency", [this](Params& params) -> Result<Json> {
    const std::string name = params.text("delay_bdev_name"), type = params.text("latency_type");
    const uint64_t latency_us = params.number("latency_us", 0, kMostUs);
    BASALT_TRY(params.done());
    BASALT_TRY_ASSIGN(const Bdev* bdev, find_bdev(name, kDelay));
    for (const LatencyName& known : kLatencyNames) {
      if (type != known.type) continue;
      static_cast<DelayDevice&>(*bdev->device)
          .set_latency(known.kind, std::chrono::microseconds(latency_us));
      Json made_with = bdev->params;
      made_with[known.parameter] = latency_us;
      bdevs_.set_params(name, std::move(made_with));
      return Json(true);
    }
    return error(StatusCode::invalid_argument,
                 "latency_type " + type + ": there are avg_read, p99_read, avg_write, p99_write");
  });

  dispatcher_.add("bdev_error_create", [this](Params& params) -> Result<Json> {
    Bdev bdev;
    bdev.base = params.text("base_name");
    bdev.uuid = params.text("uuid", "");
    bdev.name = "EE_" + bdev.base;
    BASALT_TRY(params.done());
    BASALT_TRY(check_uuid(bdev.uuid));
    BASALT_TRY(bdevs_.check_free(bdev.name));
    BASALT_TRY_ASSIGN(const Bdev* base, bdevs_.find(bdev.base));
    BASALT_TRY_ASSIGN(const std::string uri, layer_uri("error", *base->device));
    BASALT_TRY_ASSIGN(bdev.device, ErrorDevice::create(*context_, base->device, uri));
    bdev.product = kError;
    bdev.method = "bdev_error_create";
    bdev.params = params.values();
    BASALT_TRY(bdevs_.add(std::move(bdev)));
    return Json(true);
  });
  dispatcher_.add("bdev_error_inject_error", [this](Params& params) -> Result<Json> {
    const std::string name = params.text("name"), io_type = params.text("io_type");
    const std::string error_type = params.text("error_type", "failure");
    const auto count = static_cast<uint32_t>(params.number_or("num", 1, 0, UINT32_MAX));
    params.only("queue_depth", 0);
    BASALT_TRY(params.done());
    BASALT_TRY_ASSIGN(const Bdev* bdev, find_bdev(name, kError));
    if (error_type != "failure") {
      return error(StatusCode::unsupported,
                   "error_type " + error_type +
                       ": there is failure; a device never keeps a command for good, and "
                       "bdev_delay_create makes one that keeps them long");
    }
    auto& device = static_cast<ErrorDevice&>(*bdev->device);
    const bool all = io_type == "all", clear = io_type == "clear";
    bool known_type = false;
    for (const FailureName& known : kFailureNames) {
      if (!all && !clear && io_type != known.name) continue;
      device.fail(known.op, clear ? 0 : count);
      known_type = true;
    }
    if (known_type) return Json(true);
    return error(StatusCode::invalid_argument,
                 "io_type " + io_type +
                     ": there are read, write, unmap, flush, write_zeroes, compare, "
                     "compare_and_write, copy, all and clear");
  });

  const auto add_delete = [this](const std::string& method, const char* product) {
    dispatcher_.add(method, [=, this](Params& params) -> Result<Json> {
      const std::string name = params.text("name");
      BASALT_TRY(params.done());
      BASALT_TRY_ASSIGN([[maybe_unused]] const Bdev* bdev, find_bdev(name, product));
      BASALT_TRY(delete_bdev(name));
      return Json(true);
    });
  };
  add_delete("bdev_delay_delete", kDelay);
  add_delete("bdev_error_delete", kError);
}

}  // namespace basalt
