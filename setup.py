#!/usr/bin/env python3
"""Installation of the qlung_plugin package."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
INIT = (HERE / "qlung_plugin" / "__init__.py").read_text("utf-8")

setup(
    name="qlung_plugin",
    version=re.search(r'__version__ = "(.+)"', INIT).group(1),
    description=(
        "SpeechBrain plugin for respiratory sound classification with"
        " quality-adaptive angular margins"
    ),
    long_description=(HERE / "README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    author="qlung_plugin contributors",
    license="Apache-2.0",
    packages=find_packages(include=["qlung_plugin", "qlung_plugin.*"]),
    package_data={
        "qlung_plugin": ["py.typed"],
        "qlung_plugin.inference": ["templates/*"],
        "qlung_plugin.lobes.models": ["efficientat_license.txt"],
        "qlung_plugin.lobes.quality": ["learned.json"],
        "qlung_plugin.pretrained": ["icbhi/*", "transfer/*"],
        "qlung_plugin.report": ["templates/*"],
    },
    entry_points={"console_scripts": ["qlung = qlung_plugin.cli.main:main"]},
    python_requires=">=3.10,<3.15",
    # From the oldest that passes the tests (`make test-oldest`) to below the next
    # major release, which may break what was tested.
    install_requires=[
        # torchaudio, which SpeechBrain imports, ended at 2.11, for CUDA 13.0. It
        # refuses a torch for another one, such as 2.15, which is for 13.2.
        "torch>=2.7.1,<2.15",
        "torchaudio>=2.7.1,<2.12",
        "torchvision>=0.22.1,<0.30",
        # 1.1.0 runs the code that a checkpoint's description names.
        "speechbrain>=1.1.1,<2",
        "huggingface_hub>=1.3,<3",
        "hyperpyyaml>=1.2.2,<2",
        "jinja2>=3.1,<4",
        "markupsafe>=2.1,<4",
        "matplotlib>=3.8,<4",
        "numpy>=1.26,<3",
        "pandas>=2.1.1,<4",
        "pillow>=10.1,<14",
        "pyyaml>=6.0.1,<7",
        # hyperpyyaml calls what came with 0.18, and excludes 0.19.
        "ruamel.yaml>=0.18,<0.19",
        "safetensors>=0.4.3,<1",
        "scikit-learn>=1.3,<2",
        "scipy>=1.15,<2",
        "soundfile>=0.13,<1",
        "tqdm>=4.65,<5",
        "transformers>=5,<6",
    ],
    extras_require={
        "benchmarks": ["pytorch-metric-learning>=2.5,<3"],
        "demo": ["av>=14,<20", "gradio>=6.31,<7"],
        "media": ["av>=14,<20"],
        "parquet": ["pyarrow>=15,<27"],
        "onnx": ["onnx<2", "onnxruntime<2", "onnxscript<1"],
        "ray": [
            "fsspec>=2024.6,<2028",
            "pyarrow>=15,<27",
            "ray[data]>=2.40,<3",
        ],
        "tensorboard": ["tensorboard>=2.15,<3"],
        "umap": ["umap-learn<1"],
        "wandb": ["wandb<1"],
        "test": [
            "av>=14,<20",
            "hypothesis>=6.100,<7",
            "pyarrow>=15,<27",
            "pytest>=8.4,<10",
            "pytest-xdist>=3.8,<4",
        ],
        "browser": ["playwright<2"],
        "docs": [
            "ipykernel>=6.29,<8",
            "jupytext>=1.16,<2",
            "mkdocs>=1.6,<2",
            "mkdocs-material>=9.5,<10",
            "mkdocstrings[python]>=1,<2",
            "nbclient>=0.10,<1",
        ],
        "dev": [
            "codespell<3",
            "mypy==2.4.1",
            "pandas-stubs<4",
            "ruff==0.12.4",
            "types-PyYAML<7",
            "yamllint<2",
        ],
    },
    classifiers=["Programming Language :: Python :: 3"],
)
