# exitramp in a container: non-root, read-only root, no build tools, no shell between Docker and the server.
#
#   docker build -t exitramp .                                  CPU
#   docker build -t exitramp --build-arg TORCH_BACKEND=cu130 .  NVIDIA GPUs; run it with --gpus all
#   docker run --rm -p 127.0.0.1:8000:8000 --read-only --tmpfs /tmp --cap-drop ALL exitramp
#
# Where not everything can be reached, a folder of wheels comes along; what is in it is preferred at equal versions:
#
#   docker build -t exitramp --build-context wheels=DIR --build-arg TORCH_BACKEND= .    PyTorch is in DIR, or PyPI's own
#                                                       (for x86-64 that is CUDA, much larger); the rest from PyPI
#   … --build-arg NO_INDEX=1                            everything is in DIR, nothing is asked for over the network
#   … --secret id=certificates,src=FILE                 behind a proxy with certificates of its own
#
# A machine without Docker: deploy/containers/build.sh.

ARG PYTHON_IMAGE=python:3.11-slim-bookworm
# The same Python at the same place, with strip; the image is not made of it.
ARG BUILDER_IMAGE=python:3.11-bookworm

# ---- wheels: empty, unless --build-context wheels=DIR puts a folder in its place ------------------------------------
# checkov:skip=CKV_DOCKER_7:scratch is no image and has no tag
FROM scratch AS wheels

# ---- installer: uv ---------------------------------------------------------------------------------------------------
FROM ${BUILDER_IMAGE} AS installer

ARG NO_INDEX=
# uv rather than pip: pip cannot be told "PyTorch for CPU" without the address of another index, which then competes
# with PyPI for every package; uv's --torch-backend knows it and asks it for PyTorch alone.
RUN --mount=type=bind,from=wheels,target=/wheels \
    --mount=type=secret,id=certificates,target=/etc/ssl/certs/ca-certificates.crt \
    python3 -m venv /opt/uv \
    && /opt/uv/bin/pip install --no-cache-dir --disable-pip-version-check --find-links /wheels \
       ${NO_INDEX:+--no-index} uv==0.13.8

# The cache mount is another file system than the environment: hard links cannot cross it.
ENV PATH=/opt/uv/bin:${PATH} \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
    UV_FIND_LINKS=/wheels \
    UV_LINK_MODE=copy \
    UV_PYTHON=python3 \
    UV_PYTHON_DOWNLOADS=never
WORKDIR /source
COPY pyproject.toml constraints.txt ./

# ---- builder: the environment that the final stage copies -----------------------------------------------------------
FROM installer AS builder

ENV VIRTUAL_ENV=/opt/exitramp
# Dependencies before the code: a change of ours then rebuilds seconds, not the gigabyte of PyTorch and OpenVINO.
ARG TORCH_BACKEND=cpu
# Declared anew: not every builder hands arguments on to the stages built upon a stage.
ARG NO_INDEX=
RUN --mount=type=cache,target=/root/.cache/uv \
    --mount=type=bind,from=wheels,target=/wheels \
    --mount=type=secret,id=certificates,target=/etc/ssl/certs/ca-certificates.crt \
    uv venv "${VIRTUAL_ENV}" \
    && uv pip install ${TORCH_BACKEND:+"--torch-backend=${TORCH_BACKEND}"} ${NO_INDEX:+--no-index} \
       --constraints constraints.txt --requirements pyproject.toml --extra tracing

