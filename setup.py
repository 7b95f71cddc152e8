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
        "qlung_plugin.lobes.quality": ["learned.json"],
        "qlung_plugin.report": ["templates/*"],
    },
    entry_points={"console_scripts": ["qlung = qlung_plugin.cli.main:main"]},
    python_requires=">=3.10,<3.15",
    install_requires=[
        # torchaudio, which SpeechBrain imports, ended at 2.11: see README.md.
        "torch>=2.7.1,<2.12",
        "torchaudio>=2.7.1,<2.12",
        "torchvision>=0.22.1,<0.27",
        # 1.1.0 runs the code that a checkpoint's description names.
        "speechbrain>=1.1.1",
        "huggingface_hub",
        "hyperpyyaml>=1.2.2",
        "jinja2",
        "markupsafe",
        "matplotlib>=3.8",
        "numpy",
        "pandas",
        "pillow",
        "pyyaml",
        "ruamel.yaml",
        "safetensors",
        "scikit-learn",
        "scipy",
        "sentencepiece",
        "soundfile>=0.12",
        "tqdm",
        "transformers>=5",
    ],
    extras_require={
        "demo": ["av>=14", "gradio>=6.31"],
        "media": ["av>=14"],
        "onnx": ["onnx", "onnxruntime", "onnxscript"],
        "tensorboard": ["tensorboard"],
        "umap": ["umap-learn"],
        "wandb": ["wandb"],
        "test": ["av>=14", "hypothesis", "pytest", "pytest-xdist"],
        "browser": ["playwright"],
        "dev": ["codespell", "ruff==0.12.4", "yamllint"],
    },
    classifiers=["Programming Language :: Python :: 3"],
)
