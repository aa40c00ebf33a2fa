// What a command costs the host: random 4 KiB reads of a null namespace through a queue pair. The controller is the
// model of test/nvme, in a thread of its own, reached within the process or over a vfio-user socket with shared
// doorbells and memory. Arguments: queue depth, and 1 for vfio-user. Reads per second are bounded by the slower of
// the two sides.
#include <basalt/context.h>
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "mem/arena.h"
#include "nvme/commands.h"
#include "nvme/controller.h"
#include "nvme/model/controller_model.h"
#include "nvme/model/model_function.h"
#include "nvme/served_model.h"
#include "nvme/vfio_user/vfio_user_function.h"

namespace basalt::nvme {
namespace {

struct Reader {
  Request request;
  iovec piece{};
  QueuePair* queue = nullptr;
  uint64_t* count = nullptr;
  uint64_t random = 0;
};

// The model behind a socket, for as long as this is there.
class Socket {
 public:
  explicit Socket(model::ControllerModel& model) : served_(model) {
    std::string path = std::filesystem::temp_directory_path() / "basalt-nvme-XXXXXX";
    directory_ = mkdtemp(path.data());
    server_ = std::move(*VfioUserServer::create(directory_ + "/socket", served_));
  }
  ~Socket() {
    server_.reset();
    std::filesystem::remove_all(directory_);
  }
  Result<std::unique_ptr<PciFunction>> connect() {
    return VfioUserFunction::open(directory_ + "/socket");
  }

 private:
  std::string directory_;
  ServedModel served_;
  std::unique_ptr<VfioUserServer> server_;
};

void benchmark_reads(benchmark::State& state) {
  const auto depth = static_cast<uint16_t>(state.range(0));
  constexpr uint64_t kBlocks = uint64_t{1} << 28;
  model::ControllerModel model(
      {.namespaces = {{.block_count = kBlocks * 8, .backing = model::Backing::null}}});
  auto context = std::move(*Context::create());
  auto arena = std::move(*Arena::create(
      {.bytes = size_t{depth} * 4096, .hugepages = Hugepages::no, .map = &context->memory()}));
  const model::ModelThread thread(model);
  std::unique_ptr<Socket> socket;
  Result<std::unique_ptr<PciFunction>> function;
  if (state.range(1) == 1) {
    socket = std::make_unique<Socket>(model);
    function = socket->connect();
  } else {
    function = std::make_unique<model::ModelFunction>(model);
  }
  if (!function) return state.SkipWithError(function.error().to_string().c_str());
  auto opened =
      Controller::open({context->memory(), context->clock(), context->log()}, std::move(*function),
                       {.queue_depth = depth, .queue_pairs = 1, .interrupts = false});
  if (!opened) return state.SkipWithError(opened.error().to_string().c_str());
  auto pair = std::move(*(*opened)->open_queue_pair());
  uint64_t count = 0;
  std::vector<Reader> readers(depth);
  for (uint16_t i = 0; i < depth; ++i) {
    Reader& reader = readers[i];
    reader.piece = {arena->memory().data() + size_t{i} * 4096, 4096};
    reader.queue = pair.get();
    reader.count = &count;
    reader.random = i * 0x9e3779b97f4a7c15;
    reader.request.data = {&reader.piece, 1};
    reader.request.user = &reader;
    reader.request.done = [](Request& request) {
      auto& self = *static_cast<Reader*>(request.user);
      ++*self.count;
      self.random = self.random * 6364136223846793005 + 1442695040888963407;
      request.command = read_command(1, (self.random >> 20) % kBlocks * 8, 8);
      self.queue->submit(request);
    };
    reader.request.command = read_command(1, i * 8, 8);
    pair->submit(reader.request);
  }
  const uint64_t before = count;
  for (auto _ : state) {
    const uint64_t target = count + 1000;
    while (count < target) pair->poll();
  }
  state.SetItemsProcessed(static_cast<int64_t>(count - before));
  for (Reader& reader : readers) reader.request.done = [](Request&) {};
  while (pair->outstanding() > 0) pair->poll();
}
BENCHMARK(benchmark_reads)
    ->Name("nvme_reads")
    ->ArgNames({"depth", "vfio_user"})
    ->ArgsProduct({{1, 8, 32, 128}, {0, 1}})
    ->UseRealTime();

}  // namespace
}  // namespace basalt::nvme

BENCHMARK_MAIN();
