// What happened in a simulation: a hash that two runs of one seed must share, and the lines if somebody reads them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/instant.h"

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
  uint64_t hash() const { return hash_; }
  const std::vector<std::string>& lines() const { return lines_; }

 private:
  // FNV-1a, by words.
  void mix(uint64_t value) { hash_ = (hash_ ^ value) * 0x100000001B3ULL; }
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
