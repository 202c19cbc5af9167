// What happened in a simulation: a hash that two runs of one seed must share, and the lines if somebody reads them.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/instant.h"
#include "common/base/slice.h"

namespace mesh::sim {

class Trace {
 public:
  void keep_lines() { keeps_lines_ = true; }
  void add(Instant at, std::string_view who, std::string_view what, uint64_t number = 0) {
    mix(static_cast<uint64_t>(at.time_since_epoch().count()));
    for (const std::string_view text : {who, what}) {
      for (const char c : text) mix(static_cast<uint8_t>(c));
    }
    mix(number);
    if (keeps_lines_) lines_.push_back(line(at, who, what, number));
  }
  // What arrived somewhere: all of it counts.
  void add_bytes(ByteView bytes) {
    mix(bytes.size());
    // Four at once do not wait for each other.
    std::array<uint64_t, 4> words{};
    std::array<uint64_t, 4> lanes{1, 2, 3, 4};
    for (; bytes.size() >= sizeof words; bytes = bytes.subspan(sizeof words)) {
      std::memcpy(words.data(), bytes.data(), sizeof words);
      for (size_t i = 0; i < lanes.size(); ++i) lanes[i] = (lanes[i] ^ words[i]) * kPrime;
    }
    for (const uint64_t lane : lanes) mix(lane);
    for (const uint8_t byte : bytes) mix(byte);
  }
  uint64_t hash() const { return hash_; }
  const std::vector<std::string>& lines() const { return lines_; }

 private:
  static constexpr uint64_t kPrime = 0x100000001B3ULL;

  // FNV-1a, by words.
  void mix(uint64_t value) { hash_ = (hash_ ^ value) * kPrime; }
  static std::string line(Instant at, std::string_view who, std::string_view what, uint64_t number) {
    std::string us = std::to_string(to_us(at.time_since_epoch()) % 1'000'000'000);
    us.insert(0, us.size() < 9 ? 9 - us.size() : 0, '0');
    std::string name(who);
    name.resize(std::max<size_t>(name.size(), 12), ' ');
    return us.substr(0, 3) + "." + us.substr(3) + "  " + name + "  " + std::string(what) +
           (number != 0 ? " " + std::to_string(number) : "");
  }

  uint64_t hash_ = 0xCBF29CE484222325ULL;
  bool keeps_lines_ = false;
  std::vector<std::string> lines_;
};

}  // namespace mesh::sim
