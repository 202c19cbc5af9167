#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <sstream>
#include <vector>

#include "sidecar/io/gpu/memfd_device.h"
#include "tests/gpu/hands.h"
#include "tests/gpu/puppet.h"

namespace mesh::facts {
namespace {

using io::Access;
using Clock = std::chrono::steady_clock;

constexpr uint64_t kMemfdCardBytes = uint64_t{2} << 30;

struct Slot {
  io::Chunk chunk;
  io::AddressRange range;
  uint64_t bytes = 0;
  uint64_t allocated = 0;  // by the usual allocator
  io::OwnedFd kept;
  uint64_t address() const { return allocated != 0 ? allocated : range.address(); }
};

class Words {
 public:
  explicit Words(const std::string& text) {
    std::istringstream line(text);
    for (std::string word; line >> word;) words_.push_back(word);
  }
  // Empty and 0 if there is none.
  std::string text(size_t index) const { return index < words_.size() ? words_[index] : ""; }
  uint64_t number(size_t index) const { return std::strtoull(text(index).c_str(), nullptr, 10); }

 private:
  std::vector<std::string> words_;
};

double us_since(Clock::time_point before) {
  return std::chrono::duration<double, std::micro>(Clock::now() - before).count();
}

class Samples {
 public:
  // Runs it and keeps how long that took.
  template <class F>
  auto time(F&& call) {
    const auto before = Clock::now();
    auto result = call();
    us_.push_back(us_since(before));
    return result;
  }
  double median_us() {
    if (us_.empty()) return 0;
    std::nth_element(us_.begin(), us_.begin() + us_.size() / 2, us_.end());
    return us_[us_.size() / 2];
  }

 private:
  std::vector<double> us_;
};

class Role {
 public:
  explicit Role(const Backend& backend) : backend_(backend) {}

  int run() {
    while (auto packet = receive_packet(kPuppetSocket, -1)) {
      const Words words(packet->text);
      in_ = std::move(packet->fd);
      answer_.str("");
      const auto before = Clock::now();
      const auto done = obey(words);
      const double took_us = us_since(before);
      const std::string text = done ? "ok us=" + std::to_string(took_us) + answer_.str()
                                    : "[" + std::string(to_string(done.error().fault)) + "] " + done.error().text;
      // A descriptor too many would keep memory that nobody knows of.
      in_.reset();
      const io::OwnedFd out = std::move(out_);
      if (!send_packet(kPuppetSocket, text, out.get())) return 0;
    }
    return 0;
  }

 private:
  using Done = MemoryResult<void>;

  Done obey(const Words& words) {
    const std::string verb = words.text(0);
    if (verb == "open") return open();
    if (verb == "hello") return {};
    Slot& slot = slots_[words.number(1)];
    if (verb == "keep") return keep(slot);
    if (verb == "give") return give(slot);
    if (device_ == nullptr) return io::memory_fault(io::MemoryFault::kAbsent, "nothing was opened");
    if (verb == "enter") return enter();
    if (verb == "create") return create(slot, words.number(2));
    if (verb == "seal") return device_->seal(slot.chunk);
    if (verb == "export") return export_it(slot);
    if (verb == "import") return import(slot, words.number(2));
    if (verb == "map") return map(slot, words);
    if (verb == "unmap") return unmap(slot);
    if (verb == "release") return release(slot);
    if (verb == "bench") return bench(words.number(1), words.number(2));
    if (hands_ == nullptr) return io::memory_fault(io::MemoryFault::kAbsent, "there is no context");
    return handle(slot, words);
  }

  Done handle(Slot& slot, const Words& words) {
    const std::string verb = words.text(0);
    const auto seed = static_cast<uint32_t>(words.number(2));
    if (verb == "fill") return hands_->fill(slot.address(), slot.bytes, seed);
    if (verb == "check") return tell("wrong", hands_->count_wrong(slot.address(), slot.bytes, seed));
    if (verb == "tick") return hands_->tick(slot.address());
    if (verb == "peek") return tell("word", hands_->peek(slot.address()));
    if (verb == "alloc") return allocate(slot, words.number(2));
    if (verb == "free") return hands_->free(std::exchange(slot.allocated, 0));
    if (verb == "upload") return tell("copy_ns", hands_->upload(slot.address(), slot.bytes, words.number(2) != 0));
    return io::memory_fault(io::MemoryFault::kUnsupported, "no such verb: " + verb);
  }

  template <class T>
  Done tell(const char* key, const MemoryResult<T>& value) {
    if (!value) return tl::unexpected(value.error());
    answer_ << ' ' << key << '=' << *value;
    return {};
  }

  Done open() {
    if (!backend_.is_cuda()) {
      auto opened = io::MemfdDevice::open({.total_bytes = kMemfdCardBytes, .book_path = backend_.book_path});
      if (!opened) return tl::unexpected(opened.error());
      device_ = std::move(*opened);
      return {};
    }
    auto opened = io::CudaDevice::open({.ordinal = 0, .watches = false});
    if (!opened) return tl::unexpected(opened.error());
    cuda_ = opened->get();
    device_ = std::move(*opened);
    const io::DeviceCaps& caps = device_->caps();
    int version = 0;
    (void)cuda_->driver().driver_version(&version);
    answer_ << " create=" << caps.can_create << " export=" << caps.can_export
            << " granularity=" << cuda_->granularity_bytes() << " total=" << caps.total_bytes << " driver=" << version
            << " recommended=" << recommended_bytes() << " name=" << caps.name;
    return {};
  }

