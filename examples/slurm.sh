#!/bin/bash
# The images of a run by an array job of Slurm: submit it with `sbatch examples/slurm.sh my.toml /shared/runs/mine`.
# The run's folder has to be on a file system that all nodes share. A rank that was lost is given again:
# `sbatch --array=3 --export=ALL,WORLD=8 ...`; what is there already stays.
#SBATCH --job-name=prismkd
#SBATCH --array=0-7
#SBATCH --gpus=1
#SBATCH --cpus-per-task=4
#SBATCH --mem=32G
#SBATCH --time=24:00:00
#SBATCH --requeue
set -euo pipefail
config=$1 out=$2 world=${WORLD:-$SLURM_ARRAY_TASK_COUNT}

# Once, before: `prismkd plan --config "$config" --out "$out"` (senses, prompts, calibration, cost).
# In the script's place, so that it hears the signal of the time limit. It ends with a line; give the rank again.
# Once, after: `prismkd verify --out "$out"`, then `prismkd run --config "$config" --out "$out"` for student and report.
exec prismkd synthesize --config "$config" --out "$out" --rank "$SLURM_ARRAY_TASK_ID" --world "$world"
