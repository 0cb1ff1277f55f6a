# Tandem in a container. For research use only. How it is built and run: docs/service.md
#
#   make wheels && docker build --network none --build-context wheels=build/wheels --target cpu -t tandem .
#
# All that is installed comes from the build context "wheels": pip's own wheel, those of Tandem and
# of its dependencies, and Debian packages. No RUN needs the network, and no file of this folder is
# copied. BASE: Debian with Python 3.11 or newer.
ARG BASE=python:3.11.16-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b

# hadolint ignore=DL3006
FROM ${BASE} AS installed
RUN --mount=type=bind,from=wheels,target=/wheels \
    set -- /wheels/pip-*.whl \
    && python3 -m venv --without-pip /opt/tandem \
    && python3 "$1/pip" --python /opt/tandem install --no-cache-dir \
        --no-index --find-links /wheels "tandem-her2[cluster]"

# hadolint ignore=DL3006
FROM ${BASE} AS runtime
LABEL org.opencontainers.image.title="Tandem" \
      org.opencontainers.image.description="HER2 scores from slide scanners. For research use only." \
      org.opencontainers.image.licenses="Apache-2.0"
# Packages of Debian that are in the context, such as libturbojpeg0; a user without a shell; the one
# folder that is written. Nothing that installs or builds stays in the image.
RUN --mount=type=bind,from=wheels,target=/wheels \
    if ls /wheels/*.deb >/dev/null 2>&1; then dpkg -i /wheels/*.deb; fi \
    && echo "tandem:x:10001:10001::/var/lib/tandem:/usr/sbin/nologin" >>/etc/passwd \
    && echo "tandem:x:10001:" >>/etc/group \
    && install -d -m 0700 -o 10001 -g 10001 /var/lib/tandem \
    && rm -rf /usr/local/bin/pip* /usr/local/lib/python3.*/site-packages \
        /usr/local/lib/python3.*/ensurepip
COPY --from=installed /opt/tandem /opt/tandem
ENV PATH=/opt/tandem/bin:$PATH \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    TANDEM_STATE_DIR=/var/lib/tandem
USER 10001:10001
WORKDIR /var/lib/tandem
HEALTHCHECK --interval=30s --timeout=30s --start-period=2m --retries=3 \
    CMD ["tandem", "status", "--alive"]
ENTRYPOINT ["tandem"]
CMD ["run"]

# Each target refuses wheels of the other build of torch.
FROM runtime AS cuda
RUN ["python", "-c", "import torch; assert torch.version.cuda, 'the wheels are of the CPU build'"]
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

FROM runtime AS cpu
RUN ["python", "-c", "import torch; assert not torch.version.cuda, 'the wheels are of the CUDA build'"]
