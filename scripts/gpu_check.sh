#!/usr/bin/env bash
# Check and time the released shape on a GPU, in under 8 minutes on one H200-class card.
#
#     scripts/gpu_check.sh                 # the whole 1.3B with random weights, on CUDA
#     DEVICE=cpu scripts/gpu_check.sh      # the same steps with two layers at a toy size
#
# Figures, tables and plots go to OUT. TensorRT is tried where it is installed.
set -euo pipefail
OUT=${OUT:-gpu_check_out}
DEVICE=${DEVICE:-cuda}
DKT=${DKT:-dkt}
mkdir -p "$OUT"

if [ "$DEVICE" = cpu ]; then
    shape=(--layers 1 --sizes 64x48 --presets faithful,balanced --steps 1,5 --repeats 1)
else
    python -m pytest -q -m gpu
    shape=(--sizes 832x480,640x480 --presets faithful,balanced --steps 1,3,5 --repeats 5)
fi

bench() {  # name, execution, further options
    local name=$1 execution=$2
    shift 2
    "$DKT" bench model --shape 1.3b --random-weights "${shape[@]}" --device "$DEVICE" \
        --execution "$execution" --json "$OUT/$name.json" --plot "$OUT/$name.png" "$@"
}

bench eager eager
if [ "$DEVICE" != cpu ]; then
    bench compile compile --no-reference
    if python -c 'import tensorrt' 2>/dev/null; then
        "$DKT" export dkt-tiny --tensorrt
        bench tensorrt tensorrt --no-reference --presets balanced --sizes 640x480
    else
        echo 'TensorRT is not installed: engines were neither built nor timed'
    fi
fi
echo "figures in $OUT"
