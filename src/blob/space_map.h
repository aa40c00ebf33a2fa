// SpaceMap: the free clusters, as runs in a tree, and the choice among them.
//
// The tree (saved, key be64 first cluster → le64 count) holds every cluster that no committed mapping
// uses. Clusters in `excluded` are free in the tree but not to be given out: reserved for transactions
// not yet applied, or freed by transactions that are not durable or still read. Not synchronised: the
// store's metadata lock guards it.
#pragma once

#include "blob/range_set.h"
#include "blob/transaction.h"
#include "blob/tree.h"

#include <vector>

namespace basalt::blob {

class SpaceMap {
 public:
  explicit SpaceMap(PageStore& pages) : tree_(pages, TreeId::space) {}

  Tree& tree() { return tree_; }
  const Tree& tree() const { return tree_; }
  uint64_t free_clusters() const { return free_; }
  void set_free_clusters(uint64_t count) { free_ = count; }
  uint64_t available() const { return free_ - excluded_.total(); }
  RangeSet& excluded() { return excluded_; }

  // Reserves `count` clusters in as few runs as a bounded search finds, the first at `hint` if that
  // is free, and leaves `leave` clusters to others. no_space reserves nothing.
  Result<std::vector<Transaction::Reservation>> reserve(uint64_t count, uint64_t hint,
                                                        uint64_t leave = 0);

  // Whether the tree holds all of them.
  Result<bool> all_free(uint64_t first, uint64_t count);
  // Moves clusters out of and into the tree; corruption if they were not free (not used).
  Status take(uint64_t first, uint64_t count);
  Status give(uint64_t first, uint64_t count);

 private:
  struct Run {
    uint64_t first = 0;
    uint64_t count = 0;
    uint64_t end() const { return first + count; }
  };
  Result<Run> run_covering(uint64_t cluster);
  // The first usable piece in [run.first, run.end()) at least `wanted` long, else the longest.
  Run usable(Run run, uint64_t wanted) const;
  Result<Run> search(uint64_t wanted);
  Status put(Run run);

  Tree tree_;
  RangeSet excluded_;
  uint64_t free_ = 0;
  uint64_t cursor_ = 0;  // where the last search ended: next fit
};

}  // namespace basalt::blob
