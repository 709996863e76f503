#!/usr/bin/env bash
# Installs T5X beside dap, in the environment that the other scripts make: its
# dependencies (the extra [t5x]), then T5X, airio and jestimator from GitHub at
# the commits below, without what they themselves ask for. Needs git and a
# network; a second call installs nothing. See docs/t5x.md.
#
#   bash launch/install_t5x.sh
#
# T5X_SOURCES=DIRECTORY  installs the checkouts DIRECTORY/{t5x,airio,jestimator}
#                        instead, whatever their commits.
# DAP_VENV, PYTHON: see environment.sh.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

# The registry has none of these; its package t5x is an empty placeholder.
REPOSITORIES=(
  jestimator=google-research/jestimator@326824a477feef6d92e6f44175000907a72899ca
  airio=google/airio@69897df7d9a427b947a9f7bb4164c7782b43e601
  t5x=google-research/t5x@cc342d419ec3e3e9c4bf1df33c82330cafdc1e16
)

case "${1:-}" in
  '') ;;
  -h | --help)
    show_help
    exit 0
    ;;
  *)
    fail "install_t5x.sh takes no '$1'." \
      'More: bash launch/install_t5x.sh --help'
    ;;
esac

wanted=()
for repository in "${REPOSITORIES[@]}"; do
  name="${repository%%=*}" from="${repository#*=}"
  if [ -n "${T5X_SOURCES:-}" ]; then
    sources="$(cd "$T5X_SOURCES" 2> /dev/null && pwd)" || sources="$T5X_SOURCES"
    [ -d "$sources/$name/$name" ] || fail \
      'T5X_SOURCES needs checkouts in the folders t5x, airio and jestimator;' \
      "there is no $sources/$name/$name. Clone https://github.com/${from%@*}" \
      'into it.'
    wanted+=("$sources/$name")
  else
    wanted+=("$name @ git+https://github.com/$from")
  fi
done

prepare_environment t5x
stamp="$VIRTUAL_ENV/t5x-installed"
if [ "$(cat "$stamp" 2> /dev/null)" != "${wanted[*]}" ]; then
  if [ -z "${T5X_SOURCES:-}" ] && ! command -v git > /dev/null; then
    fail 'Fetching T5X needs git. Install it, or give checkouts: T5X_SOURCES.'
  fi
  echo "Installing T5X into $VIRTUAL_ENV."
  rm -f "$stamp"
  # No prompt for a password where a repository cannot be reached.
  export GIT_TERMINAL_PROMPT=0
  python -m pip install --quiet --disable-pip-version-check --no-deps \
    --force-reinstall "${wanted[@]}" || fail \
    'T5X could not be fetched or built: the reason is above.' \
    'It comes from github.com and is built with packages of the registry.' \
    'Without github.com, copy the three repositories to this machine and' \
    'give their folder: T5X_SOURCES=DIRECTORY bash launch/install_t5x.sh'
  why="$(cd "$VIRTUAL_ENV" && python -c 'import t5x.main, t5x.train' 2>&1)" || fail \
    "$why" 'T5X is installed and cannot be imported: the reason is above.' \
    'docs/t5x.md says which versions of jax it was tried with.'
  echo "${wanted[*]}" > "$stamp"
fi
echo "T5X is in $VIRTUAL_ENV: docs/t5x.md says what to do with it."
