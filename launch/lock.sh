#!/usr/bin/env bash
# Rewrites requirements.lock from setup.py's ranges: newest versions that fit,
# one version of each package for every Python and platform. Needs uv.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if ! command -v uv > /dev/null; then
  echo 'launch/lock.sh needs uv. Install it: pip install uv' >&2
  exit 2
fi
aside="$(mktemp)"
trap 'rm -f "$aside"' EXIT
cat > "$aside" << 'HEADER'
# Versions that work together, for Python 3.11 to 3.13: base and every extra
# but [parity].
# Used as constraints, so a package is installed only if setup.py asks for it:
#   pip install -c requirements.lock -e '.[test,seqio]'
# Written by launch/lock.sh; do not edit.
HEADER
# Not [parity]: torch has builds of its own for each kind of machine.
extras=(gpu tpu seqio huggingface gcs t5x test)
uv pip compile setup.py --quiet --universal --python-version 3.11 \
  --fork-strategy fewest "${extras[@]/#/--extra=}" --no-header --no-annotate \
  "$@" >> "$aside"
cp "$aside" requirements.lock
echo "requirements.lock: $(grep -c == requirements.lock) packages"
