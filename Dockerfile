# The product on Debian. The first stage builds it, with node for the viewer of the landing page; the second stage runs it
# without build tools.

FROM debian:bookworm-slim AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-venv libvips42 \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
RUN python3 -m venv .venv
COPY requirements-page.lock package.json package-lock.json ./
RUN .venv/bin/pip install --no-cache-dir --require-hashes --requirement requirements-page.lock
COPY scripts/vendor.sh scripts/
RUN scripts/vendor.sh vendor
COPY requirements.lock pyproject.toml README.md LICENSE ./
COPY orchestrator orchestrator
RUN rm -rf orchestrator/web/static/vendor \
    && mv vendor orchestrator/web/static/vendor \
    && python3 -m venv /opt/orchestrator \
    && /opt/orchestrator/bin/pip install --no-cache-dir --require-hashes --requirement requirements.lock \
    && .venv/bin/python -m pip wheel --no-deps --no-build-isolation --wheel-dir /tmp/wheel . \
    && /opt/orchestrator/bin/pip install --no-cache-dir --no-deps /tmp/wheel/*.whl

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 libvips42 libopenjp2-7 fonts-dejavu-core \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --create-home orchestrator \
    && install --directory --owner orchestrator /data
COPY --from=build /opt/orchestrator /opt/orchestrator
COPY scripts/container/ /usr/local/bin/
ENV PATH=/opt/orchestrator/bin:$PATH \
    ORCHESTRATOR_SERVER__DATA_DIR=/data
USER orchestrator
VOLUME /data
EXPOSE 8080 8081
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["python3", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/health/ready', timeout=4)"]
ENTRYPOINT ["orchestrator"]
CMD ["serve"]
