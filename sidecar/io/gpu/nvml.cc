#include "sidecar/io/gpu/nvml.h"

#include <dlfcn.h>

#include <map>

namespace mesh::io {
namespace {

constexpr int kUninitialized = 1;
constexpr int kNotSupported = 3;
constexpr int kNotFound = 6;
constexpr int kInsufficientSize = 7;
constexpr int kDriverNotLoaded = 9;

constexpr unsigned kTemperatureOfGpu = 0;
constexpr unsigned kShutdownThreshold = 0;
constexpr unsigned kSlowdownThreshold = 1;
constexpr unsigned kMemoryMaxThreshold = 2;
constexpr unsigned kGpuMaxThreshold = 3;
// Software and hardware slow the clocks because of heat.
constexpr unsigned long long kThermalBits = 0x20 | 0x40;

constexpr unsigned long long kNotAvailable = ~0ULL;
constexpr size_t kProcessListTriesMax = 4;

struct Memory {
  unsigned version = sizeof(Memory) | 2U << 24;
  unsigned long long total = 0;
  unsigned long long reserved = 0;
  unsigned long long free = 0;
  unsigned long long used = 0;
};
static_assert(sizeof(Memory) == 40);

struct Process {
  unsigned pid;
  unsigned long long used_bytes;
  unsigned gpu_instance;
  unsigned compute_instance;
};
static_assert(sizeof(Process) == 24);

struct Utilization {
  unsigned gpu;
  unsigned memory;
};

using ListProcesses = int(void* device, unsigned* count, Process* processes);

template <class T>
std::optional<T> value_if(int status, T value) {
  return status == 0 ? std::optional<T>(value) : std::nullopt;
}

template <class F>
bool load(void* library, const char* name, F*& function) {
  function = reinterpret_cast<F*>(dlsym(library, name));
  return function != nullptr;
}

}  // namespace

// Those below the line may be missing.
struct Nvml::Functions {
  void* library = nullptr;
  int (*init)() = nullptr;
  int (*shutdown)() = nullptr;
  const char* (*error_text)(int status) = nullptr;
  int (*driver_version)(char* text, unsigned size) = nullptr;
  int (*count)(unsigned* count) = nullptr;
  int (*at)(unsigned index, void** device) = nullptr;
  int (*by_uuid)(const char* uuid, void** device) = nullptr;
  int (*uuid)(void* device, char* text, unsigned size) = nullptr;
  int (*name)(void* device, char* text, unsigned size) = nullptr;
  int (*memory)(void* device, Memory* memory) = nullptr;
  // ---
  ListProcesses* compute_processes = nullptr;
  ListProcesses* graphics_processes = nullptr;
  int (*temperature)(void* device, unsigned sensor, unsigned* celsius) = nullptr;
  int (*threshold)(void* device, unsigned which, unsigned* celsius) = nullptr;
  int (*power)(void* device, unsigned* milliwatts) = nullptr;
  int (*utilization)(void* device, Utilization* utilization) = nullptr;
  int (*event_reasons)(void* device, unsigned long long* bits) = nullptr;

