"""Importing a module as soon as another is imported."""

import sys
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any


def import_after(first: str, second: str) -> None:
    """Import a module now if another is imported already, otherwise right after the other.

    Args:
        first: name of a top-level module.
        second: name of the module to import after it.
    """
    if first in sys.modules:
        import_module(second)
    else:
        sys.meta_path.insert(0, _ImportAfter(first, second))


class _ImportAfter(MetaPathFinder):
    def __init__(self, first: str, second: str):
        self.first, self.second = first, second

    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        """Find the first module by the other finders, and let its loader import the second."""
        if fullname != self.first:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(fullname)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_both(module: ModuleType) -> None:
                execute(module)
                import_module(self.second)

            spec.loader.exec_module = execute_both  # type: ignore[method-assign]
        return spec
