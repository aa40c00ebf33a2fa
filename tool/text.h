// Numbers and times as people read them, and sizes as they write them.
#pragma once

#include <basalt/context.h>

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>

namespace basalt::tool {

// "512 B", "64.0 KiB", "1.5 GiB"
std::string size_text(uint64_t bytes);
// "2026-03-09 14:05:59", local time
std::string time_text(Duration since_1970);
// 1234567 → "1 234 567"
std::string grouped(uint64_t number);

// Reads "4096", "64K", "8G": K, M, G, T are powers of 1024, as in device URIs.
CLI::Option* add_size_option(CLI::App& command, const std::string& name, uint64_t& bytes,
                             const std::string& help);

}  // namespace basalt::tool
