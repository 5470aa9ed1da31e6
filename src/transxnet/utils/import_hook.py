"""Importing a module of a package as soon as another package is imported."""

import sys
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


def import_after(first: str, second: str) -> None:
    """Import a module now if another is imported already, otherwise after the other.

    If a module of the second one's own package imports the first, the second is imported when that module is complete:
    it may need it.

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
        self.package = second.partition(".")[0] + "."
        self.depth = 0  # modules in execution: the first, and those of the second one's package

    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        """Find the module by the other finders, and watch the end of its execution."""
        if fullname != self.first and not fullname.startswith(self.package):
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        spec = next(filter(None, (finder.find_spec(fullname, path, target) for finder in others)), None)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_follow(module: ModuleType) -> None:
                self.depth += 1
                try:
                    execute(module)
                finally:
                    self.depth -= 1
                if not self.depth and self.first in sys.modules and self in sys.meta_path:
                    sys.meta_path.remove(self)
                    import_module(self.second)

            spec.loader.exec_module = execute_and_follow  # type: ignore[method-assign]
        return spec
