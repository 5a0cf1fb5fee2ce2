# docker build -t resilient-gateway .
# docker run --read-only -v ./routes.yaml:/etc/gateway/routes.yaml:ro -p 8080:8080 resilient-gateway
#
# In a container `listen` must name 0.0.0.0 (or [::]), and the admin port should be published to operators only.
# How it is run, stopped and reloaded: docs/deployment.md.

FROM python:3.13-slim-trixie AS python
# The official image comes without compiled files, and a read-only file system cannot keep them: every start
# and every health check would compile the standard library anew.
RUN python -m compileall -q -x site-packages "$(python -c 'import os; print(os.path.dirname(os.__file__))')"

FROM python AS build
# Without pip in it: the image's own pip installs, and stays behind.
RUN python -m venv --without-pip /opt/gateway
WORKDIR /source
# The packages first: they change less often than the sources and stay in the build cache. This lock is
# requirements.lock and the server of the embedded store.
COPY requirements-all.lock ./
RUN pip --python /opt/gateway/bin/python install --no-cache-dir --require-hashes -r requirements-all.lock
COPY pyproject.toml README.md LICENSE ./
COPY gateway ./gateway
# The build backend is in the lock; nothing else is fetched, and what only builds does not go into the image.
RUN pip --python /opt/gateway/bin/python install --no-cache-dir --no-deps --no-build-isolation . \
 && pip --python /opt/gateway/bin/python uninstall --yes setuptools \
 && /opt/gateway/bin/gateway --version

FROM python
LABEL org.opencontainers.image.title="resilient-gateway" \
      org.opencontainers.image.description="A resilient reverse-proxy API gateway described by one YAML file." \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"
# Numbers that Kubernetes can check (runAsNonRoot) and that do not meet a user of the host.
RUN groupadd --gid 10001 gateway \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin gateway
COPY --from=build /opt/gateway /opt/gateway
ENV PATH=/opt/gateway/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
# Clients by http and https, operators.
EXPOSE 8080 8443 9901
# It asks this very container, so with listen.admin_tls no certificate is verified.
ENV GATEWAY_HEALTH_URL=http://127.0.0.1:9901/healthz
# It stays healthy while it drains: only readiness ends.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
  CMD ["python", "-IS", "-c", "import os, ssl, urllib.request; urllib.request.urlopen(os.environ['GATEWAY_HEALTH_URL'], timeout=2, context=ssl._create_unverified_context())"]
# Process 1 is the gateway's supervisor: it passes signals on and collects ended children, so no init is needed.
STOPSIGNAL SIGTERM
ENTRYPOINT ["gateway"]
CMD ["run", "-c", "/etc/gateway/routes.yaml"]
