# How is the controller's image made? docker build --tag pd-autoscaler:0.1.0 .
#
#   wheel     the project, built by the locked hatchling, as `make` does it
#   packages  a virtual environment with what requirements.lock names, by hash, and the wheel; without pip
#   (last)    the same base with that environment, as a numeric user, and without pip
#
# The tag names one Python release. A digest pins it to the byte: --build-arg PYTHON=3.11.14-slim-bookworm@sha256:...
ARG PYTHON=3.11.14-slim-bookworm

FROM python:${PYTHON} AS wheel
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
# The locks come first: while they stay the same, so does this layer. The stage is thrown away, tools and all.
COPY requirements-dev.lock ./
RUN python -m pip install --require-hashes --no-deps --requirement requirements-dev.lock
COPY pyproject.toml README.md LICENSE ./
COPY autoscaler autoscaler
RUN python -m hatchling build --target wheel --directory /wheels

FROM python:${PYTHON} AS packages
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
RUN python -m venv --without-pip /opt/pd-autoscaler
COPY requirements.lock ./
# --only-binary: no package's own build script runs, so no compiler is missed. Bytecode is written here, once.
RUN python -m pip --python /opt/pd-autoscaler install --require-hashes --no-deps --only-binary :all: --requirement requirements.lock
COPY --from=wheel /wheels /wheels
RUN python -m pip --python /opt/pd-autoscaler install --no-index --no-deps /wheels/*.whl

FROM python:${PYTHON}
RUN python -m pip uninstall --yes --root-user-action ignore pip && rm -rf /usr/local/lib/python3*/ensurepip
COPY --from=packages /opt/pd-autoscaler /opt/pd-autoscaler
# One thread for BLAS: a tick has little to multiply, and a pool of threads per core only gets it throttled.
# Two arenas for malloc: with one per thread, 1,000 fleets took 252 MiB instead of 163 (`make bench NAME=tick`).
# HOME is nowhere, so the cluster around us is found rather than somebody's kubeconfig.
ENV PATH=/opt/pd-autoscaler/bin:/usr/local/bin:/usr/bin:/bin \
    HOME=/nonexistent \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    OMP_NUM_THREADS=1 \
    OPENBLAS_NUM_THREADS=1 \
    MKL_NUM_THREADS=1 \
    MALLOC_ARENA_MAX=2
WORKDIR /
# A number: `runAsNonRoot` cannot judge a name.
USER 65532:65532
# /metrics, /healthz and /readyz, where PDA_RUN_LISTEN says so.
EXPOSE 8081
ENTRYPOINT ["/opt/pd-autoscaler/bin/autoscaler"]
CMD ["run"]
