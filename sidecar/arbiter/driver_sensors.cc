#include "sidecar/arbiter/driver_sensors.h"

#include <algorithm>
#include <memory>
#include <utility>

namespace mesh::arbiter {
namespace {

SensorReading measure(GpuIndex gpu, io::DeviceMemory& device) {
  SensorReading reading{.gpu = gpu};
  auto whole = device.query_device();
  if (!whole) {
    reading.trouble = whole.error().text;
    return reading;
  }
  reading.device = *whole;
  if (!device.caps().tells_processes) return reading;
  auto processes = device.query_processes();
  if (processes) {
    reading.processes = std::move(*processes);
  } else {
    reading.device.reset();
    reading.trouble = processes.error().text;
    return reading;
  }
  // What a process freed between the two looks is nobody's, and would look like a stranger's.
  if (const auto again = device.query_device()) {
    reading.device->used_bytes = std::min(reading.device->used_bytes, again->used_bytes);
  }
  return reading;
}

}  // namespace

void DriverSensors::sample_soon() { is_wanted_ = true; }

Instant DriverSensors::next_deadline() const {
  if (!worker_.is_idle()) return kNever;
  return ended_at_ + milliseconds(is_wanted_ ? kPauseMs : is_pressed_ ? kPressedPeriodMs : kPeriodMs);
}

void DriverSensors::on_time() {
  if (loop_.now() >= next_deadline()) begin();
}

void DriverSensors::begin() {
  is_wanted_ = false;
  on_begin_();
  const auto readings = std::make_shared<std::vector<SensorReading>>();
  worker_.run(
      [this, readings] {
        for (GpuIndex gpu = 0; gpu < devices_.size(); ++gpu) readings->push_back(measure(gpu, *devices_[gpu]));
      },
      [this, readings] {
        ended_at_ = loop_.now();
        for (const SensorReading& reading : *readings) on_reading_(reading);
      });
}

}  // namespace mesh::arbiter
