"""What is installed beside the package has an upper bound, and fits it.

Authors
 * qlung_plugin contributors
"""

import ast
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

SETUP = Path(__file__).resolve().parents[2] / "setup.py"


def requirements():
    """Those of the package and of all its extras."""
    for call in ast.walk(ast.parse(SETUP.read_text())):
        if isinstance(call, ast.keyword) and call.arg == "install_requires":
            yield from ast.literal_eval(call.value)
        if isinstance(call, ast.keyword) and call.arg == "extras_require":
            yield from sum(ast.literal_eval(call.value).values(), [])


@pytest.mark.parametrize("text", sorted(set(requirements())))
def test_requirement_is_bounded_and_met(text):
    """Tomorrow's release of another project does not break today's install."""
    requirement = Requirement(text)
    operators = {one.operator for one in requirement.specifier}
    assert operators & {"<", "=="}
    try:
        installed = version(requirement.name)
    except PackageNotFoundError:
        pytest.skip(f"{requirement.name} is an extra that is not here")
    assert installed in requirement.specifier
