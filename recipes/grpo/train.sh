#!/usr/bin/env bash
# GRPO with verl:  JUDGE_URL=http://host:8001/v1 JUDGE_MODEL=name train.sh OUT MODEL [key=value ...]
# OUT is a dataset's folder, MODEL the checkpoint that SFT gave; key=value changes grpo.yaml. Needs verl with a
# server of the model, and datagen beside it, without its requirements, as verl's exclude them:
#   pip install 'verl[vllm]==0.9.1'
#   pip install --no-deps datagen && pip install jinja2 jsonschema-rs msgspec pyyaml
# On several nodes, `ray start` in OUT on each: the rows' frames and user turns are named from there.
set -euo pipefail
out=$(realpath "$1") MODEL=$(realpath "$2")
RECIPE=$(cd "$(dirname "$0")" && pwd)
shift 2
: "${JUDGE_URL:?the address of the judge}" "${JUDGE_MODEL:?the name of the judge}"
export MODEL RECIPE JUDGE_URL JUDGE_MODEL
cd "$out"  # paths of frames are relative to it
shopt -s failglob  # says so where there are no rows for validation
train=(rl/train-*.parquet) val=(rl/val-*.parquet)
list() { local IFS=,; echo "[${*/#/$out/}]"; }
exec python -m verl.trainer.main_ppo --config-path "$RECIPE" --config-name grpo \
    "data.train_files=$(list "${train[@]}")" "data.val_files=$(list "${val[@]}")" "$@"
