#!/usr/bin/env bash
# Usage: tools/dist_test.sh CONFIG CHECKPOINT PROCESSES [options of tools/test.py]
# Several machines: set NNODES, NODE_RANK, MASTER_ADDR and PORT on each.
set -euo pipefail
usage='usage: dist_test.sh CONFIG CHECKPOINT PROCESSES [options]'
config=${1:?$usage}
checkpoint=${2:?$usage}
processes=${3:?$usage}
exec python -m mmrobust.utils.torchrun --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" \
  --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}" \
  --nproc_per_node="$processes" "$(dirname "$0")/test.py" "$config" "$checkpoint" \
  --launcher pytorch "${@:4}"
