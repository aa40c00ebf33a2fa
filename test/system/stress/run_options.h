// The command line of the stress driver: one struct, its parser, and its way back to text, which is
// how the parent starts children and how a failure names the command that repeats it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace basalt::stress {

// What the harness does wrong on purpose, to prove that it would be noticed.
enum class Sabotage : uint8_t {
  none,
  state,  // the expected state of one key is falsified
  write,  // some appends to logs are dropped, and reported as done
  batch,  // batches are written key by key
  flush,  // --power: the disk ignores flushes
};

struct RunOptions {
  double minutes = 0.35;
  uint64_t seed = 1;
  std::string directory;      // of the expected state and the store; empty: a temporary one
  std::string file;           // the store, if it is to be elsewhere (a block device)
  std::string size = "1G";    // of the store, when it is made
  bool checksums = true;      // of data, likewise
  uint32_t family_count = 3;  // column families
  uint32_t key_count = 4000;  // per family
  unsigned threads = 4;       // per child
  double kill_after_min_s = 2;
  double kill_after_max_s = 8;
  Sabotage sabotage = Sabotage::none;
  // On the machine's own file system, in `directory`: what fails there as well is RocksDB's own.
  bool plain = false;
  bool async_reads = false;  // ReadOptions::async_io, where assertions of RocksDB 7.8 may fail
  bool power = false;        // power loss on the simulated disk instead
  bool verify = false;       // open, verify every key, close; nothing else
  bool child = false;        // what the parent starts
  bool verbose = false;      // a line for each child

  std::string state_file() const { return directory + "/expected"; }
  std::string store_file() const { return file.empty() ? directory + "/store.img" : file; }
  // The directory of everything the driver makes on the file system under test.
  std::string root() const { return plain ? directory + "/plain" : "/stress"; }
  // `more`: further keys of the URI, "&cache=0".
  std::string uri(const std::string& more) const {
    return "basalt://file:" + store_file() + "?create=" + size + (checksums ? "&checksums=1" : "") +
           more;
  }
  // The options that differ from the defaults, without the program's name.
  std::vector<std::string> arguments() const;
  std::string command() const;
};

// Exits with a list of the options when the command line is wrong.
RunOptions parse(int argc, char** argv);

}  // namespace basalt::stress
