#include "sidecar/io/lmdb_check.h"

#include <fcntl.h>
#include <lmdb.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include "common/base/slice.h"

namespace mesh::io {
namespace {

// LMDB 0.9's file, as mdb.c has it.
constexpr uint32_t kMagic = 0xBEEFC0DE;
constexpr uint32_t kDataVersion = 1;
constexpr size_t kPageHeaderBytes = 16;
constexpr size_t kNodeHeaderBytes = 8;
constexpr size_t kKeyBytesMax = 511;
constexpr uint16_t kDepthMax = 32;
constexpr uint64_t kNoPage = ~uint64_t{0};
enum PageFlag : uint16_t { kBranch = 0x01, kLeaf = 0x02, kOverflow = 0x04, kMeta = 0x08 };
enum NodeFlag : uint16_t { kBigData = 0x01 };

struct PageHeader {
  uint64_t number;
  uint16_t pad;
  uint16_t flags;
  uint16_t lower;
  uint16_t upper;  // with `lower`, how many pages an overflow has
};
struct Tree {
  uint32_t pad;  // of the first one in a meta page: the size of a page
  uint16_t flags;
  uint16_t depth;
  uint64_t branch_pages;
  uint64_t leaf_pages;
  uint64_t overflow_pages;
  uint64_t entries;
  uint64_t root;
};
struct Meta {
  uint32_t magic;
  uint32_t version;
  uint64_t address;
  uint64_t map_bytes;
  Tree free;
  Tree main;
  uint64_t last_page;
  uint64_t transaction;
};
static_assert(sizeof(PageHeader) == kPageHeaderBytes && sizeof(Tree) == 48 && sizeof(Meta) == 136);

struct Node {
  size_t offset;
  size_t bytes;  // in its page
  uint16_t flags;
  uint64_t low;  // the size of its data, or its child
  ByteView key;
  ByteView data;
};

template <class T>
T get(const uint8_t* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof(value));
  return value;
}

class Checking {
 public:
  Checking(int fd, size_t page_bytes, size_t bytes_max, const std::function<void(ByteView)>& on_key)
      : fd_(fd), page_bytes_(page_bytes), bytes_max_(bytes_max), on_key_(on_key) {}

  int run() {
    const std::optional<Meta> meta = newest_meta();
    if (!meta) return broken();
    seen_.assign(meta->last_page + 1, false);
    seen_[0] = seen_[1] = true;
    is_main_ = true;
    if (!check(meta->main)) return broken();
    is_main_ = false;
    transaction_ = meta->transaction;
    return check(meta->free) ? 0 : broken();
  }

 private:
  using Page = std::vector<uint8_t>;

  int broken() const { return status_ != 0 ? status_ : MDB_CORRUPTED; }

  bool read(uint64_t number, uint8_t* into, size_t bytes) {
    size_t done = 0;
    while (done < bytes) {
      const ssize_t count = pread(fd_, into + done, bytes - done, static_cast<off_t>(number * page_bytes_ + done));
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) status_ = errno;
      if (count <= 0) return false;
      done += static_cast<size_t>(count);
    }
    return true;
  }

  // LMDB takes the newer of two.
  std::optional<Meta> newest_meta() {
    std::array<Meta, 2> metas;
    for (uint64_t i = 0; i < 2; ++i) {
      Page page(page_bytes_);
      if (!read(i, page.data(), page.size())) return std::nullopt;
      const auto header = get<PageHeader>(page.data());
      const auto meta = get<Meta>(page.data() + kPageHeaderBytes);
      const bool is_ours = header.number == i && header.flags == kMeta && meta.magic == kMagic &&
                           meta.version == kDataVersion && meta.free.pad == page_bytes_ &&
                           meta.free.flags == MDB_INTEGERKEY && meta.main.flags == 0;
      if (!is_ours) return std::nullopt;
      metas[i] = meta;
    }
    const size_t newest = metas[0].transaction < metas[1].transaction ? 1 : 0;
    const Meta& meta = metas[newest];
    if (meta.transaction != 0 && (meta.transaction & 1) != newest) return std::nullopt;
    if (meta.last_page < 1 || meta.last_page >= bytes_max_ / page_bytes_) return std::nullopt;
    return meta;
  }

