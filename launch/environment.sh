# Sourced by the scripts of this folder, from bash. Defines ROOT and
#   prepare_environment [EXTRA ...]
# which makes .venv when it is missing, installs dap with these extras of
# setup.py at the versions of requirements.lock, and puts it on PATH. A second
# call with the same files and extras installs nothing.
#   prepare_end NAME RESOLUTION PYTHON...
# which makes .venv-NAME anew, with versions at one end of setup.py's ranges.
#
# DAP_VENV=DIRECTORY  puts the environment elsewhere, .venv-NAME at
#                     DIRECTORY-NAME.
# PYTHON=COMMAND      makes it with this Python instead of the first found.

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

fail() {
  printf '%s\n' "$@" >&2
  exit 2
}

# Prints the comment at the top of the script that is running.
show_help() {
  sed -n '2,/^\(set\|source\) /{/^\(set\|source\) /d;s/^# \{0,1\}//;p;}' "$0"
}

# find_python COMMAND...: prints the first that is new enough.
find_python() {
  local candidate version found=''
  for candidate in ${PYTHON:-"$@"}; do
    version="$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' \
      2> /dev/null)" || continue
    found="$found $candidate ($version)"
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
      echo "$candidate"
      return
    fi
  done
  fail "dap needs Python 3.11 or newer; found:${found:- none}." \
    'Install one (Debian and Ubuntu: apt install python3.11 python3.11-venv;' \
    'macOS: brew install python@3.12), or name it: PYTHON=/path/to/python3.12'
}

# make_environment DIRECTORY PYTHON...: an empty one, of the first new enough.
make_environment() {
  local venv="$1" python
  python="$(find_python "${@:2}")" || exit 2
  echo "Making $venv with $python."
  "$python" -m venv --clear "$venv" || fail \
    "\`$python -m venv\` failed: its message is above." \
    'On Debian and Ubuntu: apt install python3-venv, then start again.'
}

enter_environment() {
  export PATH="$1/bin:$PATH" VIRTUAL_ENV="$1"
  unset PYTHONHOME
  use_huge_pages
}

prepare_environment() {
  local venv="${DAP_VENV:-$ROOT/.venv}" stamp wanted extras
  if ! "$venv/bin/python" -c '' 2> /dev/null; then
    make_environment "$venv" python3 python3.13 python3.12 python3.11 python
  fi
  stamp="$venv/dap-installed"
  # What was installed for another script stays, so extras only add up.
  extras="$(printf '%s\n' "$@" $(sed -n 's/^extras: //p' "$stamp" 2> /dev/null) \
    | sort -u | tr '\n' ' ' | sed 's/^ *//; s/ *$//')"
  wanted="$(cd "$ROOT" && "$venv/bin/python" - setup.py pyproject.toml \
    requirements.lock << 'HASH'
import hashlib, pathlib, sys
files = b''.join(pathlib.Path(name).read_bytes() for name in sys.argv[1:])
print(hashlib.sha256(files + sys.version.encode()).hexdigest(), pathlib.Path.cwd())
HASH
)
extras: $extras"
  if [ "$(cat "$stamp" 2> /dev/null)" != "$wanted" ]; then
    echo "Installing dap${extras:+ with $extras} into $venv (1 to 3 minutes)."
    rm -f "$stamp"
    (cd "$ROOT" && "$venv/bin/python" -m pip install --quiet --quiet \
      --disable-pip-version-check --constraint requirements.lock \
      --editable ".${extras:+[${extras// /,}]}") || fail \
      'The installation failed: the reason is above.' \
      'Without a network, point pip at a mirror (PIP_INDEX_URL or' \
      'PIP_FIND_LINKS); with a full disk, free 4 GB. Then start again.'
    echo "$wanted" > "$stamp"
  fi
  enter_environment "$venv"
}

# RESOLUTION is uv's: highest, or lowest-direct, which is the lowest of what
# setup.py names and the newest that goes with it of all else.
prepare_end() {
  local venv="${DAP_VENV:-$ROOT/.venv}-$1"
  make_environment "$venv" "${@:3}"
  echo "Installing dap and the $1 versions that setup.py allows into $venv."
  (cd "$ROOT" && "$venv/bin/python" -m pip install --quiet --quiet \
    --disable-pip-version-check uv && "$venv/bin/python" -m uv pip install \
    --quiet --python "$venv/bin/python" --resolution "$2" \
    --editable '.[test]') || fail \
    'The installation failed: the reason is above.' \
    'Without a network, point both pip and uv at a mirror (PIP_INDEX_URL and' \
    'UV_DEFAULT_INDEX); with a full disk, free 4 GB. Then start again.'
  enter_environment "$venv"
}

# Fewer page faults in large arrays on a CPU (glibc only; read at start).
use_huge_pages() {
  case "${GLIBC_TUNABLES:-}" in
    *glibc.malloc.hugetlb=*) ;;
    *)
      GLIBC_TUNABLES="${GLIBC_TUNABLES:+$GLIBC_TUNABLES:}glibc.malloc.hugetlb=1"
      export GLIBC_TUNABLES
      ;;
  esac
}

# run_here EXTRA... -- COMMAND...: what cpu.sh, gpu.sh and tpu.sh share.
#   MESH='(4, 2)'       data x model devices; without it all are on the data axis
#   WORK_DIR=DIRECTORY  where relative paths of outputs go; without it, here
run_here() {
  local extras=()
  while [ "$1" != -- ]; do
    extras+=("$1")
    shift
  done
  shift
  prepare_environment ${extras[@]+"${extras[@]}"} # bash 3.2: [@] of none fails
  if [ -n "${WORK_DIR:-}" ]; then
    mkdir -p "$WORK_DIR" && cd "$WORK_DIR" || fail \
      "WORK_DIR=$WORK_DIR: give a directory that you may write to."
  fi
  exec dap "$@" ${MESH:+"--gin.MESH=$MESH"}
}
