"""Packages that not everybody needs: imported when a format asks for them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from emsr.errors import InputError


def needed(module: str, extra: str, what: str) -> Any:
    """The module; where it is not installed, InputError with the command that does so."""
    try:
        return import_module(module)
    except ImportError:
        raise InputError(
            f"{what} needs the package {module}: install it with pip install 'emsr[{extra}]'"
        ) from None
