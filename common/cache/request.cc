#include "common/cache/request.h"

#include <simdjson.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <optional>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "common/base/limits.h"
#include "common/cache/json_text.h"

namespace mesh::cache {
namespace {

namespace dom = simdjson::dom;

// A new parser is cheaper than one that keeps the memory of a rare large body.
constexpr size_t kKeptBodyBytes = 64 * limits::KiB;

bool contains(const std::vector<std::string>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace

uint64_t name_hash(std::string_view service, std::string_view name) {
  return XXH3_64bits_withSeed(name.data(), name.size(), XXH3_64bits(service.data(), service.size()));
}

struct RequestReader::State {
  struct Member {
    std::string_view name;
    dom::element value;
  };
  std::unique_ptr<dom::parser> parser;
  std::vector<Member> members;  // of all objects that are being written, the innermost last
  std::string text;

  std::optional<dom::object> parse(ByteView body) {
    if (body.size() > limits::canonical_body_bytes || !begins_object(as_text(body))) return std::nullopt;
    if (!parser) {
      parser = std::make_unique<dom::parser>(limits::canonical_body_bytes);
    }
    if (parser->max_depth() != limits::json_depth_max || parser->capacity() < body.size()) {
      if (parser->allocate(std::max(body.size(), 4 * limits::KiB), limits::json_depth_max) != simdjson::SUCCESS)
        return std::nullopt;
    }
    dom::object object;
    if (parser->parse(body.data(), body.size(), true).get(object) != simdjson::SUCCESS) return std::nullopt;
    return object;
  }
  void end(ByteView body) {
    if (body.size() <= kKeptBodyBytes) return;
    parser.reset();
    members = {};
    text = {};
  }

  void put(char tag) { text += tag; }
  void put_number(uint64_t number) {
    for (; number >= 0x80; number >>= 7) text += static_cast<char>(number | 0x80);
    text += static_cast<char>(number);
  }
  void put_text(std::string_view piece) {
    put_number(piece.size());
    text += piece;
  }
  void put_bits(char tag, uint64_t bits) {
    put(tag);
    text.append(reinterpret_cast<const char*>(&bits), sizeof bits);
  }
  bool put_value(const dom::element& value);
  bool put_object(const dom::object& object, const contract::CacheTerms* terms);
  bool put_members(size_t first);
};

// Each form begins with a letter of its own and says how long it is: no two values are written alike.
bool RequestReader::State::put_value(const dom::element& value) {
  switch (value.type()) {
    case dom::element_type::OBJECT:
      return put_object(dom::object(value), nullptr);
    case dom::element_type::ARRAY: {
      put('a');
      const dom::array array(value);
      size_t count = 0;
      for ([[maybe_unused]] const dom::element item : array) ++count;
      put_number(count);
      for (const dom::element item : array) {
        if (!put_value(item)) return false;
      }
      return true;
    }
    case dom::element_type::STRING:
      put('s');
      put_text(std::string_view(value));
      return true;
    case dom::element_type::INT64:
      put_bits('i', std::bit_cast<uint64_t>(int64_t(value)));
      return true;
    case dom::element_type::UINT64:
      put_bits('u', uint64_t(value));
      return true;
    case dom::element_type::DOUBLE:
      put_bits('d', std::bit_cast<uint64_t>(double(value)));
      return true;
    case dom::element_type::BOOL:
      put(bool(value) ? 't' : 'f');
      return true;
    case dom::element_type::NULL_VALUE:
      put('n');
      return true;
  }
  return false;
}

// With terms: the body itself, of which not all fields count.
bool RequestReader::State::put_object(const dom::object& object, const contract::CacheTerms* terms) {
  const size_t first = members.size();
  for (const dom::key_value_pair member : object) {
    if (terms != nullptr) {
      const bool counts = terms->key_fields.empty()
                              ? !contains(terms->ignore_fields, member.key) && !contains(terms->echo_fields, member.key)
                              : contains(terms->key_fields, member.key);
      if (!counts) continue;
    }
    members.push_back({member.key, member.value});
  }
  const bool is_written = put_members(first);
  members.resize(first);
  return is_written;
}

bool RequestReader::State::put_members(size_t first) {
  const auto begin = members.begin() + static_cast<std::ptrdiff_t>(first);
  std::sort(begin, members.end(), [](const Member& a, const Member& b) { return a.name < b.name; });
  const auto same = [](const Member& a, const Member& b) { return a.name == b.name; };
  // Which of two counts is for the agent to say.
  if (std::adjacent_find(begin, members.end(), same) != members.end()) return false;
  const size_t end = members.size();
  put('o');
  put_number(end - first);
  for (size_t i = first; i < end; ++i) {
    put_text(members[i].name);
    const dom::element value = members[i].value;
    if (!put_value(value)) return false;
  }
  return true;
}

namespace {

// As it stands in a name, and as JSON.
std::optional<std::string> scalar_text(const dom::object& object, std::string_view field) {
  dom::element value;
  if (object.at_key(field).get(value) != simdjson::SUCCESS) return std::nullopt;
  if (value.is_object() || value.is_array() || value.is_null()) return std::nullopt;
  if (value.is_string()) return std::string(std::string_view(value));
  return simdjson::minify(value);
}
std::string scalar_json(const dom::object& object, std::string_view field) {
  dom::element value;
  if (object.at_key(field).get(value) != simdjson::SUCCESS || value.is_object() || value.is_array()) return {};
  return simdjson::minify(value);
}

bool add_tags(const Asked& asked, const dom::object* object, const std::vector<contract::TagPattern>& patterns,
              std::vector<uint64_t>& tags) {
  bool is_complete = true;
  std::string name;
  for (const contract::TagPattern& pattern : patterns) {
    name.clear();
    bool is_named = true;
    for (size_t i = 0; i < pattern.parts.size() && is_named; ++i) {
      if (i % 2 == 0) {
        name += pattern.parts[i];
        continue;
      }
      const auto value = object != nullptr ? scalar_text(*object, pattern.parts[i]) : std::nullopt;
      is_named = value.has_value();
      if (is_named) name += *value;
    }
    is_complete &= is_named;
    if (is_named) tags.push_back(name_hash(asked.service, name));
  }
  return is_complete;
}

}  // namespace

RequestReader::RequestReader() : state_(std::make_unique<State>()) {}
RequestReader::~RequestReader() = default;

Request RequestReader::read(const Asked& asked, const contract::CacheTerms& terms) {
  Request request;
  State& state = *state_;
  state.text.clear();
  state.put_text(asked.service);
  state.put_text(asked.method);
  state.put_text(terms.version);
  state.put_text(asked.caller);
  const size_t body_at = state.text.size();
  const auto object = asked.part_sizes.empty() ? state.parse(asked.body) : std::nullopt;
  if (object) {
    for (const std::string& field : terms.echo_fields) {
      request.echoes.push_back(scalar_json(*object, field));
      // Whether there is one to be repeated tells two requests apart, not which.
      state.put(request.echoes.back().empty() ? '-' : '+');
    }
  }
  if (!object || !state.put_object(*object, &terms)) {
    state.text.resize(body_at);
    request.echoes.clear();
    request.is_by_bytes = true;
    state.put('r');
    state.put_number(asked.part_sizes.size());
    for (const uint32_t size : asked.part_sizes) state.put_number(size);
    state.text += as_text(asked.body);
  }
  request.lacks_tag = !add_tags(asked, object ? &*object : nullptr, terms.tags, request.tags);
  const XXH128_hash_t hash = XXH3_128bits(state.text.data(), state.text.size());
  request.key = {{hash.low64, hash.high64}, Slice::copy_of(state.text)};
  state.end(asked.body);
  return request;
}

bool RequestReader::read_tags(const Asked& asked, const std::vector<contract::TagPattern>& patterns,
                              std::vector<uint64_t>& tags) {
  const auto object = asked.part_sizes.empty() ? state_->parse(asked.body) : std::nullopt;
  const bool is_complete = add_tags(asked, object ? &*object : nullptr, patterns, tags);
  state_->end(asked.body);
  return is_complete;
}

}  // namespace mesh::cache
