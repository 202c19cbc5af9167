// Which method a body asks for, as agents that already exist write it.
//
// Their dialects: {"action": "translate", …}, {"command": "LOAD_MODEL", "payload": {…}}, a field "type" or
// "request_type", and bare words such as ping or health_check. The body itself is never touched.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/slice.h"

namespace mesh::contract {

// How a service's requests name their method.
struct MethodNaming {
  // Top-level fields of a JSON object; of those that are texts the first of this list counts. Empty: bodies are not
  // read.
  std::vector<std::string> fields = {"action", "command", "type", "request_type"};
};

// For the method of a body that says which it wants, but not so that it can be read: broken JSON, or more than one
// frame that is a JSON object. No method may be meant; see Table::lookup().
inline constexpr std::string_view kUnreadableMethod = "?";

// Reads as far as the field is that it looks for, however large the body. Keeps its buffers from body to body.
class MethodReader {
 public:
  MethodReader();
  ~MethodReader();
  MethodReader(const MethodReader&) = delete;
  MethodReader& operator=(const MethodReader&) = delete;

  // The method's name, 1 to limits::name_bytes printable bytes of UTF-8; empty if the body names none, or is neither a
  // JSON object nor a bare word. Any bytes will do. Valid until the next call of this.
  std::string_view read(ByteView body, const MethodNaming& naming);
  // Of a body of several frames that one is read which is a JSON object.
  std::string_view read(std::span<const Slice> frames, const MethodNaming& naming);

  // The idempotency key in a top-level field: a text of 1 to limits::name_bytes printable bytes, or a whole number as
  // it is written. Nothing if there is no such field; empty if what it holds, or the body, cannot be taken for a key.
  // Valid until the next call of this; what read() gave stays.
  std::optional<std::string_view> read_key(ByteView body, std::string_view field);
  std::optional<std::string_view> read_key(std::span<const Slice> frames, std::string_view field);

  // What of a JSON object is left without the top-level fields of these names, as it is written: pieces of the body.
  // False if it cannot be read.
  bool leave_out(ByteView body, std::span<const std::string_view> fields, std::vector<std::string_view>& pieces);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace mesh::contract
