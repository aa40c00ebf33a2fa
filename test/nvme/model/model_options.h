// What a ControllerModel is like: limits, optional commands, namespaces.
//
// The defaults are those of a middling SSD that can do everything the model can. Numbers are counts,
// not the "minus one" of the wire. Identify fields: NVMe base 2.0 §5.17.2.1 and NVM command set 1.0
// §4.1.5.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "wire/nvme/identify.h"

namespace basalt::nvme::model {

// null: reads leave the host's memory as it is, writes are dropped, compares agree. For benchmarks.
enum class Backing : uint8_t { memory, null };

struct NamespaceOptions {
  uint64_t block_count = 65536;
  uint32_t block_size = 512;  // or 4096; Format NVM changes it
  Backing backing = Backing::memory;
  bool active = true;
  uint16_t optimal_io_boundary = 0;  // NOIOB, blocks; 0: none
  uint32_t atomic_write_blocks = 0;  // NAWUN and NAWUPF; 0: the controller's
  uint32_t atomic_boundary_blocks = 0;
  // Type of protection information, 8 B a block, which the model makes and checks itself (PRACT) and hands to nobody.
  uint8_t protection_type = 0;
};

// How the model finds out about shadow doorbells, once Doorbell Buffer Config has been done.
enum class ShadowDoorbells : uint8_t {
  absent,    // the command is not supported
  polled,    // looks at the shadow in each step and asks for no doorbell
  on_event,  // looks only after the doorbell that EventIdx asked for: a host that forgets it hangs
};

struct ModelOptions {
  std::vector<NamespaceOptions> namespaces{NamespaceOptions{}};  // nsid 1, 2, …

  // CAP
  uint32_t max_queue_entries = 1024;
  uint8_t doorbell_stride_shift = 0;  // DSTRD: 4 << this
  uint8_t ready_timeout_halves = 4;   // TO, units of 500 ms
  uint8_t min_page_shift = 0;         // MPSMIN: 4096 << this
  uint8_t max_page_shift = 4;
  bool subsystem_reset = true;    // NSSRS
  bool more_command_sets = true;  // CSS bit 6: CC.CSS may be 110b
  // How many reads of CSTS still show the old RDY or SHST before it follows CC.
  unsigned ready_polls = 1;

  // Queues and interrupts
  uint16_t queue_pairs = 16;        // I/O queue pairs that Set Features grants at most
  uint16_t interrupt_vectors = 17;  // 0: none, queues are created without

  // Identify controller
  std::string serial = "BASALT0001";
  std::string model = "Basalt controller model";
  std::string firmware = "1.0";
  std::string subsystem_nqn =
      "nqn.2014-08.org.nvmexpress:uuid:6a1f3b52-0000-4000-8000-ba5a17000001";
  uint8_t max_transfer_shift = 5;                // MDTS: 128 KiB with pages of 4 KiB; 0: no limit
  std::array<uint16_t, 3> retry_delay{1, 2, 3};  // CRDT1 … 3, units of 100 ms
  uint8_t abort_limit = 4;
  uint8_t async_event_limit = 4;
  uint32_t atomic_write_blocks = 256;  // AWUN and AWUPF
  uint16_t optional_commands = kSupportsCompare | kSupportsWriteUncorrectable |
                               kSupportsDatasetManagement | kSupportsWriteZeroes | kSupportsVerify |
                               kSupportsCopy;  // ONCS
  bool fused_compare_and_write = true;
  bool format = true;
  bool sgl = false;             // SGLS: data block, segments, bit bucket; no alignment asked for
  bool volatile_cache = false;  // VWC: unflushed writes are lost by power_cut()
  ShadowDoorbells shadow_doorbells = ShadowDoorbells::absent;
  // Copy: the longest range, all ranges together (blocks), how many ranges.
  uint16_t copy_range_blocks = 128;
  uint32_t copy_blocks = 256;
  uint8_t copy_ranges = 16;

  bool log_commands = false;  // keep every command for commands()
};

}  // namespace basalt::nvme::model
