// mesh-bench-client: runs one load and prints its latencies as one line of JSON.
//
// It tells its starter what it is about to do, so that the cost of the processes in the middle can be read off exactly
// around the timed part: it prints "start" after the warm-up and "end" after the last reply, each time waiting for a
// line on stdin.
#include <getopt.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <stdexcept>
#include <string>
#include <string_view>

#include "tools/bench/load.h"

namespace mesh::bench {
namespace {

constexpr const char* kUsage =
    "usage: mesh-bench-client --endpoint ENDPOINT [--socket req|dealer|bare] [--sockets N] [--outstanding N]\n"
    "                         [--size BYTES] [--warmup SECONDS] [--seconds SECONDS] [--requests N]\n"
    "Sends requests and checks replies until SECONDS have passed or N were sent. Prints start, end and a JSON line;\n"
    "after start and end it waits for a line on stdin.\n";

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
      {"endpoint", required_argument, nullptr, 'e'},
      {"socket", required_argument, nullptr, 's'},
      {"sockets", required_argument, nullptr, 'c'},
      {"outstanding", required_argument, nullptr, 'o'},
      {"size", required_argument, nullptr, 'b'},
      {"warmup", required_argument, nullptr, 'w'},
      {"seconds", required_argument, nullptr, 't'},
      {"requests", required_argument, nullptr, 'n'},
      {nullptr, 0, nullptr, 0},
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
  if (arguments.load.body_bytes < 2 * sizeof(Stamp)) throw std::invalid_argument("--size must be at least 32");
  if (arguments.load.socket == ClientSocket::kReq && arguments.load.outstanding != 1) {
    throw std::invalid_argument("a REQ socket has one request outstanding");
  }
  return arguments;
}

void announce(const char* what) {
  std::cout << what << std::endl;
  std::string line;
  if (!std::getline(std::cin, line)) throw std::runtime_error("the starter is gone");
}

double percentile_us(const std::vector<uint32_t>& sorted_ns, double fraction) {
  const auto rank = static_cast<size_t>(std::ceil(fraction * static_cast<double>(sorted_ns.size())));
  return sorted_ns[std::clamp<size_t>(rank, 1, sorted_ns.size()) - 1] / 1e3;
}

// The distribution on the axis of HDR plots: each step halves what is left above, in quarters of a halving, as far as
// there are samples.
void print_distribution(const std::vector<uint32_t>& sorted_ns) {
  const char* separator = "";
  for (int step = 0; step < 100; ++step) {
    const double above = std::exp2(-step / 4.0);
    if (above * static_cast<double>(sorted_ns.size()) < 1) break;
    std::printf("%s[%.7g,%.3f]", separator, 1 - above, percentile_us(sorted_ns, 1 - above));
    separator = ",";
  }
}

void print_result(LoadResult result) {
  auto& sorted_ns = result.latencies_ns;
  std::sort(sorted_ns.begin(), sorted_ns.end());
  int major = 0, minor = 0, patch = 0;
  zmq_version(&major, &minor, &patch);
  std::printf(
      "{\"requests\":%zu,\"seconds\":%.6f,\"p50_us\":%.3f,\"p99_us\":%.3f,\"p999_us\":%.3f,\"libzmq\":\"%d.%d.%d\",",
      sorted_ns.size(), result.seconds, percentile_us(sorted_ns, 0.5), percentile_us(sorted_ns, 0.99),
      percentile_us(sorted_ns, 0.999), major, minor, patch);
  std::printf("\"distribution\":[");
  print_distribution(sorted_ns);
  std::printf("]}\n");
}

void run(const Arguments& arguments) {
  Load load(arguments.load);
  const auto seconds = [](double s) {
    return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(s));
  };
  load.run(seconds(arguments.warmup_s), UINT64_MAX);
  announce("start");
  LoadResult result = load.run(seconds(arguments.seconds), arguments.requests_max);
  announce("end");
  print_result(std::move(result));
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
