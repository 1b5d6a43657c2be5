# Sourced by the commands beside it: the Python environment and the Debian packages they need.
# Messages go to stderr: what a command prints on stdout (a token, say) stands alone.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
PYTHON=$ROOT/.venv/bin/python

say() { printf '%s\n' "$*" >&2; }

find_python() {
  local name
  for name in python3.11 python3.12 python3.13 python3; do
    if command -v "$name" >/dev/null && "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$name"
      return
    fi
  done
  say "Touchstone needs Python 3.11 or newer, and there is none on this machine: install python3.11, then run this again."
  exit 1
}

# prepare FILE: .venv holds everything that requirements file FILE pins. Two at once wait for each other.
prepare() {
  (
    flock 9
    local python stamp
    stamp=$(cat "$ROOT"/requirements*.txt | sha256sum | cut -d' ' -f1)
    if [ "$(cat "$ROOT/.venv/installed-$1" 2>/dev/null)" = "$stamp" ]; then exit 0; fi
    if ! "$PYTHON" -m pip --version >/dev/null 2>&1; then
      python=$(find_python)
      "$python" -c 'import ensurepip, venv' 2>/dev/null || packages "the Python environment" python3-venv
      say "Making .venv with $python …"
      "$python" -m venv --clear "$ROOT/.venv" >&2
    fi
    say "Installing the packages that $1 pins …"
    "$PYTHON" -m pip install --quiet --disable-pip-version-check -r "$ROOT/$1" >&2
    printf '%s\n' "$stamp" >"$ROOT/.venv/installed-$1"
  ) 9<"$ROOT"
}

# packages WHY NAME…: Debian packages, installed when we are root, else named in one line. Never fatal.
packages() {
  local why=$1 name missing=()
  shift
  command -v dpkg-query >/dev/null || return 0
  for name in "$@"; do
    dpkg-query -W -f='${Status}' "$name" 2>/dev/null | grep -q 'ok installed' || missing+=("$name")
  done
  if [ ${#missing[@]} -eq 0 ]; then return 0; fi
  if [ "$(id -u)" -ne 0 ]; then
    say "For $why, run: sudo apt-get install -y --no-install-recommends ${missing[*]}"
    return 0
  fi
  say "Installing for $why: ${missing[*]} …"
  (
    flock 9
    # Without this, Debian's PostgreSQL package makes and starts a server of its own.
    mkdir -p /etc/postgresql-common/createcluster.d
    echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.d/touchstone.conf
    export DEBIAN_FRONTEND=noninteractive
    install=(apt-get install -y -qq --no-install-recommends "${missing[@]}")
    "${install[@]}" >/dev/null 2>&1 || { apt-get update -qq >/dev/null 2>&1 && "${install[@]}" >/dev/null 2>&1; }
  ) 9<"$ROOT/bin" || say "They could not be installed; going on without: ${missing[*]}"
}
