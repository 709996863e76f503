#!/usr/bin/env bash
# From a bare machine (Python 3.11 or newer) to a report with verdicts: makes
# .venv, installs, runs the default study on the embedded corpus (the gap,
# coverage and classification; two seeds).
#
#   bash launch/quickstart.sh [DIRECTORY]     results; default out/default
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

case "${1:-}" in
  -h | --help)
    show_help
    exit 0
    ;;
  -*) fail "quickstart.sh takes a directory for results, not '$1'." ;;
esac

STUDY=configs/studies/default.gin
STUDY_DIR="${1:-$ROOT/out/default}"

prepare_environment
dap study --gin_file="$STUDY" --gin.STUDY_DIR="'$STUDY_DIR'"
echo
echo "The report: $STUDY_DIR/report.html"
