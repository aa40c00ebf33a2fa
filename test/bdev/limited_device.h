// limited: a memory device with every restriction a device can have, which checks that the core
// keeps to them.
//
//   limited:64M?align=512&transfer=8&vectors=2&slots=4&cache=1&fua=0&registered=0&ops=few
//
// align: of memory; transfer, zeroes: blocks per native command; vectors: per command; slots:
// commands at once; cache: writes are durable only after a flush or a native FUA; registered:
// memory must be in the MemoryMap; ops=few: reads, writes and flushes only, =all: everything
// natively. It completes commands late and in a random order. A command beyond a limit fails the
// running test.
#pragma once

#include <basalt/device.h>

#include <span>

namespace basalt {

void register_limited_scheme(Context& context);

// What a power cut now would leave of the blocks; `device` was opened with limited:.
std::vector<std::byte> durable_blocks(const Device& device, uint64_t lba, uint64_t count);
// How many commands of each kind the device has seen, over all channels.
uint64_t commands_seen(const Device& device, Op op);
// Changes the size and tells the listeners; removes and returns the device.
void resize_limited(Device& device, uint64_t block_count);
void remove_limited(Device& device);
void return_limited(Device& device);

}  // namespace basalt
