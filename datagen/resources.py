"""Finds the folders pipelines/, prompts/ and schemas/, in a checkout and in an installed wheel alike."""

from pathlib import Path

_INSTALLED = Path(__file__).parent / "_resources"
_CHECKOUT = Path(__file__).parents[1]


def resource(name: str) -> Path:
    """Path of the folder `name` (`pipelines`, `prompts` or `schemas`)."""
    installed = _INSTALLED / name
    return installed if installed.is_dir() else _CHECKOUT / name
