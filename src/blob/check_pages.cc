#include "blob/check_pages.h"

#include "blob/key_names.h"
#include "blob/page_repair.h"

#include <algorithm>
#include <cstring>

namespace basalt::blob {
namespace {

class PageChecker {
 public:
  PageChecker(BlobStore::Impl& store, unsigned slot, const CheckOptions& options,
              StoreReport& report)
      : store_(store),
        name_("superblock " + std::to_string(slot)),
        options_(options),
        report_(report),
        repair_(store.pages, report),
        reachable_(store.pages.page_count()) {
    found_.pages.resize(reachable_.size());
    found_.space_pages.resize(reachable_.size());
  }

  PageFindings run() {
    const Status loaded = store_.load();  // without the map the trees can be read all the same
    const Superblock& sb = store_.superblock;
    for (unsigned tree = 0; tree < kTreeCount; ++tree) {
      if (sb.trees[tree].page != kNoPage) {
        part_ = part_of(static_cast<TreeId>(tree));
        walk(sb.trees[tree], static_cast<TreeId>(tree), "", nullptr);
      }
    }
    part_ = kPageMapPart;
    walk_map(sb.page_map);
    repair_.finish();
    if (!found_.complete()) return std::move(found_);
    if (loaded.ok()) {
      compare_with_map();
    } else {
      problem(std::string(loaded.message()));
    }
    return std::move(found_);
  }

 private:
  void problem(const std::string& text) {
    found_.lost |= part_;
    report_.problems.push_back(name_ + ": " + text);
  }

  // Reads both copies; false when neither can be used or the page was met before. `structure` says what
  // the page is part of, `lost()` what cannot be read without it.
  template <typename Lost>
  bool read(const PageRef& ref, PageKind kind, std::byte* bytes, std::string_view structure,
            Lost&& lost) {
    if (ref.page >= reachable_.size()) {
      problem("metadata page " + std::to_string(ref.page) + " is outside the region");
      return false;
    }
    if (reachable_[ref.page]) {
      problem("metadata page " + std::to_string(ref.page) + " is reached twice");
      return false;
    }
    reachable_[ref.page] = true;
    if (part_ != kPageMapPart) {
      (part_ == part_of(TreeId::space) ? found_.space_pages : found_.pages)[ref.page] = true;
    }
    show_progress();
    AlignedBuffer scratch(kBlockBytes);
    const Status second = store_.pages.read_copy(ref, kind, 1, scratch.data());
    const Status first = store_.pages.read_copy(ref, kind, 0, bytes);
    if (!first.ok() && !second.ok()) {
      problem("both copies damaged: " + std::string(first.message()) + "; " +
              std::string(second.message()) + "; " + lost());
      return false;
    }
    if (!first.ok()) std::memcpy(bytes, scratch.data(), kBlockBytes);
    const Status& bad = first.ok() ? second : first;
    if (bad.ok()) return true;
    if (options_.mode == CheckMode::repair) {
      repair_.rewrite(ref, kind, first.ok() ? 1 : 0, bytes, bad, structure);
    } else {
      report_.notes.push_back(std::string(bad.message()) + "; the other copy is good");
    }
    return true;
  }

  void show_progress() {
    ++report_.metadata_pages;
    if (!options_.progress || report_.metadata_pages % 256 != 0) return;
    const PageStore& pages = store_.pages;
    const auto used = static_cast<double>(pages.page_count() - pages.map().free_count());
    options_.progress(std::min(0.9, static_cast<double>(report_.metadata_pages) / (2 * used + 1)));
  }

  void walk(const PageRef& ref, TreeId tree, std::string_view low, const std::string* high) {
    AlignedBuffer bytes(kBlockBytes);
    const auto lost = [&] {
      return describe_keys(tree, low, high, options_.name_catalog_key) + " cannot be read";
    };
    if (!read(ref, PageKind::tree_node, bytes.data(), tree_name(tree), lost)) return;
    const Node node(bytes.data());
    const std::string page = "metadata page " + std::to_string(ref.page);
    if (node.header().tree != static_cast<uint8_t>(tree) || node.level() != ref.level ||
        !node.well_formed()) {
      return problem(page + ": not a well-formed node of tree " +
                     std::to_string(static_cast<int>(tree)));
    }
    const unsigned first_real_key = node.level() > 0 ? 1 : 0;
    if (node.count() > first_real_key) {
      if (node.key(first_real_key) < low || (high && node.key(node.count() - 1) >= *high)) {
        problem(page + ": keys outside the bounds its parent gives");
      }
    }
    if (node.level() == 0) return;
    for (unsigned i = 0; i < node.count(); ++i) {
      const std::string_view child_low = i == 0 ? low : node.key(i);
      const std::string child_high(i + 1 < node.count() ? node.key(i + 1) : "");
      const PageRef child = node.child(i);
      if (child.level + 1 != node.level()) {
        problem(page + ": child " + std::to_string(i) + " is of level " +
                std::to_string(child.level));
        continue;
      }
      walk(child, tree, std::string(child_low), i + 1 < node.count() ? &child_high : high);
    }
  }

  bool read_map(const PageRef& ref, PageKind kind, std::byte* bytes) {
    return read(ref, kind, bytes, "page map", [] {
      return "which metadata pages are in use cannot be read, and without that the store cannot be "
             "opened from this superblock";
    });
  }

  // load() judges what the map says; here both copies of its pages are read.
  void walk_map(const PageRef& root) {
    AlignedBuffer bytes(kBlockBytes);
    if (!read_map(root, PageKind::page_map_index, bytes.data())) return;
    PageHeader header;
    std::memcpy(&header, bytes.data(), sizeof header);
    const unsigned count = std::min<unsigned>(header.cell_count, kRefsPerMapIndex);
    for (unsigned i = 0; i < count; ++i) {
      PageRef child;
      std::memcpy(&child, bytes.data() + sizeof header + i * sizeof child, sizeof child);
      if (header.level > 1) {
        walk_map(child);
      } else {
        AlignedBuffer leaf(kBlockBytes);
        (void)read_map(child, PageKind::page_map_leaf, leaf.data());
      }
    }
  }

  void compare_with_map() {
    PageMap& map = store_.pages.map();
    map.flipped();  // what is leaving is not reachable and becomes free
    uint64_t lost = 0;
    for (uint64_t page = 0; page < reachable_.size(); ++page) {
      if (reachable_[page] && !map.used(page)) {
        problem("metadata page " + std::to_string(page) + " is in use but free in the page map");
      }
      lost += !reachable_[page] && map.used(page);
    }
    if (lost > 0) {
      problem(std::to_string(lost) + " metadata pages are used in the page map but not reachable");
    }
  }

  BlobStore::Impl& store_;
  const std::string name_;
  const CheckOptions& options_;
  StoreReport& report_;
  PageRepair repair_;
  unsigned part_ = 0;  // at hand
  PageFindings found_;
  std::vector<bool> reachable_;
};

}  // namespace

PageFindings check_pages(BlobStore::Impl& store, unsigned slot, const CheckOptions& options,
                         StoreReport& report) {
  return PageChecker(store, slot, options, report).run();
}

}  // namespace basalt::blob
