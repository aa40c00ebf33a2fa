#include "tool/elf_program.h"

#include <elf.h>

#include <bit>
#include <cstring>
#include <fstream>
#include <optional>
#include <span>

#include "base/try.h"

namespace basalt::tool {
namespace {

static_assert(std::endian::native == std::endian::little, "read_elf() reads native structures");

// Bytes of the file; every access is checked, the file may be anything.
class Image {
 public:
  explicit Image(std::ifstream& file) : file_(file) {}

  template <typename T>
  std::optional<T> at(uint64_t offset) {
    T value;
    file_.clear();
    if (!file_.seekg(static_cast<std::streamoff>(offset))) return std::nullopt;
    if (!file_.read(reinterpret_cast<char*>(&value), sizeof value)) return std::nullopt;
    return value;
  }

  // The zero-terminated string at `offset`, at most 255 bytes of it.
  std::string text(uint64_t offset) {
    std::string out;
    for (char c; out.size() < 255; out.push_back(c)) {
      const auto next = at<char>(offset + out.size());
      if (!next || *next == 0) break;
      c = *next;
    }
    return out;
  }

 private:
  std::ifstream& file_;
};

// Where in the file the byte mapped at `address` lies.
std::optional<uint64_t> file_offset(std::span<const Elf64_Phdr> segments, uint64_t address) {
  for (const Elf64_Phdr& segment : segments) {
    if (segment.p_type == PT_LOAD && address >= segment.p_vaddr &&
        address - segment.p_vaddr < segment.p_filesz) {
      return address - segment.p_vaddr + segment.p_offset;
    }
  }
  return std::nullopt;
}

std::vector<std::string> needed_libraries(Image& image, std::span<const Elf64_Phdr> segments,
                                          const Elf64_Phdr& dynamic) {
  std::vector<uint64_t> names;
  uint64_t string_table = 0;
  constexpr uint64_t kMaxEntries = 4096;
  const uint64_t count = std::min<uint64_t>(dynamic.p_filesz / sizeof(Elf64_Dyn), kMaxEntries);
  for (uint64_t i = 0; i < count; ++i) {
    const auto entry = image.at<Elf64_Dyn>(dynamic.p_offset + i * sizeof(Elf64_Dyn));
    if (!entry || entry->d_tag == DT_NULL) break;
    if (entry->d_tag == DT_NEEDED) names.push_back(entry->d_un.d_val);
    if (entry->d_tag == DT_STRTAB) string_table = entry->d_un.d_ptr;
  }
  std::vector<std::string> libraries;
  const auto strings = file_offset(segments, string_table);
  if (!strings) return libraries;
  for (uint64_t name : names) libraries.push_back(image.text(*strings + name));
  return libraries;
}

}  // namespace

Result<ElfProgram> read_elf(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return error(StatusCode::permission_denied, path + " cannot be read");
  Image image(file);
  const auto header = image.at<Elf64_Ehdr>(0);
  if (!header || std::memcmp(header->e_ident, ELFMAG, SELFMAG) != 0) {
    return error(StatusCode::invalid_argument,
                 path + " is not an ELF program (a script?); give the program itself");
  }
  if (header->e_ident[EI_CLASS] != ELFCLASS64 || header->e_ident[EI_DATA] != ELFDATA2LSB ||
      header->e_phentsize != sizeof(Elf64_Phdr)) {
    return error(StatusCode::invalid_argument, path + " is not a 64-bit program of this machine");
  }
  std::vector<Elf64_Phdr> segments;
  for (unsigned i = 0; i < header->e_phnum; ++i) {
    const auto segment = image.at<Elf64_Phdr>(header->e_phoff + uint64_t{i} * sizeof(Elf64_Phdr));
    if (!segment) return error(StatusCode::invalid_argument, path + " is cut short");
    segments.push_back(*segment);
  }
  ElfProgram program;
  for (const Elf64_Phdr& segment : segments) {
    if (segment.p_type == PT_INTERP) program.dynamic = true;
    if (segment.p_type == PT_DYNAMIC) program.needed = needed_libraries(image, segments, segment);
  }
  return program;
}

}  // namespace basalt::tool
