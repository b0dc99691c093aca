# The program with its bundled encoders, for Ray clusters on Kubernetes. See docs/cluster.md.
#
#     docker build --tag REGISTRY/paretofuse . && docker push REGISTRY/paretofuse
#
# Not one of NVIDIA's or PyTorch's images: PyPI's torch for Linux brings the CUDA libraries that it was built for, and
# the driver is the node's. So the versions are those of constraints.txt, and CUDA is in the image once.
FROM python:3.11-slim

# KubeRay asks with wget whether a pod is well.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends wget \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --create-home --shell /bin/bash paretofuse

# What is large comes first: this layer stays as it is when only the program changes.
WORKDIR /opt/paretofuse
COPY pyproject.toml constraints.txt bundled-encoders.txt ./
RUN python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"], sep="\n")' \
        > /tmp/requirements.txt \
    && pip install --no-cache-dir -c constraints.txt -r /tmp/requirements.txt "ray[default]" boto3 \
    && pip install --no-cache-dir --no-deps --require-hashes -r bundled-encoders.txt

COPY . .
RUN pip install --no-cache-dir --no-deps -e .

# For NVIDIA's container runtime.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    RAY_USAGE_STATS_ENABLED=0
USER 1000
WORKDIR /home/paretofuse
