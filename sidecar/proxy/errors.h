// The errors this sidecar decides on, each with where, by which rule, and what to do.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "common/base/code.h"
#include "sidecar/proxy/events.h"

namespace mesh::proxy {

// Makes outcomes that carry this sidecar's name as the hop.
class Rejector {
 public:
  explicit Rejector(std::string hop) : hop_(std::move(hop)) {}

  Outcome reject(Code code, std::string_view service, std::string_view stage, std::string_view rule, std::string text,
                 std::string_view hint) const {
    auto error = std::make_unique<Error>();
    error->code = code;
    error->text = std::move(text);
    error->service = service;
    error->hop = hop_;
    error->stage = stage;
    error->rule = rule;
    error->hint = hint;
    return Outcome{.code = code, .error = std::move(error), .payload = {}};
  }
  // The same of an error that a parser of the request gave.
  Outcome reject(std::unique_ptr<Error> error, std::string_view stage) const {
    error->hop = hop_;
    if (error->stage.empty()) error->stage = stage;
    if (error->hint.empty()) error->hint = "see proto/README.md";
    const Code code = error->code;
    return Outcome{.code = code, .error = std::move(error), .payload = {}};
  }
  const std::string& hop() const { return hop_; }

 private:
  std::string hop_;
};

}  // namespace mesh::proxy
