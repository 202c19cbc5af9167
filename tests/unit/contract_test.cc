#include "common/contract/contract.h"

#include <doctest/doctest.h>

#include "common/base/limits.h"

namespace mesh::contract {
namespace {

Table table() {
  Table table;
  table.declare_service("translation", {.budget_ms = 4000, .priority = Priority::kBatch, .max_bytes = 1000});
  table.declare_method("translation", "translate", {.budget_ms = 3000, .priority = {}, .max_bytes = {}});
  table.declare_method("vision", "caption", {.budget_ms = {}, .priority = Priority::kInteractive, .max_bytes = {}});
  return table;
}

TEST_CASE("a service nobody declared gets the defaults of a drop-in port") {
  const Terms terms = table().lookup("unheard-of", "translate");
  CHECK(terms.budget_ms == limits::dropin_budget_ms);
  CHECK(terms.priority == Priority::kNormal);
  CHECK(terms.max_bytes == limits::dropin_body_bytes);
}

TEST_CASE("what a method leaves out comes from its service") {
  const Terms terms = table().lookup("translation", "translate");
  CHECK(terms.budget_ms == 3000);
  CHECK(terms.priority == Priority::kBatch);
  CHECK(terms.max_bytes == 1000);
}

TEST_CASE("a method nobody declared, and no method at all, get the service's terms") {
  for (const char* method : {"detect", ""}) {
    const Terms terms = table().lookup("translation", method);
    CHECK(terms.budget_ms == 4000);
    CHECK(terms.priority == Priority::kBatch);
    CHECK(terms.max_bytes == 1000);
  }
}

TEST_CASE("a method may be declared without its service, and the rest are defaults") {
  const Terms terms = table().lookup("vision", "caption");
  CHECK(terms.budget_ms == limits::dropin_budget_ms);
  CHECK(terms.priority == Priority::kInteractive);
  CHECK(terms.max_bytes == limits::dropin_body_bytes);
}

TEST_CASE("a method's terms do not leak to the same method of another service") {
  CHECK(table().lookup("vision", "translate").budget_ms == limits::dropin_budget_ms);
}

TEST_CASE("a service may be declared after its methods") {
  Table late;
  late.declare_method("tts", "say", {.budget_ms = 700, .priority = {}, .max_bytes = {}});
  late.declare_service("tts", {.budget_ms = 900, .priority = {}, .max_bytes = 5});
  CHECK(late.lookup("tts", "say").budget_ms == 700);
  CHECK(late.lookup("tts", "say").max_bytes == 5);
  CHECK(late.lookup("tts", "").budget_ms == 900);
}

}  // namespace
}  // namespace mesh::contract
