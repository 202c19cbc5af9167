#include "tests/interop/trace.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>

namespace mesh::interop {
namespace {

std::string from_hex(const std::string& hex) {
  std::string bytes;
  for (size_t at = 0; at + 1 < hex.size(); at += 2) {
    bytes.push_back(static_cast<char>(std::stoi(hex.substr(at, 2), nullptr, 16)));
  }
  return bytes;
}

zmtp::SocketType socket_type(const std::string& name) {
  const auto type = zmtp::socket_type_from_name(name);
  if (!type) throw std::runtime_error("a trace names no socket type: " + name);
  return *type;
}

Trace read_trace(const std::filesystem::path& path) {
  Trace trace{.name = path.stem(), .client = {}, .server = {}, .turns = {}};
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string word;
    std::string hex;
    std::string star;
    words >> word;
    if (word == "sockets") {
      std::string client;
      std::string server;
      words >> client >> server;
      trace.client = socket_type(client);
      trace.server = socket_type(server);
    } else if (word == "client" || word == "server") {
      trace.turns.push_back({.by_client = word == "client", .frames = {}, .wire = {}});
    } else if (word == "frame" && !trace.turns.empty()) {
      size_t times = 1;
      words >> hex;
      if (words >> star) words >> times;
      std::string& frame = trace.turns.back().frames.emplace_back();
      for (size_t i = 0; i < times; ++i) frame += from_hex(hex);
    } else if (word == "wire" && !trace.turns.empty()) {
      words >> hex;
      trace.turns.back().wire += from_hex(hex);
    } else {
      throw std::runtime_error(trace.name + ": " + line);
    }
  }
  return trace;
}

}  // namespace

std::vector<Trace> read_traces() {
  std::vector<Trace> traces;
  for (const auto& entry : std::filesystem::directory_iterator(MESH_TRACES)) {
    if (entry.path().extension() == ".txt") traces.push_back(read_trace(entry.path()));
  }
  std::sort(traces.begin(), traces.end(), [](const Trace& a, const Trace& b) { return a.name < b.name; });
  return traces;
}

}  // namespace mesh::interop