  bool take(uint64_t number, uint64_t count) {
    for (uint64_t i = 0; i < count; ++i) {
      if (number + i < 2 || number + i >= seen_.size() || seen_[number + i]) return false;
      seen_[number + i] = true;
    }
    return true;
  }

  bool check(const Tree& tree) {
    found_ = {};
    last_key_.clear();
    if (tree.root == kNoPage) return tree.entries == 0 && tree.depth == 0;
    if (tree.depth == 0 || tree.depth > kDepthMax || !walk(tree.root, tree.depth, {}, {})) return false;
    return found_.entries == tree.entries && found_.branch_pages == tree.branch_pages &&
           found_.leaf_pages == tree.leaf_pages && found_.overflow_pages == tree.overflow_pages;
  }

  // All keys below lie in [low, high); an empty one is no bound.
  bool walk(uint64_t number, uint16_t levels, ByteView low, ByteView high) {
    Page page(page_bytes_);
    if (!take(number, 1) || !read(number, page.data(), page.size())) return false;
    const auto header = get<PageHeader>(page.data());
    if (header.number != number || header.flags != (levels == 1 ? kLeaf : kBranch)) return false;
    const auto nodes = nodes_of(page, header);
    if (!nodes || nodes->size() < (levels == 1 ? 1 : 2)) return false;
    if (levels == 1) {
      ++found_.leaf_pages;
      return std::all_of(nodes->begin(), nodes->end(), [&](const Node& node) { return check_leaf(node, low, high); });
    }
    ++found_.branch_pages;
    for (const Node& node : *nodes) {
      posix_fadvise(fd_, static_cast<off_t>(node.low * page_bytes_), static_cast<off_t>(page_bytes_),
                    POSIX_FADV_WILLNEED);
    }
    for (size_t i = 0; i < nodes->size(); ++i) {
      const ByteView from = i == 0 ? low : (*nodes)[i].key;
      const ByteView to = i + 1 < nodes->size() ? (*nodes)[i + 1].key : high;
      if ((i > 0 && from.empty()) || !walk((*nodes)[i].low, static_cast<uint16_t>(levels - 1), from, to)) return false;
    }
    return true;
  }

  // They fill the page from `upper` to its end.
  std::optional<std::vector<Node>> nodes_of(const Page& page, const PageHeader& header) const {
    if (header.lower < kPageHeaderBytes || header.lower % 2 != 0 || header.lower > header.upper) return std::nullopt;
    std::vector<Node> nodes;
    size_t total = 0;
    std::vector<bool> is_start(page_bytes_);
    for (size_t at = kPageHeaderBytes; at < header.lower; at += 2) {
      const auto node = node_at(page, get<uint16_t>(page.data() + at), header);
      if (!node || is_start[node->offset]) return std::nullopt;
      is_start[node->offset] = true;
      total += node->bytes;
      nodes.push_back(*node);
    }
    if (header.upper + total != page_bytes_) return std::nullopt;
    std::vector<std::pair<size_t, size_t>> places;
    for (const Node& node : nodes) places.emplace_back(node.offset, node.bytes);
    std::sort(places.begin(), places.end());
    size_t expected = header.upper;
    for (const auto& [offset, bytes] : places) {
      if (offset != expected) return std::nullopt;
      expected += bytes;
    }
    return nodes;
  }

