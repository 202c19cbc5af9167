#include "tools/meshctl/completion.h"

namespace mesh::ctl {
namespace {

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : " ") + word;
  return text;
}

std::string bash(const Words& words) {
  std::string cases;
  for (const auto& [command, known] : words) {
    if (!command.empty()) cases += "    " + command + ") words=\"" + joined(known) + "\" ;;\n";
  }
  return "_meshctl() {\n"
         "  local word command= words\n"
         "  for word in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n"
         "    case $word in -*) ;; *) command=$word; break ;; esac\n"
         "  done\n"
         "  case $command in\n" +
         cases + "    *) words=\"" + joined(words.at("")) +
         "\" ;;\n"
         "  esac\n"
         "  COMPREPLY=($(compgen -W \"$words\" -- \"${COMP_WORDS[COMP_CWORD]}\"))\n"
         "}\n"
         "complete -o default -F _meshctl meshctl\n";
}

std::string fish(const Words& words) {
  std::string script = "complete -c meshctl -f\n";
  for (const auto& [command, known] : words) {
    const std::string when = command.empty() ? "__fish_use_subcommand" : "__fish_seen_subcommand_from " + command;
    for (const std::string& word : known) {
      const std::string what = word.starts_with("--") ? "-l " + word.substr(2) : "-a " + word;
      script += "complete -c meshctl -n '" + when + "' " + what + "\n";
    }
  }
  return script;
}

}  // namespace

std::string completion_script(const std::string& shell, const Words& words) {
  if (shell == "bash") return bash(words);
  // zsh reads bash's way of completing.
  if (shell == "zsh") return "#compdef meshctl\nautoload -U +X bashcompinit && bashcompinit\n" + bash(words);
  if (shell == "fish") return fish(words);
  return "";
}

}  // namespace mesh::ctl
