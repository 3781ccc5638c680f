# Cantaloupe for config/compose.yaml: its release on Debian, with the configuration of this folder.
FROM debian:trixie-slim
ARG VERSION=5.0.6
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# hadolint ignore=DL3008
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends ca-certificates curl unzip default-jre-headless \
        libopenjp2-tools \
    && rm -rf /var/lib/apt/lists/*
RUN curl --fail --location --silent --show-error --output /tmp/cantaloupe.zip \
        "https://github.com/cantaloupe-project/cantaloupe/releases/download/v${VERSION}/cantaloupe-${VERSION}.zip" \
    && unzip -q /tmp/cantaloupe.zip -d /opt \
    && mv "/opt/cantaloupe-${VERSION}" /opt/cantaloupe \
    && mv "/opt/cantaloupe/cantaloupe-${VERSION}.jar" /opt/cantaloupe/cantaloupe.jar \
    && rm /tmp/cantaloupe.zip
COPY cantaloupe.properties /etc/cantaloupe.properties
# Its port is open to the network of the containers, not to clients. Nothing purges it: it keeps no derivatives.
RUN sed -i -e 's/^http.host = .*/http.host = 0.0.0.0/' -e 's/^endpoint.api.enabled = .*/endpoint.api.enabled = false/' /etc/cantaloupe.properties
# The user of the platform's image, whose files it reads.
USER 10001
EXPOSE 8182
CMD ["java", "-Dcantaloupe.config=/etc/cantaloupe.properties", "-Djava.io.tmpdir=/tmp", "-Xmx2g", "-jar", "/opt/cantaloupe/cantaloupe.jar"]
