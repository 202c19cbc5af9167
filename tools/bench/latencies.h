// What a load says when it is done, and how it tells its starter what it is about to do.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace mesh::bench {

// Prints the word and waits for a line on stdin, so that the cost of other processes can be read off exactly around the
// timed part. Throws std::runtime_error when the starter is gone.
void announce(const char* word);

// One line of JSON: requests, seconds, percentiles, and the distribution. `from` says of what the client is made.
void print_latencies(std::vector<uint32_t> latencies_ns, double seconds, const std::string& from);

}  // namespace mesh::bench
