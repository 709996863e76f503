#!/usr/bin/env bash
# One machine with NVIDIA GPUs (driver 525 or newer). Every argument goes to dap.
#
#   bash launch/gpu.sh train --gin_file=configs/embedded/online_ipo.gin ...
#
# MESH='(4, 2)' and WORK_DIR=DIRECTORY: see environment.sh.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

# Named, so that a study's first process leaves the GPUs to its workers.
export JAX_PLATFORMS="${JAX_PLATFORMS:-cuda}"
export XLA_PYTHON_CLIENT_MEM_FRACTION="${XLA_PYTHON_CLIENT_MEM_FRACTION:-.9}"
run_here gpu -- "$@"
