#!/usr/bin/env bash
# Usage: [GPUS=8 GPUS_PER_NODE=8 CPUS_PER_TASK=5 SRUN_ARGS=...] tools/slurm_train.sh PARTITION JOB CONFIG [options]
# Within a batch job that is warned of its time limit and may be requeued, the training saves in time
# and goes on when the job starts again:
#   sbatch --requeue --signal=B:USR1@120 -p PARTITION ... \
#     --wrap 'exec tools/slurm_train.sh PARTITION JOB CONFIG'
set -euo pipefail
usage='usage: slurm_train.sh PARTITION JOB CONFIG [options of train.py]'
partition=${1:?$usage}
job=${2:?$usage}
config=${3:?$usage}
gpus=${GPUS:-4}
per_node=${GPUS_PER_NODE:-$gpus}
resume=()
[[ ${SLURM_RESTART_COUNT:-0} -eq 0 ]] || resume=(--resume)
# shellcheck disable=SC2086  # SRUN_ARGS holds several words
srun -p "$partition" --job-name="$job" --gres="gpu:$per_node" --ntasks="$gpus" \
  --ntasks-per-node="$per_node" --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 \
  ${SRUN_ARGS:-} python -u "$(dirname "$0")/train.py" "$config" --launcher slurm "${@:4}" \
  "${resume[@]}" &
step=$!
warned='' signalled=''
trap 'signalled=1 warned=1; kill -USR1 "$step"' USR1
trap 'signalled=1; kill -TERM "$step"' INT TERM
while :; do
  signalled='' status=0
  wait "$step" || status=$?
  [[ -n $signalled ]] || break  # else a signal ended the wait, not the step
done
# 0 after a warning: it was asked to stop and has saved
if [[ -n $warned && $status -eq 0 && -n ${SLURM_JOB_ID:-} ]]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
