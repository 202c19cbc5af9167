// Declarations and lookups in any order: the table answers what a plain list of them does.
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

#include "common/base/check.h"
#include "common/base/limits.h"
#include "common/contract/contract.h"

using namespace mesh;

namespace {

class Bytes {
 public:
  Bytes(const uint8_t* data, size_t size) : at_(data), end_(data + size) {}
  bool done() const { return at_ == end_; }
  uint8_t next() { return done() ? 0 : *at_++; }
  std::string name() { return std::string(1 + next() % 2, static_cast<char>('a' + next() % 3)); }
  contract::Declaration terms() {
    contract::Declaration terms;
    const uint8_t which = next();
    if (which & 1) terms.budget_ms = 1 + next();
    if (which & 2) terms.priority = static_cast<Priority>(next() % 4);
    if (which & 4) terms.max_bytes = 1 + next() * 1000;
    if (which & 8) terms.linger_ms = next();
    if (which & 16) terms.linger_count = 1 + next();
    return terms;
  }

 private:
  const uint8_t* at_;
  const uint8_t* end_;
};

template <class Value, class Field>
Value first_of(const contract::Declaration* method, const contract::Declaration* service, Field field,
               Value otherwise) {
  if (method != nullptr && (method->*field).has_value()) return *(method->*field);
  if (service != nullptr && (service->*field).has_value()) return *(service->*field);
  return otherwise;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Bytes bytes(data, size);
  contract::Table table;
  std::map<std::string, contract::Declaration> services;
  std::map<std::pair<std::string, std::string>, contract::Declaration> methods;
  std::map<std::string, std::vector<std::string>> fields;
  while (!bytes.done()) {
    const uint8_t what = bytes.next() % 4;
    const std::string service = bytes.name();
    if (what == 0) {
      table.declare_service(service, services[service] = bytes.terms());
    } else if (what == 1) {
      const std::string method = bytes.name();
      table.declare_method(service, method, methods[{service, method}] = bytes.terms());
    } else if (what == 2) {
      fields[service] = bytes.next() % 2 == 0 ? std::vector<std::string>{} : std::vector<std::string>{bytes.name()};
      table.declare_naming(service, {.fields = fields[service]});
    }
    const std::string method = bytes.name();
    const contract::Terms terms = table.lookup(service, method);
    using D = contract::Declaration;
    const D* by_service = services.contains(service) ? &services[service] : nullptr;
    const D* by_method = methods.contains({service, method}) ? &methods[{service, method}] : nullptr;
    MESH_CHECK(terms.budget_ms == first_of(by_method, by_service, &D::budget_ms, int64_t{limits::dropin_budget_ms}));
    MESH_CHECK(terms.priority == first_of(by_method, by_service, &D::priority, Priority::kNormal));
    MESH_CHECK(terms.max_bytes == first_of(by_method, by_service, &D::max_bytes, uint64_t{limits::dropin_body_bytes}));
    MESH_CHECK(terms.linger_ms == first_of(by_method, by_service, &D::linger_ms, int64_t{0}));
    MESH_CHECK(terms.linger_count ==
               first_of(by_method, by_service, &D::linger_count, uint32_t{limits::batch_envelopes_max}));
    MESH_CHECK(table.largest_bytes(service) >= terms.max_bytes || by_method != nullptr);
    bool has_methods = false;
    for (const auto& [key, declared] : methods) has_methods = has_methods || key.first == service;
    const bool is_read = has_methods && (!fields.contains(service) || !fields[service].empty());
    MESH_CHECK((table.naming(service) != nullptr) == is_read);
    if (is_read && fields.contains(service)) MESH_CHECK(table.naming(service)->fields == fields[service]);
  }
  return 0;
}
