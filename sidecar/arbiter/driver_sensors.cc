#include "sidecar/arbiter/driver_sensors.h"

#include <algorithm>
#include <memory>
#include <utility>

namespace mesh::arbiter {
namespace {

SensorReading measure(GpuIndex gpu, io::DeviceMemory& device) {
  SensorReading reading{.gpu = gpu};
  if (!device.caps().tells_processes) {
    auto whole = device.query_device();
    if (whole) {
      reading.device = *whole;
    } else {
      reading.trouble = whole.error().text;
    }
    return reading;
  }
  auto use = device.query_use();
  if (use) {
    reading.device = use->device;
    reading.processes = std::move(use->processes);
  } else {
    reading.trouble = use.error().text;
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
