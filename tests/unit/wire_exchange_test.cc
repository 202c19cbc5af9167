// proto/README.md shows one exchange in hex; here it is held against the code, byte for byte.
#include <doctest/doctest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "common/wire/batch.h"

#ifndef MESH_PROTO_README
#error "MESH_PROTO_README must be the path of proto/README.md"
#endif

namespace mesh::wire {
namespace {

// The bytes of the block that is fenced as "```hex NAME"; what stands behind '#' is for people.
std::string documented(const std::string& name) {
  std::ifstream readme(MESH_PROTO_README);
  REQUIRE_MESSAGE(readme.good(), MESH_PROTO_README);
  std::string bytes;
  bool inside = false;
  for (std::string line; std::getline(readme, line);) {
    if (inside && line == "```") return bytes;
    if (inside) {
      std::istringstream words(line.substr(0, line.find('#')));
      for (std::string hex; words >> hex;) bytes += static_cast<char>(std::strtoul(hex.c_str(), nullptr, 16));
    }
    inside = inside || line == "```hex " + name;
  }
  FAIL("no such block: ", name);
  return bytes;
}

std::string encoded(const Envelope& envelope) {
  BatchEncoder encoder;
  encoder.add(envelope);
  const auto frames = encoder.seal(nullptr);
  REQUIRE(frames.size() == 1);
  return std::string(frames.front().text());
}

TEST_CASE("the documented request is what is sent and what is understood") {
  Envelope envelope;
  envelope.call_id = 300;
  envelope.service = "translation";
  envelope.method = "translate";
  envelope.budget_us = 4'480'000;
  envelope.priority = Priority::kInteractive;
  envelope.body = Slice::copy_of(R"({"action":"translate","text":"hello"})");
  const std::string bytes = documented("request");
  CHECK(encoded(envelope) == bytes);

  const Slice frame = Slice::copy_of(bytes);
  BatchDecoder decoder;
  REQUIRE(decoder.begin({&frame, 1}));
  const Envelope* decoded = decoder.next().value();
  REQUIRE(decoded != nullptr);
  CHECK(decoded->kind == Kind::kRequest);
  CHECK(decoded->call_id == 300);
  CHECK(decoded->service == "translation");
  CHECK(decoded->budget_us == 4'480'000);
  CHECK(decoded->priority == Priority::kInteractive);
  CHECK(decoded->body.text() == envelope.body.text());
  CHECK(decoder.next().value() == nullptr);
}

TEST_CASE("the documented reply is what is sent and what is understood") {
  Envelope envelope;
  envelope.kind = Kind::kReply;
  envelope.call_id = 300;
  envelope.body = Slice::copy_of(R"({"status":"ok","text":"hola"})");
  const std::string bytes = documented("reply");
  CHECK(encoded(envelope) == bytes);

  const Slice frame = Slice::copy_of(bytes);
  BatchDecoder decoder;
  REQUIRE(decoder.begin({&frame, 1}));
  const Envelope* decoded = decoder.next().value();
  REQUIRE(decoded != nullptr);
  CHECK(decoded->kind == Kind::kReply);
  CHECK(decoded->call_id == 300);
  CHECK(decoded->code == Code::kOk);
  CHECK(decoded->body.text() == envelope.body.text());
}

}  // namespace
}  // namespace mesh::wire
