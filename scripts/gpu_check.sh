#!/usr/bin/env bash
# Check and time the released shape on a GPU, in under 8 minutes on one H200-class card.
#
#     scripts/gpu_check.sh                 # the whole 1.3B with random weights, on CUDA
#     DEVICE=cpu scripts/gpu_check.sh      # the same steps with one layer at a toy size
#
# 1. tests marked gpu: the network eager, compiled and recorded as a CUDA graph against the CPU,
#    in float8, by TensorRT where it is installed, VAE included; whole clips, memory that does not
#    grow; bfloat16 3-D convolutions of this build
# 2. layouts, attention backends, fp8: choices that depend on card and build
# 3. `dkt bench model`, eager and compiled: faithful and balanced, stages, floors, peak memory,
#    the network unfolded and as the reference runs it; then balanced with measured attention, with
#    the overlap in a cache, in float8, and with a small decoder of random weights
# 4. ONNX graphs compared with torch; TensorRT engines where it is installed
# 5. the goals, and what a miss is made of
#
# Figures, tables and plots go to OUT. DKT and PYTHON name the programs, with their arguments.
set -euo pipefail
OUT=${OUT:-gpu_check_out}
DEVICE=${DEVICE:-cuda}
DKT=${DKT:-dkt}
PYTHON=${PYTHON:-python}
EXTRA_SECONDS=${EXTRA_SECONDS:-40}
TENSORRT_SECONDS=${TENSORRT_SECONDS:-90}
read -ra dkt <<<"$DKT"
read -ra python <<<"$PYTHON"
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$OUT"
limit=180  # s, for one run of the bench

if [ "$DEVICE" = cpu ]; then
    EXTRA_SECONDS=$limit
    shape=(--layers 1 --sizes 32x32 --presets faithful,balanced --steps 1,5 --repeats 1)
    one=(--layers 1 --sizes 32x32 --presets balanced --steps 1,5 --repeats 1)
    toy=(--toy)
    graphs=(--size 64x48)
else
    shape=(--sizes 832x480,640x480 --presets faithful,balanced --steps 1,3,5 --repeats 5)
    one=(--sizes 640x480 --presets balanced --steps 1,5 --repeats 5)
    toy=()
    graphs=(--size 128x96)
fi

step() {
    echo "== $SECONDS s: $1"
}

bench() {  # name, execution, further options
    local name=$1 execution=$2
    shift 2
    step "bench model, $name"
    timeout "$limit" "${dkt[@]}" bench model --shape 1.3b --random-weights "${shape[@]}" \
        --device "$DEVICE" --execution "$execution" --json "$OUT/$name.json" \
        --plot "$OUT/$name.png" "$@" || echo "$name failed, or took longer than $limit s"
}

step 'tests on a GPU, self-test of bfloat16 convolutions'
(cd "$here/.." && "${python[@]}" -m pytest -q -m gpu -p no:cacheprovider test/test_model_gpu.py)
"${python[@]}" -c 'import sys, torch
from dkt_ros.model.selftest import check_convolutions
check_convolutions(torch.device(sys.argv[1]))
print("bfloat16 3-D convolutions are right")' "$DEVICE"

step 'layouts, attention backends, fp8'
"${python[@]}" "$here/gpu_choices.py" --device "$DEVICE" "${toy[@]}" --json "$OUT/choices.json"

bench eager eager
bench compile compile --no-reference

# what live speed may be bought with, one at a time
shape=("${one[@]}")
limit=$EXTRA_SECONDS
"${python[@]}" "$here/random_decoder.py" "$OUT/decoder.safetensors"
bench attention eager --no-reference --attention measure
bench cache eager --no-reference --overlap cache
bench decoder eager --no-reference --decoder "$OUT/decoder.safetensors"
bench float8 compile --no-reference --precision float8

step 'ONNX graphs'
"${dkt[@]}" export dkt-tiny --onnx "${graphs[@]}" --out "$OUT/graphs"
if [ "$DEVICE" != cpu ] && "${python[@]}" -c 'import tensorrt' 2>/dev/null; then
    step 'TensorRT'
    "${dkt[@]}" export dkt-tiny --tensorrt "${graphs[@]}"
    # building the engines of the whole 1.3B may take longer than this check should
    limit=$TENSORRT_SECONDS
    bench tensorrt tensorrt --no-reference
else
    echo 'no GPU or no TensorRT: engines were neither built nor timed'
fi

step 'goals'
"${python[@]}" "$here/gpu_report.py" "$OUT" | tee "$OUT/report.txt"
step "done; figures in $OUT"
