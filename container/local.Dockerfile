# The embedded stack for docker-compose.yml: each service runs another module of this image. It is never deployed.

ARG PYTHON_IMAGE=python:3.13-slim-bookworm

FROM ${PYTHON_IMAGE}
WORKDIR /repository
COPY requirements-dev.txt ./
RUN python3 -m pip install --no-cache-dir --disable-pip-version-check --require-hashes --requirement requirements-dev.txt
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
COPY local ./local
COPY snowflake ./snowflake
COPY lambda_poller ./lambda_poller
COPY container/processor.py ./container/
RUN python3 -m pip install --no-cache-dir --disable-pip-version-check --no-build-isolation --no-deps --editable . --editable ./local \
 && mkdir /certificates /state \
 && chown 10001:10001 /certificates /state
ENV HOME=/tmp \
    PYTHONUNBUFFERED=1
USER 10001:10001
