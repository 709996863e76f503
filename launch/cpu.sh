#!/usr/bin/env bash
# One machine without an accelerator. Every argument goes to dap.
#
#   bash launch/cpu.sh train --gin_file=configs/embedded/online_ipo.gin ...
#
# MESH='(4, 2)' and WORK_DIR=DIRECTORY: see environment.sh.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

export JAX_PLATFORMS=cpu
run_here -- "$@"
