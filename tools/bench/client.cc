// mesh-bench-client: runs one load and prints its latencies as one line of JSON.
//
// It prints "start" after the warm-up and "end" after the last reply, each time waiting for a line on stdin.
#include <getopt.h>

#include <cstdlib>
#include <exception>
#include <iostream>
#include <stdexcept>
#include <string>
#include <string_view>

#include "tools/bench/latencies.h"
#include "tools/bench/load.h"

namespace mesh::bench {
namespace {

constexpr const char* kUsage =
    "usage: mesh-bench-client --endpoint ENDPOINT [--socket req|dealer|bare] [--sockets N] [--outstanding N]\n"
    "                         [--size BYTES] [--keys N] [--warmup SECONDS] [--seconds SECONDS] [--requests N]\n"
    "Sends requests and checks replies until SECONDS have passed or N were sent. Prints start, end and a JSON line;\n"
    "after start and end it waits for a line on stdin. With --keys the bodies are JSON and ask for N different things "
    "in\n"
    "turn, with a request_id of its own each.\n";

struct Arguments {
  LoadOptions load;
  double warmup_s = 0.2;
  double seconds = 1;
  uint64_t requests_max = UINT64_MAX;
};

ClientSocket parse_socket(std::string_view name) {
  if (name == "req") return ClientSocket::kReq;
  if (name == "dealer") return ClientSocket::kDealer;
  if (name == "bare") return ClientSocket::kBareDealer;
  throw std::invalid_argument("--socket takes req, dealer or bare");
}

Arguments parse_arguments(int argc, char** argv) {
  static const option options[] = {
      {"endpoint", required_argument, nullptr, 'e'}, {"socket", required_argument, nullptr, 's'},
      {"sockets", required_argument, nullptr, 'c'},  {"outstanding", required_argument, nullptr, 'o'},
      {"size", required_argument, nullptr, 'b'},     {"keys", required_argument, nullptr, 'k'},
      {"warmup", required_argument, nullptr, 'w'},   {"seconds", required_argument, nullptr, 't'},
      {"requests", required_argument, nullptr, 'n'}, {nullptr, 0, nullptr, 0},
  };
  Arguments arguments;
  for (int key = 0; (key = getopt_long(argc, argv, "", options, nullptr)) != -1;) {
    const std::string value = optarg == nullptr ? "" : optarg;
    switch (key) {
      case 'e':
        arguments.load.endpoint = value;
        break;
      case 's':
        arguments.load.socket = parse_socket(value);
        break;
      case 'c':
        arguments.load.sockets = static_cast<uint32_t>(std::stoul(value));
        break;
      case 'o':
        arguments.load.outstanding = static_cast<uint32_t>(std::stoul(value));
        break;
      case 'b':
        arguments.load.body_bytes = std::stoul(value);
        break;
      case 'k':
        arguments.load.keys = std::stoull(value);
        break;
      case 'w':
        arguments.warmup_s = std::stod(value);
        break;
      case 't':
        arguments.seconds = std::stod(value);
        break;
      case 'n':
        arguments.requests_max = std::stoull(value);
        break;
      default:
        throw std::invalid_argument("unknown option");
    }
  }
  if (arguments.load.endpoint.empty()) throw std::invalid_argument("--endpoint is missing");
  const size_t bytes_min = arguments.load.keys > 0 ? kJsonBytesMin : 2 * sizeof(Stamp);
  if (arguments.load.body_bytes < bytes_min) {
    throw std::invalid_argument("--size must be at least " + std::to_string(bytes_min));
  }
  if (arguments.load.socket == ClientSocket::kReq && arguments.load.outstanding != 1) {
    throw std::invalid_argument("a REQ socket has one request outstanding");
  }
  return arguments;
}

std::string libzmq_version() {
  int major = 0, minor = 0, patch = 0;
  zmq_version(&major, &minor, &patch);
  return std::to_string(major) + "." + std::to_string(minor) + "." + std::to_string(patch);
}

void run(const Arguments& arguments) {
  Load load(arguments.load);
  const auto seconds = [](double s) {
    return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(s));
  };
  if (arguments.warmup_s > 0) {
    // Everything once, so that whoever keeps replies has them.
    if (arguments.load.keys > 0) load.run(std::chrono::hours(1), arguments.load.keys);
    load.run(seconds(arguments.warmup_s), UINT64_MAX);
  }
  announce("start");
  LoadResult result = load.run(seconds(arguments.seconds), arguments.requests_max);
  announce("end");
  print_latencies(std::move(result.latencies_ns), result.seconds, libzmq_version());
}

}  // namespace
}  // namespace mesh::bench

int main(int argc, char** argv) {
  mesh::bench::Arguments arguments;
  try {
    arguments = mesh::bench::parse_arguments(argc, argv);
  } catch (const std::exception& error) {
    std::cerr << "mesh-bench-client: " << error.what() << '\n' << mesh::bench::kUsage;
    return 64;
  }
  try {
    mesh::bench::run(arguments);
  } catch (const std::exception& error) {
    std::cerr << "mesh-bench-client: " << error.what() << '\n';
    return 1;
  }
  return 0;
}
