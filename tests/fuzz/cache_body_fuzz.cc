// Two bodies, read for the key of what is kept, and as a reply that repeats something. The oracle is another JSON
// parser.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "common/base/check.h"
#include "common/cache/reply.h"
#include "common/cache/request.h"

using namespace mesh;
using Json = nlohmann::json;

namespace {

// As far as it counts for the key; null where it is no JSON.
Json meaning_of(std::string_view body, const contract::CacheTerms& terms) {
  Json json = Json::parse(body, nullptr, false);
  if (!json.is_object()) return nullptr;
  for (const std::string& field : terms.ignore_fields) json.erase(field);
  for (const std::string& field : terms.echo_fields) {
    // Whether it is there is for the key, what it is, is not.
    if (const auto at = json.find(field); at != json.end()) *at = at->is_structured() ? Json() : Json(true);
  }
  return json;
}

void judge_keys(cache::RequestReader& reader, std::string_view first, std::string_view second,
                const contract::CacheTerms& terms) {
  const auto key = [&](std::string_view body) {
    return reader.read({"service", "method", "", as_bytes(body), {}}, terms).key;
  };
  const cache::Key one = key(first);
  const cache::Key other = key(second);
  MESH_CHECK(key(first).text.text() == one.text.text());
  MESH_CHECK((one.text.text() == other.text.text()) == (one.hash == other.hash));
  if (first == second) MESH_CHECK(one.hash == other.hash);
  if (first == second || one.hash != other.hash) return;
  // Whoever is given the other's reply asked for the same.
  const Json meant = meaning_of(first, terms);
  MESH_CHECK(meant.is_object());
  MESH_CHECK(meant == meaning_of(second, terms));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static cache::RequestReader requests;
  static cache::ReplyReader replies;
  contract::CacheTerms terms;
  terms.echo_fields = {"id"};
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const size_t middle = std::min(text.find('\n'), size);
  const std::string_view first = text.substr(0, middle);
  const std::string_view second = text.substr(std::min(middle + 1, size));
  judge_keys(requests, first, second, terms);

  const auto asked = requests.read({"service", "method", "", as_bytes(first), {}}, terms);
  const cache::Reply reply = replies.read(as_bytes(second), terms, asked.echoes);
  const Slice kept = Slice::copy_of(second);
  const Slice given = cache::with_echoes(kept, reply.echoes, {R"("new \" one")"});
  const bool is_json = Json::accept(second);
  if (is_json && second.find_first_not_of(" \t\r\n") != std::string_view::npos) {
    MESH_CHECK(Json::accept(given.text()));  // what is put in breaks nothing
  }
  if (reply.echoes.empty()) MESH_CHECK(given.text() == second);
  return 0;
}
