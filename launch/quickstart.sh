#!/usr/bin/env bash
# From a bare machine (Python 3.11 or newer) to a plot of KL against win rate:
# makes .venv, installs, runs a small study on the embedded corpus.
#
#   bash launch/quickstart.sh [DIRECTORY]     results; default out/gap
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

STUDY=configs/studies/gap.gin
STUDY_DIR="${1:-$ROOT/out/gap}"

prepare_environment
dap study --gin_file="$STUDY" --gin.STUDY_DIR="'$STUDY_DIR'"
echo
echo "The report: $STUDY_DIR/report.html"
