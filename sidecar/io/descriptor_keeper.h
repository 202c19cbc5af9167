// A tiny process that holds descriptors for another one, so that what they keep alive outlives it.
//
// Memory of a card stays as long as any descriptor of it does, also in a process that never opened the driver. So the
// process that owns it gives each descriptor to its parent, which does nothing but hold them: when the owner is killed
// its successor, a child of the same parent, is given all of them back.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <vector>

#include "sidecar/io/gpu/owned_fd.h"

namespace mesh::io {

inline constexpr size_t kKeptLabelBytes = 48;
using KeptLabel = std::array<uint8_t, kKeptLabelBytes>;

struct LabelledNumber {
  uint64_t number = 0;
  KeptLabel label{};
};

struct KeptDescriptor {
  uint64_t number = 0;
  KeptLabel label{};
  OwnedFd fd{};
};

// The owner's end. All calls block while the keeper works, microseconds each; from one thread at a time. False if there
// is no keeper any more.
class DescriptorKeeper {
 public:
  static constexpr size_t kLabelsAtOnceMax = 128;  // 8 KiB
  enum class Said : uint8_t { kAll, kNothing, kNobodyThere };

  explicit DescriptorKeeper(OwnedFd socket) : socket_(std::move(socket)) {}

  // All that is kept.
  bool list(std::vector<KeptDescriptor>& kept);
  // Whatever happens to the caller afterwards, it is kept. The descriptor stays the caller's, too.
  bool put(uint64_t number, const KeptLabel& label, int fd);
  bool label(std::span<const LabelledNumber> labels);
  // The same, all or nothing, without waiting for the keeper. Nothing was said if it is busy, or these are more than
  // kLabelsAtOnceMax.
  Said label_at_once(std::span<const LabelledNumber> labels);
  // When it returns they are closed.
  bool drop(std::span<const uint64_t> numbers);

 private:
  OwnedFd socket_;
};

// Runs `owner` in a child process, and again whenever that was killed or failed, until it ends by itself or this
// process is told to end, which the child is told, too. Gives the exit code. To be called before any thread is started
// and any driver opened.
int keep_descriptors_for(const std::function<int(OwnedFd keeper)>& owner);

}  // namespace mesh::io
