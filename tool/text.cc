#include "tool/text.h"

#include <array>
#include <cstdio>
#include <ctime>

namespace basalt::tool {

std::string size_text(uint64_t bytes) {
  if (bytes < 1024) return std::to_string(bytes) + " B";
  constexpr std::array kUnits = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  double value = static_cast<double>(bytes) / 1024;
  size_t unit = 0;
  while (value >= 1024 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.1f %s", value, kUnits[unit]);
  return text.data();
}

std::string time_text(Duration since_1970) {
  const time_t seconds = std::chrono::duration_cast<std::chrono::seconds>(since_1970).count();
  tm parts{};
  localtime_r(&seconds, &parts);
  std::array<char, 32> text{};
  std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M:%S", &parts);
  return text.data();
}

std::string grouped(uint64_t number) {
  std::string digits = std::to_string(number);
  for (size_t i = digits.size(); i > 3; i -= 3) digits.insert(i - 3, " ");
  return digits;
}

CLI::Option* add_size_option(CLI::App& command, const std::string& name, uint64_t& bytes,
                             const std::string& help) {
  return command.add_option(name, bytes, help)->transform(CLI::AsSizeValue(false));
}

}  // namespace basalt::tool
