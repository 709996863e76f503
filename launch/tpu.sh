#!/usr/bin/env bash
# One TPU machine. Every argument goes to dap.
#
#   bash launch/tpu.sh train --gin_file=configs/embedded/online_ipo.gin ...
#
# MESH='(4, 2)' and WORK_DIR=DIRECTORY: see environment.sh.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

run_here tpu -- "$@"
