"""Bad inputs to the public verbs, one module for each family; a module that is put here takes part.

A row: how to come to the object (a path, or a function of the store), verb, arguments, options, and the field and
value that the error must name (... is not looked at). The store that they are tried on is `kb` in `test_contracts.py`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any

Owner = str | Callable[[Any], Any]
Row = tuple[Owner, str, tuple[Any, ...], dict[str, Any], Any, Any]
NAN = float("nan")


def every() -> list[Row]:
    """The rows of all modules here."""
    modules = [importlib.import_module(f"{__name__}.{each.name}") for each in pkgutil.iter_modules(__path__)]
    return [row for module in modules for row in module.BAD]