  bool load_all() {
    const bool is_complete =
        load(library, "nvmlInit_v2", init) && load(library, "nvmlShutdown", shutdown) &&
        load(library, "nvmlErrorString", error_text) && load(library, "nvmlSystemGetDriverVersion", driver_version) &&
        load(library, "nvmlDeviceGetCount_v2", count) && load(library, "nvmlDeviceGetHandleByIndex_v2", at) &&
        load(library, "nvmlDeviceGetHandleByUUID", by_uuid) && load(library, "nvmlDeviceGetUUID", uuid) &&
        load(library, "nvmlDeviceGetName", name) && load(library, "nvmlDeviceGetMemoryInfo_v2", memory);
    load(library, "nvmlDeviceGetComputeRunningProcesses_v3", compute_processes);
    load(library, "nvmlDeviceGetGraphicsRunningProcesses_v3", graphics_processes);
    load(library, "nvmlDeviceGetTemperature", temperature);
    load(library, "nvmlDeviceGetTemperatureThreshold", threshold);
    load(library, "nvmlDeviceGetPowerUsage", power);
    load(library, "nvmlDeviceGetUtilizationRates", utilization);
    if (!load(library, "nvmlDeviceGetCurrentClocksEventReasons", event_reasons))
      load(library, "nvmlDeviceGetCurrentClocksThrottleReasons", event_reasons);
    return is_complete;
  }
};

MemoryResult<std::unique_ptr<Nvml>> Nvml::open() {
  auto functions = std::make_unique<Functions>();
  functions->library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (functions->library == nullptr)
    return memory_fault(MemoryFault::kAbsent, std::string("there is no NVML: ") + dlerror());
  if (!functions->load_all()) return memory_fault(MemoryFault::kAbsent, "NVML is too old");
  std::unique_ptr<Nvml> nvml(new Nvml(std::move(functions)));
  if (const int status = nvml->functions_->init()) {
    auto fault = nvml->fault("nvmlInit", status);
    nvml->functions_->shutdown = nullptr;
    return fault;
  }
  return nvml;
}

Nvml::Nvml(std::unique_ptr<Functions> functions) : functions_(std::move(functions)) {}

Nvml::~Nvml() {
  if (functions_->shutdown != nullptr) functions_->shutdown();
}

tl::unexpected<MemoryError> Nvml::fault(const char* what, int status) const {
  MemoryFault fault = MemoryFault::kDriver;
  if (status == kNotFound || status == kDriverNotLoaded || status == kUninitialized) fault = MemoryFault::kAbsent;
  if (status == kNotSupported) fault = MemoryFault::kUnsupported;
  const char* const text = functions_->error_text(status);
  return memory_fault(fault, std::string(what) + ": " + (text == nullptr ? "?" : text), status);
}

MemoryResult<unsigned> Nvml::count() {
  unsigned count = 0;
  if (const int status = functions_->count(&count)) return fault("nvmlDeviceGetCount", status);
  return count;
}

MemoryResult<NvmlDevice> Nvml::at(unsigned index) {
  NvmlDevice device;
  if (const int status = functions_->at(index, &device.handle)) return fault("nvmlDeviceGetHandleByIndex", status);
  return device;
}

MemoryResult<NvmlDevice> Nvml::find(const std::string& uuid) {
  NvmlDevice device;
  if (const int status = functions_->by_uuid(uuid.c_str(), &device.handle))
    return fault("nvmlDeviceGetHandleByUUID", status);
  return device;
}

MemoryResult<std::string> Nvml::name(NvmlDevice device) {
  char text[128] = {};
  if (const int status = functions_->name(device.handle, text, sizeof(text))) return fault("nvmlDeviceGetName", status);
  return std::string(text);
}

MemoryResult<std::string> Nvml::uuid(NvmlDevice device) {
  char text[128] = {};
  if (const int status = functions_->uuid(device.handle, text, sizeof(text))) return fault("nvmlDeviceGetUUID", status);
  return std::string(text);
}

MemoryResult<std::string> Nvml::driver_version() {
  char text[128] = {};
  if (const int status = functions_->driver_version(text, sizeof(text)))
    return fault("nvmlSystemGetDriverVersion", status);
  return std::string(text);
}

MemoryResult<DeviceReading> Nvml::memory(NvmlDevice device) {
  Memory memory;
  if (const int status = functions_->memory(device.handle, &memory)) return fault("nvmlDeviceGetMemoryInfo", status);
  DeviceReading reading;
  reading.total_bytes = memory.total;
  reading.used_bytes = memory.used;
  reading.driver_bytes = memory.reserved;
  return reading;
}

MemoryResult<DeviceReading> Nvml::read(NvmlDevice device) {
  auto reading = memory(device);
  if (!reading) return reading;
  const NvmlDetails all = details(device);
  if (!all.temperature_c) return reading;
  ThermalReading& thermal = reading->thermal.emplace();
  thermal.temperature_c = *all.temperature_c;
  if (all.slowdown_c) thermal.slowdown_c = *all.slowdown_c;
  if (all.power_mw) thermal.power_w = *all.power_mw / 1000.0;
  if (all.busy_percent) thermal.busy = *all.busy_percent / 100.0;
  thermal.is_slowed_by_heat = (all.slowed_by.value_or(0) & kThermalBits) != 0;
  return reading;
}

MemoryResult<std::vector<ProcessUse>> Nvml::processes(NvmlDevice device) {
  std::map<pid_t, uint64_t> bytes_of;
  for (ListProcesses* const list : {functions_->compute_processes, functions_->graphics_processes}) {
    if (list == nullptr) return memory_fault(MemoryFault::kUnsupported, "NVML is too old to list processes");
    std::vector<Process> found(64);
    int status = kInsufficientSize;
    for (size_t tries = 0; tries < kProcessListTriesMax && status == kInsufficientSize; ++tries) {
      found.resize(found.size() * 2);
      auto count = static_cast<unsigned>(found.size());
      status = list(device.handle, &count, found.data());
      if (status == 0) found.resize(count);
    }
    if (status != 0) return fault("nvmlDeviceGetRunningProcesses", status);
    for (const Process& process : found) {
      if (process.used_bytes == kNotAvailable)
        return memory_fault(MemoryFault::kUnsupported, "this host does not tell what a process uses");
      uint64_t& bytes = bytes_of[static_cast<pid_t>(process.pid)];
      bytes = std::max<uint64_t>(bytes, process.used_bytes);
    }
  }
  std::vector<ProcessUse> processes;
  for (const auto& [pid, bytes] : bytes_of) processes.push_back({.pid = pid, .bytes = bytes});
  return processes;
}

NvmlDetails Nvml::details(NvmlDevice device) {
  NvmlDetails all;
  unsigned value = 0;
  const auto threshold = [&](unsigned which) -> std::optional<unsigned> {
    if (functions_->threshold == nullptr) return std::nullopt;
    const int status = functions_->threshold(device.handle, which, &value);
    return value_if(status, value);
  };
  if (functions_->temperature != nullptr) {
    const int status = functions_->temperature(device.handle, kTemperatureOfGpu, &value);
    all.temperature_c = value_if(status, value);
  }
  all.shutdown_c = threshold(kShutdownThreshold);
  all.slowdown_c = threshold(kSlowdownThreshold);
  all.memory_max_c = threshold(kMemoryMaxThreshold);
  all.gpu_max_c = threshold(kGpuMaxThreshold);
  if (functions_->power != nullptr) {
    const int status = functions_->power(device.handle, &value);
    all.power_mw = value_if(status, value);
  }
  Utilization utilization{};
  if (functions_->utilization != nullptr && functions_->utilization(device.handle, &utilization) == 0)
    all.busy_percent = utilization.gpu;
  unsigned long long bits = 0;
  if (functions_->event_reasons != nullptr && functions_->event_reasons(device.handle, &bits) == 0)
    all.slowed_by = bits;
  return all;
}

}  // namespace mesh::io
