#include "tools/meshctl/completion.h"

namespace mesh::ctl {
namespace {

std::string joined(const std::vector<std::string>& words, std::string_view between = " ") {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : std::string(between)) + word;
  return text;
}

std::vector<std::string> option_names(const CommandWords& command) {
  std::vector<std::string> names;
  for (const OptionWords& option : command.options) {
    for (const std::string& name : option.names) {
      if (name.starts_with("--")) names.push_back(name);
    }
  }
  return names;
}

// Names of options behind which the next word is theirs, as a pattern of `case`.
std::string value_pattern(const CommandWords& program) {
  std::vector<std::string> names;
  const auto add = [&](const CommandWords& command) {
    for (const OptionWords& option : command.options) {
      if (option.takes_value && !option.value_may_miss)
        names.insert(names.end(), option.names.begin(), option.names.end());
    }
  };
  add(program);
  for (const CommandWords& command : program.subcommands) add(command);
  return names.empty() ? "''" : joined(names, "|");
}

std::string bash(const CommandWords& program) {
  std::vector<std::string> first = option_names(program);
  std::string cases;
  for (const CommandWords& command : program.subcommands) {
    first.push_back(command.name);
    std::vector<std::string> words = command.choices;
    for (const CommandWords* of : {&command, &program}) {
      for (const std::string& name : option_names(*of)) {
        if (name != "--help" || of == &command) words.push_back(name);
      }
    }
    cases += "    " + command.name + ") words=\"" + joined(words) + "\" ;;\n";
  }
  const std::string takes_value = value_pattern(program);
  return "_meshctl() {\n"
         "  local word command= words skip= i\n"
         "  for ((i = 1; i < COMP_CWORD; i++)); do\n"
         "    word=${COMP_WORDS[i]}\n"
         "    if [ -n \"$skip\" ]; then skip=; continue; fi\n"
         "    case $word in\n"
         "      " +
         takes_value +
         ") skip=1 ;;\n"
         "      -*) ;;\n"
         "      *) command=$word; break ;;\n"
         "    esac\n"
         "  done\n"
         "  COMPREPLY=()\n"
         "  case ${COMP_WORDS[COMP_CWORD-1]} in " +
         takes_value +
         ") return ;; esac\n"
         "  case $command in\n" +
         cases + "    '') words=\"" + joined(first) +
         "\" ;;\n"
         "  esac\n"
         "  COMPREPLY=($(compgen -W \"$words\" -- \"${COMP_WORDS[COMP_CWORD]}\"))\n"
         "}\n"
         // A file's name where no word fits: the value of --config, for one.
         "complete -o default -F _meshctl meshctl\n";
}

// In single quotes, for all three shells.
std::string quoted(std::string text) {
  for (size_t at = 0; (at = text.find('\'', at)) != std::string::npos; at += 4) text.replace(at, 1, "'\\''");
  return "'" + text + "'";
}

std::string zsh_about(std::string text) {
  std::string safe;
  for (const char c : text) {
    if (c == '[' || c == ']' || c == ':' || c == '\\') safe += '\\';
    safe += c;
  }
  return safe;
}

std::string zsh_options(const CommandWords& command) {
  std::string lines;
  for (const OptionWords& option : command.options) {
    for (const std::string& name : option.names) {
      const std::string value = !option.takes_value ? "" : option.value_may_miss ? "::value:" : ":value:_files";
      lines += " \\\n    " + quoted("*" + name + "[" + zsh_about(option.about) + "]" + value);
    }
  }
  return lines;
}

std::string zsh(const CommandWords& program) {
  std::string names;
  std::string cases;
  for (const CommandWords& command : program.subcommands) {
    names += "\n    " + quoted(command.name + ":" + zsh_about(command.about));
    cases += "    " + command.name + ") _arguments" + zsh_options(command) + zsh_options(program);
    if (!command.choices.empty()) cases += " \\\n    " + quoted("1:value:(" + joined(command.choices) + ")");
    cases += " ;;\n";
  }
  return "#compdef meshctl\n"
         "_meshctl() {\n"
         "  local context state line\n"
         "  local -a commands\n"
         "  commands=(" +
         names +
         ")\n"
         "  _arguments -C" +
         zsh_options(program) +
         " \\\n    '1:command:->command' '*::argument:->argument'\n"
         "  case $state in\n"
         "  command) _describe command commands ;;\n"
         "  argument)\n"
         "    case $line[1] in\n" +
         cases +
         "    esac ;;\n"
         "  esac\n"
         "}\n"
         // Run by the completion system from a file of its own, or sourced.
         "if [ \"$funcstack[1]\" = _meshctl ]; then _meshctl \"$@\"; else compdef _meshctl meshctl; fi\n";
}

std::string fish_options(const CommandWords& command, const std::string& when) {
  std::string lines;
  for (const OptionWords& option : command.options) {
    std::string names;
    for (const std::string& name : option.names) {
      names += name.starts_with("--") ? " -l " + name.substr(2) : " -s " + name.substr(1);
    }
    lines += "complete -c meshctl -n " + quoted(when) + names +
             (option.takes_value && !option.value_may_miss ? " -r -F" : "") + " -d " + quoted(option.about) + "\n";
  }
  return lines;
}

std::string fish(const CommandWords& program) {
  std::string script = "complete -c meshctl -f\n" + fish_options(program, "true");
  std::vector<std::string> all;
  for (const CommandWords& command : program.subcommands) all.push_back(command.name);
  for (const CommandWords& command : program.subcommands) {
    const std::string within = "__fish_seen_subcommand_from " + command.name;
    script += "complete -c meshctl -n " + quoted("not __fish_seen_subcommand_from " + joined(all)) + " -a " +
              command.name + " -d " + quoted(command.about) + "\n" + fish_options(command, within);
    if (!command.choices.empty()) {
      script += "complete -c meshctl -n " + quoted(within) + " -a " + quoted(joined(command.choices)) + "\n";
    }
  }
  return script;
}

}  // namespace

std::string completion_script(const std::string& shell, const CommandWords& program) {
  if (shell == "bash") return bash(program);
  if (shell == "zsh") return zsh(program);
  if (shell == "fish") return fish(program);
  return "";
}

}  // namespace mesh::ctl
