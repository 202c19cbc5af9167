// What a method allows, as one validated table.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "common/base/priority.h"
#include "common/contract/method.h"

namespace mesh::contract {

// Effective terms of a call; always complete.
struct Terms {
  int64_t budget_ms = 0;
  Priority priority = Priority::kNormal;
  uint64_t max_bytes = 0;  // of the request's body and of the reply's
  // How long a request may wait for company on its way to another host, and for how much of it.
  int64_t linger_ms = 0;
  uint32_t linger_count = 1;
};

// What one entry says; what it leaves out comes from the service's entry, then from the defaults.
struct Declaration {
  std::optional<int64_t> budget_ms{};
  std::optional<Priority> priority{};
  std::optional<uint64_t> max_bytes{};
  std::optional<int64_t> linger_ms{};
  std::optional<uint32_t> linger_count{};
};

class Table {
 public:
  void declare_service(std::string service, Declaration terms);
  void declare_method(std::string service, std::string method, Declaration terms);

  void declare_naming(std::string service, MethodNaming naming);

  // How the service's requests name their method; null where that makes no difference, as no method is declared.
  const MethodNaming* naming(std::string_view service) const;
  // The largest body that any method of the service takes.
  uint64_t largest_bytes(std::string_view service) const;
  // Method before service before defaults. Unknown names get the defaults.
  Terms lookup(std::string_view service, std::string_view method) const;

 private:
  struct Service {
    Declaration terms;
    MethodNaming naming;
    std::map<std::string, Declaration, std::less<>> methods;
  };
  std::map<std::string, Service, std::less<>> services_;
};

}  // namespace mesh::contract
