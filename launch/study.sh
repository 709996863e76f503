#!/usr/bin/env bash
# Starts an experiment of the study by name; every other argument goes to dap.
#
#   bash launch/study.sh NAME [--paper] [--dry_run] [--gin.NAME=VALUE ...]
#
#   default         the gap, H1 and H3 on a small grid
#   gap             online against offline at equal KL
#   h1              coverage of the data: streams, shuffled
#   h2              better data offline
#   h3              policies as classifiers
#   h3_hard         the same and the gap on pairs as hard as people's
#   h4              a loss without contrast: Best-of-2
#   h5              larger policies
#   on_policy_data  pairs of checkpoints (the ablation of data sets)
#   losses          other contrastive losses
#   staleness       samples of an older policy
#   all             all of these
#
# They run on the embedded corpus and need no data and no accelerator; --paper
# takes the sizes of Tang et al. 2024 (configs/paper), which need files and
# devices that a dry run names. Results are in out/NAME (out/paper/NAME), or
# under WORK_DIR where that is set; another folder: --gin.STUDY_DIR='"DIRECTORY"'.
# A study that was stopped goes on where it was.
#
#   bash launch/study.sh gap --dry_run           what it would cost, counted
#   bash launch/study.sh gap --dry_run --measure real steps here: minutes
#   bash launch/study.sh h1 --gin.SEEDS='(1, 2, 3, 4)'
#   MESH='(1, 8)' bash launch/study.sh all --paper --dry_run \
#     --gin_file=gin/devices/h100.gin            for devices that are not here
#
# PLACE=cpu|gpu|tpu starts it by that script of this folder; without it jax
# chooses. MESH and WORK_DIR: see environment.sh.
set -euo pipefail
HERE="$(dirname "${BASH_SOURCE[0]}")"
source "$HERE/environment.sh"

NAMES='default gap h1 h2 h3 h3_hard h4 h5 on_policy_data losses staleness all'

config_of() {
  case "$1" in
    h1) echo h1_coverage ;;
    h2) echo h2_suboptimal_data ;;
    h3) echo h3_classification ;;
    h4) echo h4_non_contrastive ;;
    h5) echo h5_scaling ;;
    *) echo "$1" ;;
  esac
}

case "${1:-}" in
  -h | --help)
    show_help
    exit 0
    ;;
  '')
    fail "Name an experiment: $NAMES." 'More: bash launch/study.sh --help'
    ;;
esac
name="$1"
shift
case " $NAMES " in
  *" $name "*) ;;
  *) fail "There is no experiment '$name'. There are: $NAMES." ;;
esac

sizes=studies
others=()
for word in "$@"; do
  if [ "$word" = --paper ]; then
    sizes=paper
  else
    others+=("$word")
  fi
done
config="configs/$sizes/$(config_of "$name").gin"
if [ ! -f "$ROOT/$config" ]; then
  there="$(cd "$ROOT/configs/$sizes" && echo *.gin)"
  fail "$config is not there. There are: ${there//.gin/}."
fi
out="$name"
[ "$sizes" = studies ] || out="$sizes/$name"
[ -n "${WORK_DIR:-}" ] || out="$ROOT/out/$out"

# An argument of the caller comes later and so wins over this folder.
arguments=(study "--gin_file=$config" "--gin.STUDY_DIR='$out'"
  ${others[@]+"${others[@]}"})
case "${PLACE:-}" in
  '') run_here -- "${arguments[@]}" ;;
  cpu | gpu | tpu) exec bash "$HERE/$PLACE.sh" "${arguments[@]}" ;;
  *) fail "PLACE=$PLACE: give cpu, gpu or tpu." ;;
esac
