// BenchStore: a context, a device and a store on it, for the blob benchmarks. On a RAM device,
// which completes at once, the store's own work is measured. One thread makes and destroys it.
#pragma once

#include <basalt/device.h>
#include <basalt/devices.h>

#include "blob/blob_store.h"
#include "bench/must.h"

#include <memory>
#include <string>

namespace basalt::blob {

struct BenchStore {
  explicit BenchStore(const std::string& uri, FormatOptions format = {}) {
    format.force = true;
    context = must(Context::create());
    register_standard_schemes(*context);
    device = must(open_device(*context, uri));
    must(BlobStore::format(*context, *device, format));
    open();
  }
  ~BenchStore() { leave(); }
  void open() { store = must(BlobStore::open(*context, *device, {})); }
  // As the death of the process would.
  void leave() {
    if (store != nullptr) store->abandon();
    store.reset();
  }
  std::unique_ptr<Context> context;
  std::unique_ptr<Device> device;
  std::unique_ptr<BlobStore> store;
};

}  // namespace basalt::blob