# What serving never opens: what C++ programs would be built with, tests, OpenVINO's plugins for other devices and its
# readers of other frameworks' files, and the symbols of PyTorch's two largest libraries. 390 MB of 1,080.
# hadolint ignore=DL3003
RUN cd "${VIRTUAL_ENV}"/lib/python3.*/site-packages \
    && rm -rf torch/include torch/share torch/test torch/bin/*[Tt]est* torch/bin/protoc* torch/bin/*.pt* \
       openvino/include openvino/cmake openvino/libs/cache.json openvino/libs/libopenvino_intel_[gn]pu_plugin.so \
       openvino/libs/libopenvino_jax_* openvino/libs/libopenvino_onnx_* openvino/libs/libopenvino_paddle_* \
       openvino/libs/libopenvino_gguf_* openvino/libs/libopenvino_tensorflow_* \
    && find numpy networkx sympy -type d -name tests -prune -exec rm -rf {} + \
    && strip --strip-unneeded torch/lib/libtorch_cpu.so torch/lib/libtorch_python.so

COPY README.md LICENSE ./
COPY model_store ./model_store
COPY service ./service
COPY loadtest ./loadtest
# Bytecode, which a read-only root cannot keep, for what serving imports: 30 MB, and 140 for everything.
RUN --mount=type=cache,target=/root/.cache/uv \
    --mount=type=bind,from=wheels,target=/wheels \
    --mount=type=secret,id=certificates,target=/etc/ssl/certs/ca-certificates.crt \
    uv pip install --no-deps --build-constraints constraints.txt ${NO_INDEX:+--no-index} . \
    && "${VIRTUAL_ENV}"/bin/exitramp models >/dev/null \
    && "${VIRTUAL_ENV}"/bin/python -c 'import service.server, service.engine.openvino_executor'

# ---- loadtest: Locust, which imports nothing of ours; `docker build --target loadtest .` ---------------------------
FROM installer AS loadtest-builder

ENV VIRTUAL_ENV=/opt/loadtest
ARG NO_INDEX=
RUN --mount=type=cache,target=/root/.cache/uv \
    --mount=type=bind,from=wheels,target=/wheels \
    --mount=type=secret,id=certificates,target=/etc/ssl/certs/ca-certificates.crt \
    uv venv "${VIRTUAL_ENV}" \
    && uv pip install --constraints constraints.txt --compile-bytecode ${NO_INDEX:+--no-index} locust pillow

FROM ${PYTHON_IMAGE} AS loadtest

RUN useradd --uid 10001 --user-group --no-log-init --no-create-home --home-dir /tmp --shell /usr/sbin/nologin locust
COPY --from=loadtest-builder /opt/loadtest /opt/loadtest
COPY loadtest /opt/loadtest/loadtest
WORKDIR /opt/loadtest
USER 10001:10001
ENV PATH=/opt/loadtest/bin:${PATH} \
    HOME=/tmp \
    PYTHONPATH=/opt/loadtest \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
EXPOSE 8089
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import http.client, sys; c = http.client.HTTPConnection('127.0.0.1', 8089, timeout=3); c.request('GET', '/'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["locust", "-f", "/opt/loadtest/loadtest/locustfile.py"]

# ---- service: last, so that a plain `docker build .` gives it ------------------------------------------------------
FROM ${PYTHON_IMAGE} AS service

# A named user: libraries that ask who they are (getpass.getuser) fail for a bare uid.
RUN useradd --uid 10001 --user-group --no-log-init --no-create-home --home-dir /tmp --shell /usr/sbin/nologin exitramp
COPY --from=builder /opt/exitramp /opt/exitramp

# The root is read-only, so nothing may be written beside the code. Libraries that insist on a home (caches,
# histories) find the tmpfs.
ENV PATH=/opt/exitramp/bin:${PATH} \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    EXITRAMP_HOST=0.0.0.0 \
    EXITRAMP_PORT=8000

WORKDIR /opt/exitramp
# Numeric, so that Kubernetes' runAsNonRoot can see that it is not root.
USER 10001:10001
EXPOSE 8000

# /readyz and not /livez: ready means that a real inference has run. http.client and not urllib, which would obey a
# proxy variable. The start period covers loading and warming up on a slow machine.
HEALTHCHECK --interval=10s --timeout=4s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['EXITRAMP_PORT']), timeout=3); c.request('GET', '/readyz'); sys.exit(c.getresponse().status != 200)"]

# Exec form: the server is process 1 and gets the SIGTERM of `docker stop` itself, so that it can drain.
ENTRYPOINT ["exitramp"]
CMD ["serve"]
