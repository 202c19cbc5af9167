# Sourced by tools/run and tools/test: sees to it that the Debian packages they need are there.
# ensure_packages YES NEED… : YES=1 asks nothing. Needs are the first column of tools/packages.txt.
# Returns 69 when packages are missing and may not be installed.

ensure_packages() {
  local yes=$1 here missing=() need name
  shift
  here=$(dirname "${BASH_SOURCE[0]}")
  while read -r need name; do
    case " $* " in *" $need "*) ;; *) continue ;; esac
    dpkg-query -W -f='${db:Status-Status}' "$name" 2>/dev/null | grep -q '^installed' || missing+=("$name")
  done < <(grep -v '^#' "$here/packages.txt")
  [ ${#missing[@]} -eq 0 ] && return 0
  local line="apt-get install --no-install-recommends ${missing[*]}"
  if [ "$(id -u)" -ne 0 ]; then
    echo "These Debian packages are missing. Install them, then run this again:" >&2
    echo "  sudo $line" >&2
    return 69
  fi
  echo "Missing Debian packages: ${missing[*]}" >&2
  if [ "$yes" != 1 ]; then
    if [ ! -t 0 ]; then
      echo "Run again with --yes to install them, or run: $line" >&2
      return 69
    fi
    read -r -p "Install them now? [y/N] " answer
    case "$answer" in [yY]*) ;; *) echo "Nothing was installed. The command is: $line" >&2; return 69 ;; esac
  fi
  export DEBIAN_FRONTEND=noninteractive
  { apt-get update -qq && $line -y -qq; } >/dev/null || { echo "apt-get failed: $line" >&2; return 69; }
}

# build_tree DIR [MESON OPTION…]: configures once, then builds what changed.
build_tree() {
  local dir=$1 log
  shift
  [ -f "$dir/build.ninja" ] || meson setup "$dir" "$@" >/dev/null || return 1
  log=$(ninja -C "$dir" 2>&1) || { printf '%s\n' "$log" | tail -n 60 >&2; return 1; }
}
