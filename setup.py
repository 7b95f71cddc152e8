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
        "qlung_plugin.lobes.quality": ["learned.json"],
        "qlung_plugin.report": ["templates/*"],
    },
    entry_points={"console_scripts": ["qlung = qlung_plugin.cli.main:main"]},
    python_requires=">=3.10,<3.15",
    # Below the next major release of each, which may break what was tested.
    install_requires=[
        # torchaudio, which SpeechBrain imports, ended at 2.11: see README.md.
        "torch>=2.7.1,<2.12",
        "torchaudio>=2.7.1,<2.12",
        "torchvision>=0.22.1,<0.27",
        # 1.1.0 runs the code that a checkpoint's description names.
        "speechbrain>=1.1.1,<2",
        "huggingface_hub<3",
        "hyperpyyaml>=1.2.2,<2",
        "jinja2<4",
        "markupsafe<4",
        "matplotlib>=3.8,<4",
        "numpy>=1.26,<3",
        "pandas<4",
        "pillow<13",
        "pyyaml<7",
        "ruamel.yaml<0.19",
        "safetensors<1",
        "scikit-learn<2",
        "scipy<2",
        "sentencepiece<1",
        "soundfile>=0.12,<1",
        "tqdm<5",
        "transformers>=5,<6",
    ],
    extras_require={
        "demo": ["av>=14,<19", "gradio>=6.31,<7"],
        "media": ["av>=14,<19"],
        "onnx": ["onnx<2", "onnxruntime<2", "onnxscript<1"],
        "tensorboard": ["tensorboard<3"],
        "umap": ["umap-learn<1"],
        "wandb": ["wandb<1"],
        "test": [
            "av>=14,<19",
            "hypothesis<7",
            "pytest<10",
            "pytest-xdist>=3.7,<4",
        ],
        "browser": ["playwright<2"],
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
