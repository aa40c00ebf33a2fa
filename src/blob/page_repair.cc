#include "blob/page_repair.h"

#include "base/planted.h"

namespace basalt::blob {

void PageRepair::rewrite(const PageRef& ref, PageKind kind, unsigned copy, const std::byte* bytes,
                         const Status& damage, std::string_view structure) {
  const std::string text(damage.message());
  // A device that is gone or busy is not damaged; what it holds is not known.
  if (damage.code() != StatusCode::corruption && damage.code() != StatusCode::io_error) {
    report_.problems.push_back(text + "; not rewritten");
    return;
  }
  if (const Status status = pages_.write_copy(ref, copy, bytes); !status.ok()) {
    report_.problems.push_back(text + "; rewriting it failed: " + std::string(status.message()));
    return;
  }
  rewritten_.push_back({ref, kind, copy, text,
                        "rewrote its " + std::to_string(kBlockBytes) + " B of the " +
                            std::string(structure) + " from copy " + std::to_string(1 - copy) +
                            " (block " + std::to_string(pages_.block_of(ref.page, 1 - copy)) +
                            ")"});
}

void PageRepair::finish() {
  if (rewritten_.empty()) return;
  const Status flushed = planted("repair_not_flushed") ? Status{} : pages_.flush("repair");
  AlignedBuffer bytes(kBlockBytes);
  for (const Rewritten& page : rewritten_) {
    Status status = flushed;
    if (status.ok()) status = pages_.read_copy(page.ref, page.kind, page.copy, bytes.data());
    if (status.ok()) {
      report_.repairs.push_back(page.damage + "; " + page.done);
    } else {
      report_.problems.push_back(page.damage +
                                 "; rewriting it did not help: " + std::string(status.message()));
    }
  }
  rewritten_.clear();
}

}  // namespace basalt::blob
