#include "sidecar/arbiter/driver_memory.h"

#include <algorithm>
#include <string>
#include <utility>

#include "common/base/check.h"

namespace mesh::arbiter {

static_assert(sizeof(ChunkLabel) == sizeof(io::KeptLabel));

namespace {

constexpr char kNoKeeper[] = "the keeper of descriptors is gone: memory does not outlive this process any more";

}  // namespace

// Belongs to the worker between submit() and its end.
struct DriverMemory::Work {
  struct Made {
    ChunkRecord chunk;
    io::OwnedFd fd;  // none: it could not be created
  };
  std::vector<ChunkNumber> dropped;
  std::vector<std::pair<GpuIndex, Units>> closing;  // that the engine knows of
  std::vector<io::OwnedFd> closed;
  std::vector<ChunkRecord> wanted;
  std::vector<Made> made;
  std::vector<io::LabelledNumber> labelled;
  std::vector<std::pair<ChunkRecord, int>> sealed;
  std::string trouble;

  bool needs_driver() const { return !dropped.empty() || !closed.empty() || !wanted.empty() || !sealed.empty(); }
  void label(const ChunkRecord& chunk) { labelled.push_back({chunk.number, label_of(chunk)}); }
};

DriverMemory::DriverMemory(io::Loop& loop, Devices devices, std::unique_ptr<io::DescriptorKeeper> keeper, LogLine log,
                           std::function<void()> on_settled)
    : devices_(std::move(devices)),
      keeper_(std::move(keeper)),
      log_(std::move(log)),
      on_settled_(std::move(on_settled)),
      closing_(devices_.size()),
      closed_(devices_.size()),
      worker_(loop) {}

bool DriverMemory::recover() {
  if (keeper_ == nullptr) return true;
  std::vector<io::KeptDescriptor> kept;
  if (!keeper_->list(kept)) return false;
  for (io::KeptDescriptor& each : kept) {
    next_number_ = std::max(next_number_, each.number + 1);
    const auto chunk = parse_label(each.label);
    if (!chunk || chunk->number != each.number || chunk->gpu >= devices_.size()) {
      (void)keeper_->drop({{each.number}});
      continue;
    }
    book_.add(*chunk);
    descriptors_[chunk->number] = std::move(each.fd);
  }
  return true;
}

void DriverMemory::drop_unowned(const Engine& engine) {
  std::vector<ChunkNumber> unowned;
  book_.for_each([&](const ChunkRecord& chunk) {
    bool is_owned = engine.entries().contains(chunk.owner);
    engine.segments().for_each([&](const gpu::Segment& segment) { is_owned = is_owned || segment.id == chunk.owner; });
    if (!is_owned) unowned.push_back(chunk.number);
  });
  if (unowned.empty()) return;
  const auto work = std::make_shared<Work>();
  for (const ChunkNumber number : unowned) {
    begin_closing(book_.find(number)->gpu, book_.find(number)->units(), *work);
    retire(number, *work);
  }
  submit_settling(work);
}

bool DriverMemory::can_export() const {
  return std::all_of(devices_.begin(), devices_.end(), [](const auto& device) { return device->caps().can_export; });
}

int DriverMemory::descriptor(ChunkNumber number) const {
  const auto found = descriptors_.find(number);
  return found == descriptors_.end() ? -1 : found->second.get();
}

void DriverMemory::retire(ChunkNumber number, Work& work) {
  const auto found = descriptors_.find(number);
  MESH_CHECK(found != descriptors_.end());
  work.dropped.push_back(number);
  work.closed.push_back(std::move(found->second));
  descriptors_.erase(found);
  book_.remove(number);
}

ChunkRecord DriverMemory::fresh(GpuIndex gpu, uint8_t size, LeaseId owner, uint32_t user) {
  return {.number = next_number_++, .gpu = gpu, .size = size, .owner = owner, .user = user};
}

// As many as asked for, of the free ones as far as there are any.
void DriverMemory::take(const CreateChunks& order, uint8_t size, uint32_t user, Work& work) {
  uint32_t created = 0;
  for (uint32_t i = 0; i < order.plan.take.count[size]; ++i) {
    const ChunkNumber number = book_.choose(order.gpu, size, user);
    if (number != 0 && ChunkBook::suits(*book_.find(number), user)) {
      book_.give(number, order.id, user);
      work.label(*book_.find(number));
      continue;
    }
    if (number != 0) {
      retire(number, work);
    } else {
      ++created;
    }
    work.wanted.push_back(fresh(order.gpu, size, order.id, user));
  }
  for (; created < order.plan.create.count[size]; ++created)
    work.wanted.push_back(fresh(order.gpu, size, {}, user));  // the change of a broken one
}

void DriverMemory::enqueue(std::function<void()> order) {
  orders_.push_back(std::move(order));
  if (orders_.size() == 1) orders_.front()();
}

void DriverMemory::end_order() {
  orders_.pop_front();
  if (!orders_.empty()) orders_.front()();
}

void DriverMemory::create(const CreateChunks& order, uint32_t user, std::function<void(const Extents& missing)> done) {
  const auto work = std::make_shared<Work>();
  begin_closing(order.gpu, order.plan.release.units(), *work);
  enqueue([this, order, user, work, done = std::move(done)] {
    for (uint8_t size = 0; size < gpu::kExtentSizes; ++size) take(order, size, user, *work);
    plan_release({order.gpu, order.plan.release}, *work);
    submit(work, [this, work, done] {
      Extents missing;
      for (const Work::Made& made : work->made) missing.count[made.chunk.size] += made.chunk.number == 0 ? 1 : 0;
      end_order();
      done(missing);
    });
  });
}

void DriverMemory::take_back(const ReturnChunks& order) {
  const auto work = std::make_shared<Work>();
  for (const ChunkNumber number : book_.take_back(order.id, order.gpu, order.extents)) work->label(*book_.find(number));
  if (!work->labelled.empty()) submit(work, [] {});
}

void DriverMemory::plan_release(const ReleaseChunks& order, Work& work) {
  for (uint8_t size = 0; size < gpu::kExtentSizes; ++size) {
    for (uint32_t i = 0; i < order.extents.count[size]; ++i) {
      if (const ChunkNumber number = book_.choose_to_go(order.gpu, size); number != 0) retire(number, work);
    }
  }
}

void DriverMemory::release(const ReleaseChunks& order) {
  ++unsettled_;
  const auto work = std::make_shared<Work>();
  begin_closing(order.gpu, order.extents.units(), *work);
  enqueue([this, order, work] {
    plan_release(order, *work);
    submit(work, [this] {
      end_order();
      if (--unsettled_ == 0) on_settled_();
    });
  });
}

void DriverMemory::seal(LeaseId segment) {
  book_.spend(segment);
  const auto work = std::make_shared<Work>();
  for (const ChunkNumber number : book_.of(segment)) {
    work->label(*book_.find(number));
    work->sealed.emplace_back(*book_.find(number), descriptor(number));
  }
  submit_settling(work);
}

void DriverMemory::keep_only(LeaseId lease, std::span<const ChunkNumber> kept) {
  const auto work = std::make_shared<Work>();
  for (const ChunkNumber number : book_.of(lease)) {
    if (std::find(kept.begin(), kept.end(), number) != kept.end()) continue;
    begin_closing(book_.find(number)->gpu, book_.find(number)->units(), *work);
    retire(number, *work);
  }
  if (!work->dropped.empty()) submit_settling(work);
}

void DriverMemory::begin_closing(GpuIndex gpu, Units units, Work& work) {
  closing_[gpu] += units;
  work.closing.emplace_back(gpu, units);
}

void DriverMemory::submit(const SharedWork& work, std::function<void()> done) {
  auto end = [this, work, done = std::move(done)] {
    finish(*work);
    done();
  };
  if (label_at_once(work)) return at_hand_.push_back(std::move(end));
  worker_.run([this, work] { carry_out(*work); }, std::move(end));
}

// Two threads that wake each other take longer than all the rest of a grant. What the keeper hears stays in order: what
// the worker has comes first.
bool DriverMemory::label_at_once(const SharedWork& work) {
  if (work->needs_driver() || !worker_.is_idle()) return false;
  if (keeper_ == nullptr) return true;
  const auto said = keeper_->label_at_once(work->labelled);
  if (said == io::DescriptorKeeper::Said::kNobodyThere) work->trouble = kNoKeeper;
  return said != io::DescriptorKeeper::Said::kNothing;
}

void DriverMemory::finish_at_hand() {
  while (!at_hand_.empty()) {
    const auto end = std::move(at_hand_.front());
    at_hand_.pop_front();
    end();
  }
}

void DriverMemory::submit_settling(const SharedWork& work) {
  ++unsettled_;
  submit(work, [this] {
    if (--unsettled_ == 0) on_settled_();
  });
}

void DriverMemory::carry_out(Work& work) {
  work.closed.clear();
  bool is_kept = keeper_ == nullptr || keeper_->drop(work.dropped);
  for (const ChunkRecord& chunk : work.wanted) make(chunk, work);
  for (const auto& [chunk, fd] : work.sealed) seal_chunk(chunk, fd, work);
  if (keeper_ == nullptr) return;
  is_kept = keeper_->label(work.labelled) && is_kept;
  for (const Work::Made& made : work.made) {
    if (made.fd) is_kept = keeper_->put(made.chunk.number, label_of(made.chunk), made.fd.get()) && is_kept;
  }
  if (!is_kept) work.trouble = kNoKeeper;
}

void DriverMemory::make(const ChunkRecord& chunk, Work& work) {
  io::DeviceMemory& device = *devices_[chunk.gpu];
  auto created = device.create(gpu::to_bytes(chunk.units()));
  if (!created) {
    work.trouble = created.error().text;
    work.made.push_back({chunk, {}});
    return;
  }
  auto exported = device.export_chunk(*created);
  if (!exported) work.trouble = exported.error().text;
  work.made.push_back({chunk, exported ? std::move(*exported) : io::OwnedFd()});
}

void DriverMemory::seal_chunk(const ChunkRecord& chunk, int fd, Work& work) {
  io::DeviceMemory& device = *devices_[chunk.gpu];
  auto imported = device.import_chunk(fd, gpu::to_bytes(chunk.units()));
  if (!imported) {
    work.trouble = imported.error().text;
    return;
  }
  if (const auto sealed = device.seal(*imported); !sealed) work.trouble = sealed.error().text;
}

void DriverMemory::finish(Work& work) {
  if (!work.trouble.empty()) log_("memory", "", work.trouble);
  for (const auto& [gpu, units] : work.closing) closed_[gpu] += units;
  for (Work::Made& made : work.made) {
    if (!made.fd) {
      ++not_made_;
      made.chunk.number = 0;
      continue;
    }
    ++made_;
    book_.add(made.chunk);
    descriptors_[made.chunk.number] = std::move(made.fd);
  }
}

}  // namespace mesh::arbiter
