#!/usr/bin/env bash
# Formatting, lint, types and tests, in the environment that it makes.
#
#   bash launch/test.sh [PYTEST ARGUMENTS]    such as tests/losses -k ipo
set -uo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

case "${1:-}" in
  -h | --help)
    show_help
    exit 0
    ;;
esac

prepare_environment huggingface seqio test
cd "$ROOT"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" # pytest runs two processes

failed=()
check() {
  echo "== $1"
  "${@:2}" || failed+=("$1")
}

check format ruff format --check .
check lint ruff check .
check types pyright --pythonpath "$VIRTUAL_ENV/bin/python"
check tests pytest -n 2 --dist worksteal -q --durations=5 "$@"

if [ "${#failed[@]}" -gt 0 ]; then
  echo "failed: ${failed[*]}" >&2
  exit 1
fi
