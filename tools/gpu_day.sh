#!/usr/bin/env bash
# `make gpu` on a machine without a network that has Python, torch and triton: the other packages come
# as wheels. Usage: tools/gpu_day.sh WHEELS OUT [options of benchmarks/gpu_day.py]
set -euo pipefail
wheels=${1:?usage: tools/gpu_day.sh WHEELS OUT [options]}
out=${2:?usage: tools/gpu_day.sh WHEELS OUT [options]}
shift 2
site=$(mktemp -d)
python3 -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir --target "$site" "$wheels"/*.whl
cd "$(dirname "$0")/.."
export PYTHONPATH="$site:$PWD" PYTHONUNBUFFERED=1 OMP_NUM_THREADS=1
exec python3 benchmarks/gpu_day.py --out "$out" "$@"
