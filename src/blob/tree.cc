#include "blob/tree.h"

#include "base/try.h"

namespace basalt::blob {

Result<std::optional<std::string>> Tree::get(std::string_view key) {
  if (root.page == kNoPage) return std::optional<std::string>();
  BASALT_TRY_ASSIGN(Frame * frame, pages_.get(root, id_));
  while (frame->node().level() > 0) {
    const Node node = frame->node();
    BASALT_TRY_ASSIGN(frame, pages_.get(node.child(node.child_index(key)), id_));
  }
  bool exact = false;
  const unsigned i = frame->node().lower_bound(key, exact);
  if (!exact) return std::optional<std::string>();
  return std::optional<std::string>(frame->node().value(i));
}

Result<std::optional<std::string>> Tree::pages_from(std::string_view key,
                                                    std::vector<PageRef>& pages) {
  std::optional<std::string> next;
  if (root.page == kNoPage) return next;
  bool begins_here = key.empty();
  if (begins_here) pages.push_back(root);
  BASALT_TRY_ASSIGN(Frame * frame, pages_.get(root, id_));
  while (frame->node().level() > 0) {
    const Node node = frame->node();
    const unsigned i = node.child_index(key);
    if (i + 1 < node.count()) next.emplace(node.key(i + 1));
    if (i > 0) begins_here = node.key(i) == key;
    const PageRef child = node.child(i);
    if (begins_here) pages.push_back(child);
    BASALT_TRY_ASSIGN(frame, pages_.get(child, id_));
  }
  return next;
}

Status Tree::writable_path(std::string_view key, std::vector<Step>& path) {
  Frame* frame = nullptr;
  if (root.page == kNoPage) {
    BASALT_TRY_ASSIGN(frame, pages_.allocate(id_, 0));
  } else {
    BASALT_TRY_ASSIGN(frame, pages_.get(root, id_));
    BASALT_TRY_ASSIGN(frame, pages_.modify(frame));
  }
  root = frame->ref();
  while (frame->node().level() > 0) {
    Node node = frame->node();
    const unsigned i = node.child_index(key);
    path.push_back({frame, i});
    BASALT_TRY_ASSIGN(Frame * child, pages_.get(node.child(i), id_));
    BASALT_TRY_ASSIGN(child, pages_.modify(child));
    node.set_child(i, child->ref());
    frame = child;
  }
  path.push_back({frame, 0});
  return {};
}

Status Tree::put(std::string_view key, std::string_view value) {
  std::vector<Step> path;
  BASALT_TRY(writable_path(key, path));
  Node leaf = path.back().frame->node();
  bool exact = false;
  path.back().index = leaf.lower_bound(key, exact);
  if (exact) {
    if (leaf.replace(path.back().index, value)) return {};
    leaf.erase(path.back().index);
  }
  if (leaf.insert(path.back().index, key, value)) return {};
  return split_and_insert(path, key, value);
}

// Splits the node at the end of the path, and its parents as needed, until the cell fits.
Status Tree::split_and_insert(std::vector<Step>& path, std::string_view key,
                              std::string_view value) {
  std::string pending_key(key), pending_value(value);
  while (true) {
    const Step at = path.back();
    path.pop_back();
    Node left = at.frame->node();
    BASALT_TRY_ASSIGN(Frame * right_frame,
                      pages_.allocate(id_, static_cast<uint8_t>(left.level())));
    Node right = right_frame->node();
    // Appending at the right end leaves the left node full: ascending keys fill pages.
    if (at.index < left.count()) {
      size_t bytes = 0;
      unsigned from = 0;
      while (from + 1 < left.count() && bytes < left.used_bytes() / 2) {
        bytes += Node::cell_bytes(left.key(from), left.value(from));
        ++from;
      }
      left.move_tail(from, right);
    }
    const bool goes_right = right.count() == 0 || at.index > left.count();
    Node target = goes_right ? right : left;
    const unsigned index = goes_right ? at.index - left.count() : at.index;
    if (!target.insert(index, pending_key, pending_value)) {
      return Status(StatusCode::too_large, "tree cell of " + std::to_string(pending_key.size()) +
                                               " + " + std::to_string(pending_value.size()) +
                                               " bytes does not fit half a page");
    }
    pending_key.assign(right.key(0));
    pending_value.assign(struct_text(right_frame->ref()));
    if (path.empty()) {
      BASALT_TRY_ASSIGN(Frame * above,
                        pages_.allocate(id_, static_cast<uint8_t>(left.level() + 1)));
      (void)above->node().insert(0, left.key(0), struct_text(at.frame->ref()));
      (void)above->node().insert(1, pending_key, pending_value);
      root = above->ref();
      return {};
    }
    path.back().index += 1;
    if (path.back().frame->node().insert(path.back().index, pending_key, pending_value)) return {};
  }
}

Result<bool> Tree::erase(std::string_view key) {
  // Look before copying the path: erasing what is not there must not dirty anything.
  BASALT_TRY_ASSIGN(const auto present, get(key));
  if (!present) return false;
  std::vector<Step> path;
  BASALT_TRY(writable_path(key, path));
  Node leaf = path.back().frame->node();
  bool exact = false;
  const unsigned i = leaf.lower_bound(key, exact);
  leaf.erase(i);
  BASALT_TRY(shrink(path));
  return true;
}

// Unlinks empty nodes, merges thin ones with a neighbour, lowers the tree.
Status Tree::shrink(std::vector<Step>& path) {
  while (path.size() > 1) {
    const Step child = path.back();
    path.pop_back();
    Node parent = path.back().frame->node();
    const unsigned i = path.back().index;
    if (child.frame->node().count() == 0) {
      BASALT_TRY(pages_.free(child.frame));
      parent.erase(i);
      continue;
    }
    if (child.frame->node().used_bytes() >= Node::kCapacity / 4) return {};
    if (i + 1 < parent.count()) {
      BASALT_TRY_ASSIGN(const bool merged, merge_with_next(parent, i));
      if (merged) continue;
    }
    if (i > 0) {
      BASALT_TRY_ASSIGN(const bool merged, merge_with_next(parent, i - 1));
      if (merged) continue;
    }
    return {};
  }
  Frame* top = path.front().frame;
  if (top->node().level() == 0) {
    if (top->node().count() == 0) {
      BASALT_TRY(pages_.free(top));
      root = PageRef{};
      root.page = kNoPage;
    }
    return {};
  }
  while (top->node().level() > 0 && top->node().count() == 1) {
    root = top->node().child(0);
    BASALT_TRY(pages_.free(top));
    BASALT_TRY_ASSIGN(top, pages_.get(root, id_));
  }
  if (top->node().count() == 0) {
    BASALT_TRY(pages_.free(top));
    root = PageRef{};
    root.page = kNoPage;
  }
  return {};
}

Result<bool> Tree::merge_with_next(Node parent, unsigned left_index) {
  BASALT_TRY_ASSIGN(Frame * left, pages_.get(parent.child(left_index), id_));
  BASALT_TRY_ASSIGN(Frame * right, pages_.get(parent.child(left_index + 1), id_));
  if (left->node().used_bytes() + right->node().used_bytes() > Node::kCapacity * 3 / 4)
    return false;
  BASALT_TRY_ASSIGN(left, pages_.modify(left));
  parent.set_child(left_index, left->ref());
  BASALT_TRY_ASSIGN(right, pages_.modify(right));
  Node from = right->node(), to = left->node();
  if (from.level() > 0) {
    // The first child's own key says nothing; what the parent knew of it does.
    (void)to.insert(to.count(), parent.key(left_index + 1), from.value(0));
    from.erase(0);
  }
  from.move_tail(0, to);
  BASALT_TRY(pages_.free(right));
  parent.erase(left_index + 1);
  return true;
}

Status Tree::Cursor::seek(std::string_view key) {
  path_.clear();
  valid_ = false;
  if (tree_.root.page == kNoPage) return {};
  BASALT_TRY_ASSIGN(Frame * frame, tree_.pages_.get(tree_.root, tree_.id_));
  while (frame->node().level() > 0) {
    const Node node = frame->node();
    const unsigned i = node.child_index(key);
    path_.push_back({frame, i});
    BASALT_TRY_ASSIGN(frame, tree_.pages_.get(node.child(i), tree_.id_));
  }
  bool exact = false;
  path_.push_back({frame, frame->node().lower_bound(key, exact)});
  return settle_forward();
}

// The leaf index may stand one past the end: go on to the next leaf.
Status Tree::Cursor::settle_forward() {
  valid_ = true;
  if (path_.back().index < leaf().count()) return {};
  path_.pop_back();
  while (!path_.empty() && path_.back().index + 1 >= path_.back().frame->node().count()) {
    path_.pop_back();
  }
  if (path_.empty()) {
    valid_ = false;
    return {};
  }
  ++path_.back().index;
  return descend_edge(false);
}

Status Tree::Cursor::descend_edge(bool last) {
  while (path_.back().frame->node().level() > 0) {
    const Node node = path_.back().frame->node();
    BASALT_TRY_ASSIGN(Frame * child, tree_.pages_.get(node.child(path_.back().index), tree_.id_));
    const unsigned count = child->node().count();
    if (count == 0) {
      return Status(StatusCode::corruption,
                    "metadata page " + std::to_string(child->page) + ": empty tree node");
    }
    path_.push_back({child, last ? count - 1 : 0});
  }
  valid_ = true;
  return {};
}

Status Tree::Cursor::next() {
  ++path_.back().index;
  return settle_forward();
}

Status Tree::Cursor::previous() {
  if (path_.empty()) return {};
  if (path_.back().index > 0) {
    --path_.back().index;
    valid_ = true;
    return {};
  }
  path_.pop_back();
  while (!path_.empty() && path_.back().index == 0) path_.pop_back();
  if (path_.empty()) {
    valid_ = false;
    return {};
  }
  --path_.back().index;
  return descend_edge(true);
}

Status Tree::Cursor::seek_before(std::string_view key) {
  path_.clear();
  valid_ = false;
  if (tree_.root.page == kNoPage) return {};
  BASALT_TRY_ASSIGN(Frame * frame, tree_.pages_.get(tree_.root, tree_.id_));
  while (frame->node().level() > 0) {
    const Node node = frame->node();
    const unsigned i = node.child_index(key);
    path_.push_back({frame, i});
    BASALT_TRY_ASSIGN(frame, tree_.pages_.get(node.child(i), tree_.id_));
  }
  bool exact = false;
  path_.push_back({frame, frame->node().lower_bound(key, exact)});
  return previous();
}

}  // namespace basalt::blob