  std::optional<Node> node_at(const Page& page, size_t offset, const PageHeader& header) const {
    if (offset < header.upper || offset % 2 != 0 || offset + kNodeHeaderBytes > page_bytes_) return std::nullopt;
    const uint8_t* at = page.data() + offset;
    const uint64_t low = get<uint32_t>(at);
    Node node{.offset = offset, .bytes = 0, .flags = get<uint16_t>(at + 4), .low = low, .key = {}, .data = {}};
    const size_t key_bytes = get<uint16_t>(at + 6);
    size_t data_bytes = 0;
    if (header.flags == kBranch) {
      node.low |= uint64_t{node.flags} << 32;
    } else {
      if (node.flags > kBigData || key_bytes == 0) return std::nullopt;
      data_bytes = node.flags == kBigData ? sizeof(uint64_t) : low;
    }
    node.bytes = (kNodeHeaderBytes + key_bytes + data_bytes + 1) & ~size_t{1};
    if (key_bytes > kKeyBytesMax || offset + node.bytes > page_bytes_) return std::nullopt;
    node.key = {at + kNodeHeaderBytes, key_bytes};
    node.data = {at + kNodeHeaderBytes + key_bytes, data_bytes};
    return node;
  }

  bool is_before(ByteView left, ByteView right) const {
    if (is_main_) return as_text(left) < as_text(right);
    return left.size() == sizeof(uint64_t) && right.size() == sizeof(uint64_t) &&
           get<uint64_t>(left.data()) < get<uint64_t>(right.data());
  }

  bool check_leaf(const Node& node, ByteView low, ByteView high) {
    ++found_.entries;
    if (!low.empty() && is_before(node.key, low)) return false;
    if (!high.empty() && !is_before(node.key, high)) return false;
    if (!last_key_.empty() && !is_before(last_key_, node.key)) return false;
    last_key_.assign(node.key.begin(), node.key.end());
    if (is_main_) on_key_(node.key);
    if (node.flags != kBigData) return is_main_ || check_free_list(node.key, node.data);
    const auto first = get<uint64_t>(node.data.data());
    const uint64_t pages = (kPageHeaderBytes - 1 + node.low) / page_bytes_ + 1;
    found_.overflow_pages += pages;
    if (!take(first, pages)) return false;
    return is_main_ || check_large_free_list(node, first, pages);
  }

  bool check_large_free_list(const Node& node, uint64_t first, uint64_t pages) {
    std::vector<uint8_t> bytes(kPageHeaderBytes + node.low);
    if (!read(first, bytes.data(), bytes.size())) return false;
    const auto header = get<PageHeader>(bytes.data());
    if (header.number != first || header.flags != kOverflow || get<uint32_t>(bytes.data() + 12) != pages) return false;
    return check_free_list(node.key, ByteView(bytes).subspan(kPageHeaderBytes));
  }

  // How many, then the pages that this transaction freed, the last first.
  bool check_free_list(ByteView key, ByteView data) {
    if (key.size() != sizeof(uint64_t) || get<uint64_t>(key.data()) > transaction_) return false;
    if (data.size() < sizeof(uint64_t)) return false;
    const auto count = get<uint64_t>(data.data());
    if (count > data.size() / sizeof(uint64_t) - 1) return false;
    uint64_t before = kNoPage;
    for (uint64_t i = 1; i <= count; ++i) {
      const auto number = get<uint64_t>(data.data() + i * sizeof(uint64_t));
      if (number >= before || !take(number, 1)) return false;
      before = number;
    }
    return true;
  }

  int fd_;
  size_t page_bytes_;
  size_t bytes_max_;
  const std::function<void(ByteView)>& on_key_;
  int status_ = 0;
  uint64_t transaction_ = 0;
  std::vector<bool> seen_;
  Tree found_{};  // counts of the tree that is walked
  bool is_main_ = true;
  std::vector<uint8_t> last_key_;
};

}  // namespace

int check_tree(const std::string& path, size_t bytes_max, const std::function<void(ByteView key)>& on_key) {
  const int fd = ::open((path + "/data.mdb").c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) return errno == ENOENT ? 0 : errno;
  struct stat file {};
  int status = fstat(fd, &file) == 0 ? 0 : errno;
  if (status == 0 && file.st_size != 0) {
    status = Checking(fd, static_cast<size_t>(sysconf(_SC_PAGESIZE)), bytes_max, on_key).run();
  }
  close(fd);
  return status;
}

}  // namespace mesh::io
