// Completion scripts for shells, from the words that the program knows.
#pragma once

#include <string>
#include <vector>

namespace mesh::ctl {

struct OptionWords {
  std::vector<std::string> names;  // with their dashes: "-c", "--config"
  std::string about;
  bool takes_value = false;
  bool value_may_miss = false;  // "--slowest" alone means a default
};

// A program or one of its subcommands.
struct CommandWords {
  std::string name;  // empty for the program itself
  std::string about;
  std::vector<OptionWords> options;
  std::vector<std::string> choices;  // what its first argument may be, where that is a closed set
  std::vector<CommandWords> subcommands;
};

// For "bash", "zsh" or "fish"; empty for any other. Options of the program itself are offered behind every subcommand.
std::string completion_script(const std::string& shell, const CommandWords& program);

}  // namespace mesh::ctl
