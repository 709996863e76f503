#!/usr/bin/env bash
# Formatting, lint, types and tests, in the environment that it makes.
#
#   bash launch/test.sh [PYTEST ARGUMENTS]    such as tests/losses -k ipo
#   bash launch/test.sh --newest [PYTEST OPTIONS]
#   bash launch/test.sh --oldest [PYTEST OPTIONS]
#
# The last two run only the tests of losses, models, sampling, training and its
# state, at the ends of setup.py's ranges instead of requirements.lock:
#   --newest  the newest Python up to 3.13 that is found, the newest versions
#   --oldest  the oldest Python from 3.11 that is found, the lowest versions of
#             what setup.py names, the newest of what these need in turn
# Each makes an environment of its own, anew at every call: .venv-newest or
# .venv-oldest (1.3 GB; uv, which it fetches, keeps as much in its cache).
#
# DAP_VENV=DIRECTORY  puts it elsewhere: DIRECTORY, DIRECTORY-newest, -oldest.
# PYTHON=COMMAND      makes it with this Python instead of the one found.
set -uo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" # pytest runs two processes

# The tests that depend most on the versions of jax, flax and optax. A pattern
# that matches nothing stays as it is, and pytest refuses it.
test_end() {
  cd "$ROOT" || exit 2
  python --version
  python -m uv pip list --quiet --format freeze \
    | grep -E '^(flax|jax|jaxlib|numpy|optax|orbax-checkpoint)=='
  exec pytest -n 2 --dist worksteal -q --durations=5 tests/losses tests/models \
    tests/sampling tests/train* tests/*/state_test.py "$@"
}

case "${1:-}" in
  -h | --help)
    show_help
    exit 0
    ;;
  --newest)
    prepare_end newest highest python3.13 python3.12 python3.11 python3
    test_end "${@:2}"
    ;;
  --oldest)
    prepare_end oldest lowest-direct python3.11 python3.12 python3.13 python3
    test_end "${@:2}"
    ;;
esac

prepare_environment huggingface seqio test
cd "$ROOT" || exit 2

failed=()
check() {
  echo "== $1"
  "${@:2}" || failed+=("$1")
}

check format ruff format --check .
check lint ruff check .
check types pyright --pythonpath "$VIRTUAL_ENV/bin/python"
check 'strict types' pyright -p pyrightconfig.strict.json \
  --pythonpath "$VIRTUAL_ENV/bin/python"
check tests pytest -n 2 --dist worksteal -q --durations=5 "$@"

if [ "${#failed[@]}" -gt 0 ]; then
  echo "failed: ${failed[*]}" >&2
  exit 1
fi
