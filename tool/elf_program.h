// What the dynamic loader would make of a program, read from the file itself: enough to tell
// whether LD_PRELOAD reaches it. Knows 64-bit little-endian ELF, which is what Debian's tools are.
#pragma once

#include <basalt/status.h>

#include <string>
#include <vector>

namespace basalt::tool {

struct ElfProgram {
  bool dynamic = false;             // has a program interpreter; static programs ignore LD_PRELOAD
  std::vector<std::string> needed;  // sonames of the libraries it links
};

// invalid_argument when the file is not a program of that kind (a script, another machine's).
Result<ElfProgram> read_elf(const std::string& path);

}  // namespace basalt::tool