  uint64_t recommended_bytes() {
    io::CudaAllocationProperties properties;
    properties.handle_types = io::kCudaHandleIsFd;
    properties.location.id = cuda_->device();
    size_t bytes = 0;
    return cuda_->driver().granularity(&bytes, &properties, 1) == 0 ? bytes : 0;
  }

  Done enter() {
    if (cuda_ == nullptr) {
      hands_ = processor_hands();
      return {};
    }
    auto entered = cuda_hands(*cuda_);
    if (!entered) return tl::unexpected(entered.error());
    hands_ = std::move(*entered);
    return {};
  }

  Done create(Slot& slot, uint64_t bytes) {
    auto chunk = device_->create(bytes);
    if (!chunk) return tl::unexpected(chunk.error());
    slot.chunk = std::move(*chunk);
    slot.bytes = bytes;
    return {};
  }

  Done export_it(Slot& slot) {
    auto fd = device_->export_chunk(slot.chunk);
    if (!fd) return tl::unexpected(fd.error());
    out_ = std::move(*fd);
    return {};
  }

  Done keep(Slot& slot) {
    slot.kept = std::move(in_);
    return {};
  }

  Done give(Slot& slot) {
    out_ = std::move(slot.kept);
    return {};
  }

  Done import(Slot& slot, uint64_t bytes) {
    auto chunk = device_->import_chunk(in_.get(), bytes);
    if (!chunk) return tl::unexpected(chunk.error());
    slot.chunk = std::move(*chunk);
    slot.bytes = bytes;
    return {};
  }

  Done map(Slot& slot, const Words& words) {
    auto range = device_->reserve(slot.bytes);
    if (!range) return tl::unexpected(range.error());
    slot.range = std::move(*range);
    const Access access = words.text(2) == "ro" ? Access::kReadOnly : Access::kReadWrite;
    return device_->map(slot.range, 0, slot.chunk, access, words.text(3) == "touch");
  }

  Done unmap(Slot& slot) {
    auto done = device_->unmap(slot.range, 0);
    if (done) slot.range.release();
    return done;
  }

  Done release(Slot& slot) {
    slot.chunk.release();
    return {};
  }

  Done allocate(Slot& slot, uint64_t bytes) {
    const auto address = hands_->allocate(bytes);
    if (!address) return tl::unexpected(address.error());
    slot.allocated = *address;
    slot.bytes = bytes;
    return {};
  }

  // Median microseconds of each call.
  Done bench(uint64_t bytes, uint64_t repeats) {
    for (uint64_t i = 0; i < repeats; ++i) {
      if (auto done = bench_once(bytes); !done) return done;
    }
    for (auto& [name, samples] : samples_) answer_ << ' ' << name << '=' << samples.median_us();
    samples_.clear();
    return {};
  }

  Done bench_once(uint64_t bytes) {
    auto chunk = samples_["create"].time([&] { return device_->create(bytes); });
    if (!chunk) return tl::unexpected(chunk.error());
    auto fd = samples_["export"].time([&] { return device_->export_chunk(*chunk); });
    if (!fd) return tl::unexpected(fd.error());
    auto imported = samples_["import"].time([&] { return device_->import_chunk(fd->get(), bytes); });
    if (!imported) return tl::unexpected(imported.error());
    auto range = samples_["reserve"].time([&] { return device_->reserve(bytes); });
    if (!range) return tl::unexpected(range.error());
    auto mapped =
        samples_["map_and_access"].time([&] { return device_->map(*range, 0, *imported, Access::kReadWrite, false); });
    if (!mapped) return mapped;
    if (auto done = samples_["unmap"].time([&] { return device_->unmap(*range, 0); }); !done) return done;
    if (cuda_ != nullptr) bench_driver(range->address(), bytes, chunk->handle());
    samples_["release_import"].time([&] { return imported->release(), 0; });
    samples_["close"].time([&] { return fd->reset(), 0; });
    samples_["release_last"].time([&] { return chunk->release(), 0; });
    samples_["free_addresses"].time([&] { return range->release(), 0; });
    return {};
  }

  void bench_driver(uint64_t address, uint64_t bytes, uint64_t handle) {
    const io::CudaDriver& driver = cuda_->driver();
    io::CudaAccess access;
    access.location.id = cuda_->device();
    access.flags = io::kCudaReadsAndWrites;
    if (samples_["map_alone"].time([&] { return driver.map(address, bytes, 0, handle, 0); }) != 0) return;
    samples_["access_alone"].time([&] { return driver.set_access(address, bytes, &access, 1); });
    (void)driver.unmap(address, bytes);
  }

  Backend backend_;
  std::unique_ptr<io::DeviceMemory> device_;
  io::CudaDevice* cuda_ = nullptr;  // the same, if it is one
  std::unique_ptr<Hands> hands_;
  std::map<uint64_t, Slot> slots_;
  std::map<std::string, Samples> samples_;
  io::OwnedFd in_;
  io::OwnedFd out_;
  std::ostringstream answer_;
};

}  // namespace

int run_puppet(const Backend& backend) {
  // Nobody is left behind on the card.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  const int status = Role(backend).run();
  // A kernel may still run; whoever wants an orderly end asks for each step of it.
  fflush(stdout);
  _exit(status);
}

}  // namespace mesh::facts
