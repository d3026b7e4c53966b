# Shared by the scripts in tools/: paths, messages, logged steps. Sourced, not run.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
DEPS=${SARDONYX_DEPS:-$ROOT/.deps}
case $DEPS in /*) ;; *) DEPS=$PWD/$DEPS ;; esac
export SARDONYX_DEPS=$DEPS
BUILD=${SARDONYX_BUILD:-$ROOT/build}
case $BUILD in /*) ;; *) BUILD=$PWD/$BUILD ;; esac
VENV=$DEPS/venv
PYTHON=$VENV/bin/python

say() { printf '== %s\n' "$*"; }

# die <line>...: prints the lines and ends the script.
die() {
  printf '%s: %s\n' "$(basename "$0")" "$1" >&2
  shift
  [ $# -eq 0 ] || printf '  %s\n' "$@" >&2
  exit 1
}

# logged <name> <command>...: runs the command with its output in $DEPS/logs/<name>.log, and shows the end
# of that file if it fails. Its exit status is the command's.
logged() {
  local log=$DEPS/logs/$1.log status=0
  shift
  mkdir -p "$DEPS/logs"
  "$@" >"$log" 2>&1 </dev/null || status=$?
  if [ $status -ne 0 ]; then
    printf -- '---- the end of %s\n' "$log" >&2
    tail -n 25 "$log" >&2
    printf -- '----\n' >&2
  fi
  return $status
}

# hash_of <string or file>...: one SHA-256 over strings and the contents of files.
hash_of() {
  local part
  for part in "$@"; do
    if [ -f "$part" ]; then cat "$part"; else printf '%s\n' "$part"; fi
  done | sha256sum | cut -d' ' -f1
}

# is_stamped <name> <hash>, stamp <name> <hash>: whether a step was finished for these very inputs.
is_stamped() { [ "$(cat "$DEPS/stamps/$1" 2>/dev/null)" = "$2" ]; }
stamp() {
  mkdir -p "$DEPS/stamps"
  printf '%s\n' "$2" >"$DEPS/stamps/$1"
}

# parallel_jobs: one a CPU, but not more than memory allows (a translation unit takes up to 1.5 GB).
parallel_jobs() {
  local cpus memory
  cpus=$(nproc)
  memory=$(awk '/^MemAvailable/ { print int($2 / 1500000) }' /proc/meminfo)
  [ "${memory:-0}" -ge 1 ] || memory=1
  if [ "$cpus" -lt "$memory" ]; then echo "$cpus"; else echo "$memory"; fi
}
