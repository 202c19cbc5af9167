#include "common/cache/shared_tier.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "common/base/check.h"
#include "common/cache/shared_words.h"

namespace mesh::cache {
namespace {

constexpr uint64_t kMagic = 0x6D65'7368'7368'0000 | kSharedLayoutVersion;  // "meshsh"

// Memory that could not be had is asked for again after so long.
constexpr int64_t kReserveAgain_ms = 500;
// Each of them means that other processes took all segments since.
constexpr int kTakeTriesMax = 4;
// A put looks at so many entries of the segment that comes next, and at more if it is large itself.
constexpr size_t kCarryLooks = 16;
constexpr size_t kBytesPerCarryLook = 256;
constexpr size_t kHeadWords = kKeptFormHeadBytes / 8;
static_assert(kKeptFormHeadBytes % 8 == 0);

size_t units(uint64_t bytes) { return (bytes + SharedLayout::kUnitBytes - 1) / SharedLayout::kUnitBytes; }
size_t padded(uint64_t bytes) { return units(bytes) * SharedLayout::kUnitBytes; }

// Whoever comes first says what it is. Gives back what it is now.
uint64_t settle(uint64_t& word, uint64_t value) {
  uint64_t was = 0;
  return Word(word).compare_exchange_strong(was, value) ? value : was;
}

template <class T>
std::span<T> array_at(std::span<std::byte> region, size_t offset, size_t count) {
  return {reinterpret_cast<T*>(region.data() + offset), count};
}

}  // namespace

SharedTier::SharedTier(std::span<std::byte> region, Backing& backing)
    : region_(region),
      backing_(&backing),
      layout_(region.size()),
      segments_(array_at<SegmentWords>(region, SharedLayout::segment_table_at(), layout_.segments())),
      index_(array_at<uint64_t>(region, layout_.index_at(), layout_.buckets() * SharedLayout::kSlotsPerBucket),
             segments_) {
  MESH_CHECK(layout_.segment_at(layout_.segments()) <= region.size());
}

Result<SharedTier> SharedTier::attach(std::span<std::byte> region, Backing& backing, uint64_t book_id) {
  MESH_CHECK(reinterpret_cast<uintptr_t>(region.data()) % SharedLayout::kUnitBytes == 0 && book_id != 0);
  if (region.size() < kSharedRegionBytesMin || region.size() > kSharedRegionBytesMax)
    return fail(Code::kInvalid, "shared_cache", "the shared memory has a size that cannot be");
  SharedTier tier(region, backing);
  if (!backing.reserve(0, tier.layout_.segments_at()))
    return fail(Code::kStorage, "shared_cache", "there is no memory for the index of the shared cache");
  if (settle(tier.head().magic, kMagic) != kMagic)
    return fail(Code::kInvalid, "shared_cache", "the shared memory has another layout");
  if (settle(tier.head().region_bytes, region.size()) != region.size())
    return fail(Code::kInvalid, "shared_cache", "the shared memory was made with another size");
  settle(tier.head().book_id, book_id);
  return tier;
}

uint64_t* SharedTier::words_at(size_t segment, size_t offset) const {
  return reinterpret_cast<uint64_t*>(region_.data() + layout_.segment_at(segment) + offset);
}

// --- reading ---

// Not necessarily whole. Empty if it is certainly not.
Slice SharedTier::copy_entry(Slot slot) const {
  const size_t room = layout_.segment_bytes() - slot.offset();
  if (slot.offset() >= layout_.segment_bytes() || room < kKeptFormHeadBytes) return {};
  uint64_t* const from = words_at(slot.segment(), slot.offset());
  uint8_t head[kKeptFormHeadBytes];
  copy_out(from, head, kHeadWords);
  const auto entry = read_kept_form_head(head);
  if (!entry || entry->bytes > std::min(room, layout_.entry_bytes_max())) return {};
  const size_t words = (entry->bytes + 7) / 8;
  BlockRef block = Block::allocate(8 * words);
  uint8_t* const to = block->data();
  copy_out(from, to, words);
  return Slice(std::move(block), to, entry->bytes);
}

std::optional<Found> SharedTier::find(const Key& key, Instant now) {
  for (uint64_t& word : index_.bucket_of(key.hash)) {
    const Slot slot{load(word)};
    if (!slot.has_tag_of(key.hash) || !index_.is_live(slot)) continue;
    auto found = decode_kept_form(copy_entry(slot));
    // Evicted meanwhile: then it may be torn, and if it is whole it is as good as before.
    if (!found && index_.is_live(slot)) {
      ++counts_.torn;
      index_.drop(word, slot);
    }
    if (!found || found->kept.key.hash != key.hash || found->kept.key.text.text() != key.text.text()) continue;
    if (found->kept.useful_until() <= now) {
      index_.drop(word, slot);
      continue;
    }
    found->kept.key = key;
    if (!slot.is_visited()) SharedIndex::exchange(word, slot, {slot.bits | Slot::kVisited});
    return found;
  }
  return std::nullopt;
}

std::optional<Found> SharedTier::look(const Hash& hash, Instant now) const {
  for (uint64_t& word : index_.bucket_of(hash)) {
    const Slot slot{load(word)};
    if (!slot.has_tag_of(hash) || !index_.is_live(slot)) continue;
    auto found = decode_kept_form(copy_entry(slot));
    if (found && found->kept.key.hash == hash && found->kept.useful_until() > now) return found;
  }
  return std::nullopt;
}

void SharedTier::erase(const Key& key) { index_.erase(key.hash); }

// --- writing ---

bool SharedTier::is_held(const std::optional<Hold>& hold) const {
  return hold && load(segments_[hold->segment].holder) == hold->ticket + 1;
}

bool SharedTier::reserve(size_t segment, Instant now) {
  SegmentWords& words = segments_[segment];
  if (load(words.is_reserved) != 0) return true;
  if (now < reserve_again_at_) return false;
  if (!backing_->reserve(layout_.segment_at(segment), layout_.segment_bytes())) {
    ++counts_.unbacked;
    reserve_again_at_ = now + milliseconds(kReserveAgain_ms);
    return false;
  }
  Word(words.is_reserved).store(1);
  return true;
}

// Where there is no memory for a segment the ring ends before it, until there is.
std::optional<SharedTier::Hold> SharedTier::take_next(Instant now) {
  uint64_t& next_ticket = head().next_ticket;
  for (int tries = 0; tries < kTakeTriesMax; ++tries) {
    const uint64_t ticket = Word(next_ticket).fetch_add(1);
    const size_t segment = ticket % layout_.segments();
    if (!reserve(segment, now)) {
      raise(next_ticket, (lap_of(ticket) + 1) * layout_.segments());
      continue;
    }
    uint64_t& holder = segments_[segment].holder;
    uint64_t was = load(holder);
    if (was <= ticket && Word(holder).compare_exchange_strong(was, ticket + 1)) return Hold{ticket, segment, 0, 0};
  }
  return std::nullopt;
}

// From here on what lay there is gone.
bool SharedTier::begin(const Hold& hold) {
  SegmentWords& words = segments_[hold.segment];
  uint64_t was = load(words.live);
  if (load(words.holder) != hold.ticket + 1) return false;
  if (!Word(words.live).compare_exchange_strong(was, hold.ticket + 1)) return false;
  counts_.evicted += Word(words.entries).exchange(0);
  Word(words.bytes).store(0);
  return true;
}

// Room for so many bytes in the current segment.
bool SharedTier::advance(size_t bytes, Instant now) {
  for (int tries = 0; tries < kTakeTriesMax; ++tries) {
    if (is_held(current_) && current_->at + bytes <= layout_.segment_bytes()) return true;
    std::optional<Hold> taken = is_held(next_) ? std::exchange(next_, std::nullopt) : take_next(now);
    next_.reset();
    current_.reset();
    if (!taken) return false;
    if (begin(*taken)) current_ = Hold{taken->ticket, taken->segment, 0, 0};
  }
  return false;
}

// Nothing if the segment was taken away meanwhile.
std::optional<Slot> SharedTier::append(const Hash& hash, ByteView form) {
  const size_t at = current_->at;
  copy_in(form.data(), form.size(), words_at(current_->segment, at));
  current_->at += padded(form.size());
  if (!is_held(current_)) {
    ++counts_.overtaken;
    return std::nullopt;
  }
  Word(segments_[current_->segment].bytes).fetch_add(padded(form.size()), std::memory_order_relaxed);
  return Slot::of(hash, lap_of(current_->ticket), current_->segment, at);
}

bool SharedTier::put(const Kept& kept, uint64_t origin_name, Instant now) {
  if (kept.useful_until() <= now) return false;
  const uint64_t bytes = kept_form_bytes(kept);
  const bool is_small = bytes > 0 && bytes <= layout_.entry_bytes_max();
  const Slice form = is_small ? encode_kept_form(kept, origin_name) : Slice();
  if (form.empty() || !advance(padded(bytes), now)) {
    ++counts_.refused;
    return false;
  }
  const auto slot = append(kept.key.hash, form.view());
  if (!slot) return false;
  const SharedIndex::Put put = index_.put(kept.key.hash, *slot);
  if (put == SharedIndex::Put::kEvicted) ++counts_.evicted;
  carry_some(form.size(), now);
  return put != SharedIndex::Put::kOvertaken;
}

// --- carrying over ---

// From the segment that is going to be written next.
void SharedTier::carry_some(size_t put_bytes, Instant now) {
  if (!next_) next_ = take_next(now);
  if (!is_held(next_) || !is_held(current_)) return;
  for (size_t looks = kCarryLooks + put_bytes / kBytesPerCarryLook; looks > 0; --looks) {
    const size_t room = layout_.segment_bytes() - next_->at;
    if (room < kKeptFormHeadBytes) return;
    uint8_t head[kKeptFormHeadBytes];
    copy_out(words_at(next_->segment, next_->at), head, kHeadWords);
    const auto entry = read_kept_form_head(head);
    if (!entry || entry->bytes > std::min(room, layout_.entry_bytes_max())) {
      next_->at = layout_.segment_bytes();
      return;
    }
    if (!carry(*entry, now)) return;
    next_->at += padded(entry->bytes);
  }
}

// False if it has to wait until more was put.
bool SharedTier::carry(const KeptFormHead& entry, Instant now) {
  const uint64_t live = load(segments_[next_->segment].live);
  if (live == 0) return true;
  const Slot from = Slot::of(entry.hash, lap_of(live - 1), next_->segment, next_->at);
  for (uint64_t& word : index_.bucket_of(entry.hash)) {
    const Slot slot{load(word)};
    if (!slot.is_same_place(from)) continue;
    if (!slot.is_visited() || entry.useful_until <= now) return true;
    // What comes has as much room as what stays. A large one must not keep all behind it waiting.
    const size_t bytes = padded(entry.bytes);
    const size_t carried_bytes = current_->carried_bytes + bytes;
    if (carried_bytes > current_->at - current_->carried_bytes) return bytes > layout_.segment_bytes() / 8;
    if (current_->at + bytes > layout_.segment_bytes()) return true;
    const Slice form = copy_entry(slot);
    if (!is_intact_kept_form(form.view())) return true;
    const auto to = append(entry.hash, form.view());
    if (!to) return true;
    current_->carried_bytes = carried_bytes;
    if (index_.move(word, slot, *to)) ++counts_.carried_over;
    return true;
  }
  return true;
}

// --- what else lies there ---

SharedFlights SharedTier::flights() const {
  return SharedFlights(array_at<uint64_t>(region_, SharedLayout::flights_at(), SharedFlights::kWords));
}

std::span<uint64_t> SharedTier::purge_words() const {
  return array_at<uint64_t>(region_, SharedLayout::purges_at(), Purges::words_for(Purges::kSharedPlaces));
}

uint64_t SharedTier::book_id() const { return load(head().book_id); }

std::optional<Witness> SharedTier::witness(uint64_t name) {
  name = std::max<uint64_t>(name, 1);
  const auto all = array_at<WitnessWords>(region_, SharedLayout::witnesses_at(), kWitnesses);
  for (size_t tries = 0; tries < kWitnesses; ++tries) {
    WitnessWords& words = all[(name + tries) % kWitnesses];
    if (settle(words.name, name) == name) return Witness(words);
  }
  return std::nullopt;
}

uint64_t SharedTier::entries() const {
  uint64_t sum = 0;
  for (SegmentWords& words : segments_) sum += load(words.entries);
  return sum;
}

uint64_t SharedTier::held_bytes() const {
  uint64_t sum = 0;
  for (SegmentWords& words : segments_) sum += load(words.bytes);
  return sum;
}

uint64_t SharedTier::reserved_bytes() const {
  uint64_t sum = layout_.segments_at();
  for (SegmentWords& words : segments_) sum += load(words.is_reserved) != 0 ? layout_.segment_bytes() : 0;
  return sum;
}

}  // namespace mesh::cache
