// Measures the cards behind the loop: once a second, four times under pressure, and soon when somebody said that he
// gave something back.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "sidecar/arbiter/driver_memory.h"
#include "sidecar/io/loop.h"
#include "sidecar/io/worker.h"

namespace mesh::arbiter {

// One card, as measured.
struct SensorReading {
  GpuIndex gpu = 0;
  std::optional<io::DeviceReading> device{};  // nothing: it could not be measured
  std::vector<io::ProcessUse> processes{};
  std::string trouble{};
};

class DriverSensors {
 public:
  // `on_begin` is called when a measurement begins, `on_reading` for each card when it has ended.
  DriverSensors(io::Loop& loop, Devices devices, std::function<void()> on_begin,
                std::function<void(const SensorReading&)> on_reading)
      : loop_(loop),
        devices_(std::move(devices)),
        on_begin_(std::move(on_begin)),
        on_reading_(std::move(on_reading)),
        worker_(loop) {}

  // What is measured begins after this call.
  void sample_soon();
  // To be called at next_deadline() or later.
  void on_time();
  Instant next_deadline() const;
  void set_pressed(bool is_pressed) { is_pressed_ = is_pressed; }

 private:
  // Finding out who uses what costs milliseconds.
  static constexpr int64_t kPauseMs = 10;
  static constexpr int64_t kPeriodMs = 1000;
  static constexpr int64_t kPressedPeriodMs = 250;
  void begin();

  io::Loop& loop_;
  Devices devices_;
  std::function<void()> on_begin_;
  std::function<void(const SensorReading&)> on_reading_;
  bool is_pressed_ = false;
  bool is_wanted_ = false;  // once more, from its beginning
  Instant ended_at_{};
  io::Worker worker_;
};

}  // namespace mesh::arbiter
