#!/usr/bin/env bash
# Usage: tools/dist_train.sh CONFIG PROCESSES [options of tools/train.py]
# Several machines: set NNODES, NODE_RANK, MASTER_ADDR and PORT on each.
set -euo pipefail
config=${1:?usage: dist_train.sh CONFIG PROCESSES [options]}
processes=${2:?usage: dist_train.sh CONFIG PROCESSES [options]}
exec python -m mmrobust.utils.torchrun --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" \
  --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}" \
  --nproc_per_node="$processes" "$(dirname "$0")/train.py" "$config" --launcher pytorch "${@:3}"
