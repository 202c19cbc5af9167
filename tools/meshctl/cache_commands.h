// What the subcommands of "meshctl cache" do.
#pragma once

#include <cstdint>
#include <string>

#include "tools/meshctl/commands.h"

namespace mesh::ctl {

struct CacheOptions {
  std::string service;
  std::string method;
  std::string tag;
  std::string key;
  bool all = false;
  uint64_t limit = 20;
  bool with_body = false;
  std::string call;  // empty: the newest
  bool newest = false;
};

// As those of commands.h.
int run_cache_stats(const Options& options);
int run_cache_keys(const Options& options, const CacheOptions& cache);
int run_cache_get(const Options& options, const CacheOptions& cache);
int run_cache_purge(const Options& options, const CacheOptions& cache);
int run_cache_why(const Options& options, const CacheOptions& cache);

}  // namespace mesh::ctl
