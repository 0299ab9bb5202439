#!/usr/bin/env bash
# A batch script for Slurm, with the arguments of train-nodes.sh:
#
#   sbatch --nodes=4 tools/train-slurm.sh ZERO_STAGE NUM_NODES GPUS_PER_NODE MASTER_ADDR MASTER_PORT RUN.toml [options]
#
# One launcher on each node, which Slurm starts: works where Slurm was built without PMIx, too.
# MASTER_ADDR '-' is the first node of the allocation. Copy it and add what your site wants
# (--partition, --gres); what nodes know each other by is in your home directory.
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
set -euo pipefail

usage() { sed -n '2,/^#SBATCH/{/^#SBATCH/d;s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; }

case "${1:-}" in -h | --help) usage; exit 0 ;; esac
if [ $# -lt 6 ]; then
  echo "error: six arguments are needed, $# were given" >&2
  usage >&2
  exit 2
fi
[ -n "${SLURM_JOB_ID:-}" ] || { echo "error: not in a Slurm job: start it with sbatch" >&2; exit 1; }

addr="$4"
if [ "$addr" = - ]; then
  hosts="$(scontrol show hostnames "$SLURM_JOB_NODELIST")"  # whole: a reader of one line may kill it
  addr="${hosts%%$'\n'*}"
fi
# Slurm runs a copy of this file, far from the others.
here="${STRATA_TOOLS:-${SLURM_SUBMIT_DIR:-.}/tools}"
[ -x "$here/train-nodes.sh" ] || {
  echo "error: no train-nodes.sh in $here: submit from the repository, or set STRATA_TOOLS" >&2
  exit 1
}
exec srun --nodes="$2" --ntasks="$2" --ntasks-per-node=1 --kill-on-bad-exit=0 \
  bash -c 'NODE_RANK=$SLURM_NODEID exec "$@"' bash \
  "$here/train-nodes.sh" "$1" "$2" "$3" "$addr" "$5" "${@:6}"
