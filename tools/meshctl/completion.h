// Completion scripts for shells, from the words that the program knows.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace mesh::ctl {

// Words behind the program's name, by subcommand; "" for those before any.
using Words = std::map<std::string, std::vector<std::string>>;

// For "bash", "zsh" or "fish"; empty for any other.
std::string completion_script(const std::string& shell, const Words& words);

}  // namespace mesh::ctl
