// librocksdb_basalt.so: registers "basalt://" when it is loaded, and does nothing else then. A
// preload is inherited by every child of the tool; whoever never names a basalt:// URI opens no
// device.
#include <basalt/rocksdb.h>

namespace {

[[gnu::constructor]] void register_at_load() { basalt::RegisterRocksdbFactories(); }

}  // namespace
