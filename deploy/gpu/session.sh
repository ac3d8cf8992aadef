#!/usr/bin/env bash
# Everything that only a CUDA device can show, in one call of less than ten minutes: the tests marked gpu, launches
# offline (eager torch against CUDA graphs), then the service under load.
#
#   session.sh OUT [WHEELS]
#
# OUT gets tests.log, offline/, benchmark/ (the same with cuDNN's own search), serve.log and served/. WHEELS is a
# folder of what the machine's Python lacks; README.md beside this says which. Needs Python 3.12, torch 2.11,
# torchvision 0.26 or later of each; no network; the project need not be installed. SECONDS_A_LINE shortens the load.
# shellcheck disable=SC2317 # functions are called by name
set -uo pipefail # not -e: what fails is noted, and the next step runs
(($# > 0)) || { echo "usage: session.sh OUT [WHEELS]" >&2; exit 2; }
out=$(mkdir -p "$1" && cd "$1" && pwd)
wheels=${2:-}
cd "$(dirname "$0")/../.." || exit
python=${PYTHON:-python3}
port=8400
failed=()

if [[ -n $wheels ]]; then
  site=$(mktemp -d)
  "$python" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --target "$site" "$wheels"/*.whl || exit 1
  export PYTHONPATH=$site
fi
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1

step() { # step NAME COMMAND...: run, say how long it took, remember whether it failed
  local name=$1 started=$SECONDS
  shift
  "$@" || failed+=("$name")
  echo "== $name: $((SECONDS - started)) s"
}

tests() {
  timeout 150 "$python" -m pytest -q -m gpu tests/service/test_cuda_graphs.py tests/service/test_gpu.py -p no:cacheprovider \
    -o filterwarnings=default 2>&1 |
    tee "$out/tests.log"
}

served() {
  EXITRAMP_PORT=$port EXITRAMP_MAX_BATCH=64 EXITRAMP_EXECUTOR=cuda "$python" -m service.cli serve >"$out/serve.log" 2>&1 &
  local server=$! code=1
  for _ in $(seq 120); do
    if "$python" -c "import urllib.request as u; u.urlopen('http://127.0.0.1:$port/readyz', timeout=2)" 2>/dev/null; then
      sleep 10 # the graphs of rarer spans are still being recorded
      timeout 200 "$python" -m service.cli bench --url "http://127.0.0.1:$port" --budgets 25M,none --loads 0.5,0.9 \
        --connections 64 --duration "${SECONDS_A_LINE:-8}" --out "$out/served"
      code=$?
      break
    fi
    kill -0 "$server" 2>/dev/null || break
    sleep 0.5
  done
  kill -TERM "$server" 2>/dev/null
  wait "$server"
  tail -n 5 "$out/serve.log"
  return "$code"
}

"$python" -c "import torch; print(torch.__version__, torch.cuda.is_available() and torch.cuda.get_device_name())"
step tests tests
step offline timeout 100 "$python" -m deploy.gpu.offline --out "$out/offline" --models cifar10-fusion cifar10-se-resnet18-pruned
step benchmark timeout 120 "$python" -m deploy.gpu.offline --out "$out/benchmark" --sizes 64 --rounds 50 --benchmark
step served served
echo "== failed: ${failed[*]:-nothing}"
exit "${#failed[@]}"
