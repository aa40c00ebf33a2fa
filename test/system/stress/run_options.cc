// See run_options.h.
#include "system/stress/run_options.h"

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <sstream>
#include <string_view>

namespace basalt::stress {
namespace {

constexpr std::array<std::string_view, 5> kSabotageNames = {"none", "state", "write", "batch",
                                                            "flush"};

constexpr const char* kHelp =
    "rocksdb_stress: RocksDB on Basalt, killed again and again, every key verified each time\n"
    "  --minutes M      how long (default 0.35)\n"
    "  --seed S         of operations, options and moments of the kills (default 1)\n"
    "  --directory D    keeps store and expected state there and goes on with what it finds\n"
    "  --file F         the store, if not D/store.img\n"
    "  --size 1G        of the store, when it is made\n"
    "  --checksums 0    of data are left out, when it is made\n"
    "  --families N, --keys N, --threads N   column families, keys in each, threads per child\n"
    "  --kill-after A-B seconds until a child is killed (default 2-8; a third of them much "
    "earlier)\n"
    "  --power 1        power loss on simulated disks, in this process, --threads N at once\n"
    "  --plain 1        on the machine's own file system, to tell RocksDB's own failures apart\n"
    "  --async-reads 1  some reads with async_io (RocksDB 7.8 asserts there now and then)\n"
    "  --verify 1       only verifies every key of the store in D\n"
    "  --sabotage state|write|batch|flush   does wrong on purpose; succeeds if that is noticed\n"
    "                   (flush: with --power 1)\n"
    "  --verbose 1      a line for each child or round\n";

[[noreturn]] void refuse(const std::string& why) {
  std::fprintf(stderr, "rocksdb_stress: %s\n%s", why.c_str(), kHelp);
  std::exit(2);
}

Sabotage sabotage_of(const std::string& name) {
  for (size_t i = 0; i < kSabotageNames.size(); ++i) {
    if (name == kSabotageNames[i]) return static_cast<Sabotage>(i);
  }
  refuse("--sabotage " + name + ": there is none of that name");
}

std::string text_of(double value) {
  std::ostringstream out;
  out << value;
  return out.str();
}

void set(RunOptions& options, const std::string& name, const std::string& value) {
  if (name == "--minutes") {
    options.minutes = std::stod(value);
  } else if (name == "--seed") {
    options.seed = std::stoull(value);
  } else if (name == "--directory") {
    options.directory = value;
  } else if (name == "--file") {
    options.file = value;
  } else if (name == "--size") {
    options.size = value;
  } else if (name == "--checksums") {
    options.checksums = value == "1";
  } else if (name == "--families") {
    options.family_count = static_cast<uint32_t>(std::stoul(value));
  } else if (name == "--keys") {
    options.key_count = static_cast<uint32_t>(std::stoul(value));
  } else if (name == "--threads") {
    options.threads = static_cast<unsigned>(std::stoul(value));
  } else if (name == "--kill-after") {
    options.kill_after_min_s = std::stod(value);
    options.kill_after_max_s = std::stod(value.substr(value.find('-') + 1));
  } else if (name == "--sabotage") {
    options.sabotage = sabotage_of(value);
  } else if (name == "--plain") {
    options.plain = value == "1";
  } else if (name == "--async-reads") {
    options.async_reads = value == "1";
  } else if (name == "--power") {
    options.power = value == "1";
  } else if (name == "--verify") {
    options.verify = value == "1";
  } else if (name == "--child") {
    options.child = value == "1";
  } else if (name == "--verbose") {
    options.verbose = value == "1";
  } else {
    refuse("unknown option " + name);
  }
}

}  // namespace

std::vector<std::string> RunOptions::arguments() const {
  const RunOptions normal;
  std::vector<std::string> result;
  const auto add = [&](const char* name, const std::string& value, bool differs) {
    if (differs) result.insert(result.end(), {name, value});
  };
  add("--seed", std::to_string(seed), true);
  add("--minutes", text_of(minutes), minutes != normal.minutes);
  add("--directory", directory, !directory.empty());
  add("--file", file, !file.empty());
  add("--size", size, size != normal.size);
  add("--checksums", "0", !checksums);
  add("--families", std::to_string(family_count), family_count != normal.family_count);
  add("--keys", std::to_string(key_count), key_count != normal.key_count);
  add("--threads", std::to_string(threads), threads != normal.threads);
  add("--kill-after", text_of(kill_after_min_s) + "-" + text_of(kill_after_max_s),
      kill_after_min_s != normal.kill_after_min_s || kill_after_max_s != normal.kill_after_max_s);
  add("--sabotage", std::string(kSabotageNames[static_cast<size_t>(sabotage)]),
      sabotage != Sabotage::none);
  add("--plain", "1", plain);
  add("--async-reads", "1", async_reads);
  add("--power", "1", power);
  add("--verify", "1", verify);
  add("--child", "1", child);
  add("--verbose", "1", verbose);
  return result;
}

std::string RunOptions::command() const {
  std::string result = program_invocation_name;
  for (const std::string& argument : arguments()) result += " " + argument;
  return result;
}

RunOptions parse(int argc, char** argv) {
  RunOptions options;
  for (int i = 1; i < argc; i += 2) {
    if (std::string_view(argv[i]) == "--help") refuse("its options:");
    if (i + 1 == argc) refuse(std::string(argv[i]) + " wants a value");
    try {
      set(options, argv[i], argv[i + 1]);
    } catch (const std::exception&) {
      refuse(std::string(argv[i]) + " " + argv[i + 1] + ": no number");
    }
  }
  if (options.family_count == 0 || options.key_count < 200 || options.threads == 0) {
    refuse("at least one family, 200 keys and one thread are needed");
  }
  const bool sabotaged = options.sabotage != Sabotage::none;
  if (sabotaged && options.power != (options.sabotage == Sabotage::flush)) {
    refuse("--sabotage flush belongs to --power 1, the others do not");
  }
  if (options.verify && options.directory.empty()) refuse("--verify 1 wants --directory");
  return options;
}

}  // namespace basalt::stress
