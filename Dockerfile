# The commands of the README on a CPU, for the folder that one is in:
#
#   docker build --tag qlung .
#   docker run --rm --user "$(id -u):$(id -g)" --volume "$PWD:/data" qlung \
#       qlung classify /data/breath.wav
#   docker run --rm --user "$(id -u):$(id -g)" --volume "$PWD:/data" qlung \
#       python train.py hparams/qlung.yaml --data_folder /data/ICBHI \
#       --output_folder /data/results/qlung/1234 --cache_folder /data/results/cache
#
# torch is the one of the package index, which brings CUDA along, some 5 GB, as the
# torchaudio there opens with no other.
FROM python:3.11-slim-bookworm

WORKDIR /opt/qlung_plugin

# What the package needs, in a layer that outlives changes of the code.
COPY setup.py pyproject.toml README.md ./
COPY qlung_plugin/__init__.py qlung_plugin/
RUN python -m pip install --no-cache-dir --editable ".[media]"

COPY . .
RUN qlung --version

# Whoever runs it: caches and weights have a place, /data is the working folder's.
ENV HOME=/tmp
USER 65534
CMD ["qlung", "--help"]
