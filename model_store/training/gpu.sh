#!/usr/bin/env bash
# The full recipes on a GPU that is at hand for minutes: teacher, fusion network and MSDNet control, tasks side by
# side on one device (one alone is launch-bound). Called again with the same arguments it goes on where it stopped.
#
#   gpu.sh DATA RUNS STORE MINUTES TASK...     e.g. gpu.sh data runs store 9 cifar10 cifar100
#
# DATA/TASK holds the Parquet files; checkpoints go to RUNS; finished networks are published in STORE, which takes
# minutes of its own: leave them. Needs the packages of the extra `training`; the project need not be installed.
set -euo pipefail
data=$1 runs=$2 store=$3 minutes=$4
shift 4
cd "$(dirname "$0")/../.."
python=${PYTHON:-python3}
end=$((SECONDS + minutes * 60))

train() { # train RECIPE TASK [OPTION...]: until it is finished or the time is over
  local recipe=$1 task=$2 left=$((end - SECONDS))
  shift 2
  ((left > 0)) || return 0
  "$python" -m service.cli train "$recipe" --data "$data/$task" --runs "$runs" --store "$store" \
    --minutes "$(printf '%d.%02d' $((left / 60)) $((left % 60 * 10 / 6)))" "$@" 2>&1 | sed "s/^/$recipe: /"
}

processes=()
for task in "$@"; do
  (
    train "$task-teacher" "$task" --no-publish
    train "$task-fusion-full" "$task"
    train "$task-msdnet-full" "$task"
  ) &
  processes+=($!)
done
failed=0
for process in "${processes[@]}"; do
  wait "$process" || failed=1
done
exit $failed
