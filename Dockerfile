# The product on Debian 13. The first stage builds it, with node for the viewers of the pages; the second one runs it, without
# build tools. `make image-test` builds this file without a registry of images and tries the result.

ARG BASE=debian:trixie-slim

FROM ${BASE} AS build
# hadolint ignore=DL3008  # of Debian's packages the newest are wanted: security updates
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends python3 python3-venv binutils \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
RUN python3 -m venv .venv
COPY requirements-page.lock package.json package-lock.json ./
RUN .venv/bin/pip install --no-cache-dir --require-hashes --requirement requirements-page.lock
COPY scripts/vendor.sh scripts/
RUN scripts/vendor.sh vendor
# The packages change less often than the code: they have a layer of their own.
COPY requirements.lock scripts/trim-packages.py ./
RUN python3 -m venv --without-pip /opt/orchestrator \
    && .venv/bin/pip --python /opt/orchestrator/bin/python install --no-cache-dir --require-hashes --requirement requirements.lock \
    && python3 trim-packages.py /opt/orchestrator/lib/python3.*/site-packages
COPY pyproject.toml README.md LICENSE ./
COPY orchestrator orchestrator
RUN rm -rf orchestrator/web/static/vendor \
    && mv vendor orchestrator/web/static/vendor \
    && .venv/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /tmp/wheel . \
    && .venv/bin/pip --python /opt/orchestrator/bin/python install --no-cache-dir --no-deps /tmp/wheel/*.whl

FROM ${BASE}
# hadolint ignore=DL3008
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends python3 ca-certificates libvips42t64 libopenjp2-7 libseccomp2 \
        fonts-dejavu-core libheif-plugin-aomenc libheif-plugin-dav1d libheif-plugin-libde265 \
    && rm -rf /var/lib/apt/lists/* /var/cache/* /var/log/* \
    && useradd --uid 10001 --create-home orchestrator \
    && install --directory --owner orchestrator /data
COPY --from=build /opt/orchestrator /opt/orchestrator
COPY scripts/container/ /usr/local/bin/
ENV PATH=/opt/orchestrator/bin:$PATH \
    ORCHESTRATOR_SERVER__DATA_DIR=/data
# By number: Kubernetes cannot tell from a name that it is not root.
USER 10001
VOLUME /data
EXPOSE 8080 8081
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["python3", "-c", "import os, urllib.request as r; port = os.environ.get('ORCHESTRATOR_SERVER__PORT', 8080); r.urlopen(f'http://127.0.0.1:{port}/health/ready', timeout=4)"]
ENTRYPOINT ["orchestrator"]
CMD ["serve"]
