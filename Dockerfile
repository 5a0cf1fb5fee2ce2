# docker build -t resilient-gateway .
# docker run -v ./routes.yaml:/etc/gateway/routes.yaml:ro -p 8080:8080 resilient-gateway
#
# In a container `listen` must name 0.0.0.0 (or [::]), and the admin port should be published to operators only.

FROM python:3.13-slim AS build
RUN python -m venv /opt/gateway
WORKDIR /source
# The packages first: they change less often than the sources and stay in the build cache.
COPY requirements.lock ./
RUN /opt/gateway/bin/pip install --no-cache-dir --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY gateway ./gateway
# The build backend is in the lock; nothing else is fetched, and what only builds does not go into the image.
RUN /opt/gateway/bin/pip install --no-cache-dir --no-deps --no-build-isolation . \
 && /opt/gateway/bin/pip uninstall --yes setuptools \
 && /opt/gateway/bin/python -m gateway --version

FROM python:3.13-slim
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin gateway
COPY --from=build /opt/gateway /opt/gateway
ENV PATH=/opt/gateway/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001
EXPOSE 8080 9901
# For the admin listener at its default port.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9901/healthz', timeout=2)"]
ENTRYPOINT ["gateway"]
CMD ["run", "-c", "/etc/gateway/routes.yaml"]
