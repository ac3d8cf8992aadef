# exitramp in a container: non-root, read-only root, no build tools, no shell between Docker and the server.
#
#   docker build -t exitramp .                                  CPU
#   docker build -t exitramp --build-arg TORCH_BACKEND=cu130 .  NVIDIA GPUs; run it with --gpus all
#   docker build -t exitramp --build-arg TORCH_BACKEND= .       PyPI's own build of PyTorch (x86-64: CUDA, much
#                                                               larger), for networks that reach nothing but PyPI
#   docker run --rm -p 127.0.0.1:8000:8000 --read-only --tmpfs /tmp --cap-drop ALL exitramp

ARG PYTHON_IMAGE=python:3.11-slim-bookworm

# ---- builder: resolves and installs into a virtual environment that the final stage copies -------------------------
FROM ${PYTHON_IMAGE} AS builder

# uv rather than pip in this stage only: pip cannot be told "PyTorch for CPU" without the address of another index,
# which then competes with PyPI for every package; uv's --torch-backend knows it and asks it for PyTorch alone.
RUN pip install --no-cache-dir --disable-pip-version-check uv==0.13.8

# The cache mount is another file system than the environment: hard links cannot cross it.
ENV UV_LINK_MODE=copy \
    UV_COMPILE_BYTECODE=1 \
    UV_PYTHON_DOWNLOADS=never \
    VIRTUAL_ENV=/opt/exitramp
RUN uv venv "${VIRTUAL_ENV}"

WORKDIR /source
# Dependencies before the code: a change of ours then rebuilds seconds, not the gigabyte of PyTorch and OpenVINO.
COPY pyproject.toml constraints.txt ./
ARG TORCH_BACKEND=cpu
RUN --mount=type=cache,target=/root/.cache/uv \
    uv pip install ${TORCH_BACKEND:+"--torch-backend=${TORCH_BACKEND}"} -c constraints.txt -r pyproject.toml

COPY README.md LICENSE ./
COPY model_store ./model_store
COPY service ./service
RUN --mount=type=cache,target=/root/.cache/uv \
    uv pip install --no-deps --build-constraints constraints.txt .

# ---- loadtest: Locust, which imports nothing of ours; `docker build --target loadtest .` ---------------------------
FROM ${PYTHON_IMAGE} AS loadtest

WORKDIR /loadtest
COPY constraints.txt /tmp/constraints.txt
RUN pip install --no-cache-dir --disable-pip-version-check -c /tmp/constraints.txt locust pillow \
    && useradd --uid 10001 --user-group --no-log-init --no-create-home --home-dir /tmp --shell /usr/sbin/nologin locust
COPY loadtest/locustfile.py ./
USER 10001:10001
ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
EXPOSE 8089
ENTRYPOINT ["locust", "-f", "/loadtest/locustfile.py"]

# ---- service: last, so that a plain `docker build .` gives it ------------------------------------------------------
FROM ${PYTHON_IMAGE} AS service

# A named user: libraries that ask who they are (getpass.getuser) fail for a bare uid.
RUN useradd --uid 10001 --user-group --no-log-init --no-create-home --home-dir /tmp --shell /usr/sbin/nologin exitramp
COPY --from=builder /opt/exitramp /opt/exitramp

# Bytecode was compiled in the builder; the root is read-only, so nothing may be written beside the code. Libraries
# that insist on a home (caches, histories) find the tmpfs.
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
