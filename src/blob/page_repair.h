// PageRepair: gives damaged copies of metadata pages the bytes of their good twins.
//
// Only the bad copy is written, at its own place, and only while the other one verifies against its
// parent's PageRef: losing power at any moment leaves the bad copy bad or makes it good. Nothing counts as
// repaired before finish() has flushed and read it back. One thread, on a store nobody else has open.
#pragma once

#include "blob/blob_store.h"
#include "blob/page_store.h"

#include <string>
#include <vector>

namespace basalt::blob {

class PageRepair {
 public:
  PageRepair(PageStore& pages, StoreReport& report) : pages_(pages), report_(report) {}

  // Overwrites copy `copy` of the page with `bytes`, read from the other one. `damage` says what is wrong
  // with it, `structure` what the page belongs to.
  void rewrite(const PageRef& ref, PageKind kind, unsigned copy, const std::byte* bytes,
               const Status& damage, std::string_view structure);
  // Flushes, reads back what was rewritten, and reports each as repaired or as a problem.
  void finish();

 private:
  struct Rewritten {
    PageRef ref;
    PageKind kind;
    unsigned copy;
    std::string damage, done;  // the two halves of the sentence
  };
  PageStore& pages_;
  StoreReport& report_;
  std::vector<Rewritten> rewritten_;
};

}  // namespace basalt::blob
