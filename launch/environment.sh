# Sourced by the scripts of this folder, from bash. Defines ROOT and
#   prepare_environment [EXTRA ...]
# which makes .venv when it is missing, installs dap with these extras of
# setup.py at the versions of requirements.lock, and puts it on PATH. A second
# call with the same files and extras installs nothing.
#
# DAP_VENV=DIRECTORY  puts the environment elsewhere.
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

# Prints the first Python that is new enough.
find_python() {
  local candidate version found=''
  for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python}; do
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

prepare_environment() {
  local venv="${DAP_VENV:-$ROOT/.venv}" python stamp wanted extras
  if ! "$venv/bin/python" -c '' 2> /dev/null; then
    python="$(find_python)" || exit 2
    echo "Making $venv with $python."
    "$python" -m venv --clear "$venv" || fail \
      "\`$python -m venv\` failed: its message is above." \
      'On Debian and Ubuntu: apt install python3-venv, then start again.'
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
  export PATH="$venv/bin:$PATH" VIRTUAL_ENV="$venv"
  unset PYTHONHOME
  use_huge_pages
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
