// Tree: an ordered map of byte strings in copy-on-write pages.
//
// A B+tree over PageStore: inner nodes hold PageRefs keyed by a lower bound of the keys below them; the
// first child's key counts as lower than everything, whatever it says. Changes copy the path from the root, so `root` changes once
// per checkpoint. Not synchronised: the store's metadata lock guards it. Views returned by a cursor
// are valid until the next change of the tree or PageStore::trim().
#pragma once

#include <basalt/status.h>

#include "blob/page_store.h"

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace basalt::blob {

class Tree {
 public:
  Tree(PageStore& pages, TreeId id) : pages_(pages), id_(id) { root.page = kNoPage; }

  PageRef root{};  // saved in the superblock

  Result<std::optional<std::string>> get(std::string_view key);
  Status put(std::string_view key, std::string_view value);
  // Whether the key was there.
  Result<bool> erase(std::string_view key);

  // Adds the pages on the way to `key`'s leaf that hold nothing below `key`, and says where the next leaf
  // begins; nothing when there is none. From "" on through all of these each page comes up once.
  Result<std::optional<std::string>> pages_from(std::string_view key, std::vector<PageRef>& pages);

  // A position in the tree; invalid after any change.
  class Cursor {
   public:
    explicit Cursor(Tree& tree) : tree_(tree) {}
    Status seek(std::string_view key);         // first key >= `key`
    Status seek_before(std::string_view key);  // last key < `key`
    Status next();
    Status previous();
    bool valid() const { return valid_; }
    std::string_view key() const { return leaf().key(path_.back().index); }
    std::string_view value() const { return leaf().value(path_.back().index); }

   private:
    struct Step {
      Frame* frame;
      unsigned index;
    };
    Node leaf() const { return path_.back().frame->node(); }
    Status descend_edge(bool last);
    Status settle_forward();
    Tree& tree_;
    std::vector<Step> path_;
    bool valid_ = false;
  };

 private:
  struct Step {
    Frame* frame;
    unsigned index;  // of the child taken, or of the cell in the leaf
  };
  // Copies the path to the leaf for `key` into the present generation.
  Status writable_path(std::string_view key, std::vector<Step>& path);
  Status split_and_insert(std::vector<Step>& path, std::string_view key, std::string_view value);
  Status shrink(std::vector<Step>& path);
  Result<bool> merge_with_next(Node parent, unsigned left_index);

  PageStore& pages_;
  TreeId id_;
};

}  // namespace basalt::blob
