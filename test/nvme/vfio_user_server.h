// VfioUserServer: serves a device over vfio-user, for tests and benchmarks of the client.
//
// One thread, one client at a time; the next is accepted when the last has gone. The device is a ServedDevice:
// registers by messages, doorbells in a file shared with the client (or by messages), the client's memory mapped
// here, eventfds for interrupts. What it does between messages (processing queues) is its own business, on
// its own thread. Replies can be spoilt before they are sent, held back, or answered by hanging up.
// Thread rules: everything but the ServedDevice's calls from any thread; those come from the server's.
// vfio-user specification 0.9.
#pragma once

#include <basalt/status.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/sync.h"
#include "base/unique_fd.h"
#include "nvme/vfio_user/protocol.h"

namespace basalt::nvme {

class ServedDevice {
 public:
  virtual ~ServedDevice() = default;

  // ---- BAR 0 by messages: `bytes` is 4 or 8, and `offset` a multiple of it.
  virtual uint64_t bar0_bytes() const { return 0x2000; }
  virtual uint64_t read_register(uint32_t offset, uint32_t bytes) = 0;
  virtual void write_register(uint32_t offset, uint32_t bytes, uint64_t value) = 0;
  // A file that stays open, with the doorbells where BAR 0 has them: from kFirstDoorbell to the end of the BAR.
  // -1: doorbells are written by messages.
  virtual int doorbell_fd() const { return -1; }

  // ---- DMA: the client's memory, mapped here until unmap().
  virtual Status map(uint64_t iova, std::span<std::byte> memory) = 0;
  virtual Status unmap(uint64_t iova, size_t bytes) = 0;

  // ---- Interrupts and power
  virtual uint16_t interrupt_count() const { return 0; }
  // -1: off. The descriptor is the server's, and good until the next call for this vector.
  virtual void set_interrupt(uint16_t vector, int event_fd) = 0;
  virtual void set_bus_master(bool on) = 0;
  virtual void reset() = 0;
};

struct VfioUserServerOptions {
  uint32_t pci_class = 0x01'08'02;
  bool resets = true;
  bool interrupts_set_together = false;
  bool without_files = false;  // says that doorbells are shared, and sends no file
  // The capabilities' text, in the VERSION reply.
  std::string capabilities = R"({"max_msg_fds":8,"max_data_xfer_size":1048576,"pgsizes":4096})";
  // Sees each whole reply before it is sent, and may change it.
  enum class Fate : uint8_t { send, hold_back, hang_up };
  std::function<Fate(vfio_user::Command, std::vector<std::byte>& reply)> spoil = nullptr;
};

class VfioUserServer {
 public:
  static Result<std::unique_ptr<VfioUserServer>> create(std::string_view socket_path,
                                                        ServedDevice& device,
                                                        VfioUserServerOptions options = {});
  // Hangs up, and removes the socket.
  ~VfioUserServer();
  VfioUserServer(const VfioUserServer&) = delete;
  VfioUserServer& operator=(const VfioUserServer&) = delete;

  void hang_up();
  // How many requests of this kind came.
  unsigned requests(vfio_user::Command command) const;
  // What the client has answered to requests of the server, which `spoil` may have put before a reply.
  std::vector<vfio_user::Header> answers() const;

 private:
  struct Request {
    vfio_user::Header header;
    std::vector<std::byte> payload;
    std::vector<UniqueFd> fds;
  };
  struct Mapping {
    std::byte* base = nullptr;
    size_t bytes = 0;
  };
  using Payload = std::vector<std::byte>;

  VfioUserServer(std::string path, ServedDevice& device, VfioUserServerOptions options);
  void run();
  void serve(int client);
  bool receive(int client, Request& request);
  bool receive_bytes(int client, std::span<std::byte> out, std::vector<UniqueFd>& fds);
  bool wait_readable(int fd);
  bool reply(int client, Request& request);
  // These answer an errno, or 0 with the reply's payload and descriptor in `out` and `fd`.
  int handle(Request& request, Payload& out, int& fd);
  int dma_map(const Request& request);
  int dma_unmap(const Request& request, Payload& out);
  int region_info(const Request& request, Payload& out, int& fd);
  int set_interrupts(Request& request);
  int access_region(const Request& request, bool write, Payload& out);
  int access_register(uint64_t offset, std::span<std::byte> data, bool write);
  int access_config(uint64_t offset, std::span<std::byte> data, bool write);
  void reset_config();
  void forget_client();

  const std::string path_;
  ServedDevice& device_;
  const VfioUserServerOptions options_;
  UniqueFd listener_;
  UniqueFd wake_;  // an eventfd
  std::atomic<bool> stop_{false};
  std::atomic<bool> hang_up_{false};

  // The server thread's.
  std::array<std::byte, 256> config_{};
  std::map<uint64_t, Mapping> mappings_;     // by iova
  std::map<uint16_t, UniqueFd> interrupts_;  // by vector

  mutable Mutex mutex_;  // protects what follows
  std::map<vfio_user::Command, unsigned> requests_;
  std::vector<vfio_user::Header> answers_;

  Thread thread_;  // last: it uses the others
};

}  // namespace basalt::nvme
