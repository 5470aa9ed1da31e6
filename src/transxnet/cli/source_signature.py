"""Signatures and constants read from source files: importing the commands takes seconds, as they import torch."""

import ast
import builtins
import importlib
from collections.abc import Callable, Collection
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any


def read_signature(path: str, names: Collection[str]) -> Callable[..., None]:
    """Return a function with some parameters of another function and its docstring, without importing the other.

    Args:
        path: the other function, as ``"package.module:name"``.
        names: parameters to include; each has a default value.
    """
    module, _, name = path.partition(":")
    function = _definition(module, name)
    assert isinstance(function, ast.FunctionDef), path
    given = function.args
    positional = zip(given.args[-len(given.defaults) :], given.defaults, strict=False)
    keyword = zip(given.kwonlyargs, given.kw_defaults, strict=True)
    kept = [(parameter, default) for parameter, default in (*positional, *keyword) if parameter.arg in names]
    parameters, defaults = (list(column) for column in zip(*kept, strict=True))
    function.args = ast.arguments([], [], None, parameters, defaults, None, [])
    function.body, function.returns = function.body[:1], None
    namespace = _values(module, function) | {"__name__": "transxnet"}
    exec(compile(ast.Module([function], type_ignores=[]), path, "exec"), namespace)
    return namespace[name]


def read_value(path: str) -> Any:
    """Return a constant or a type alias by its path ``"package.module:name"``, without importing the module."""
    module, _, name = path.partition(":")
    node = _definition(module, name)
    if isinstance(node, ast.ImportFrom):
        assert node.module is not None
        if node.module.startswith("transxnet."):
            return read_value(f"{node.module}:{name}")
        return getattr(importlib.import_module(node.module), name)
    assert isinstance(node, ast.Assign), path
    return eval(compile(ast.Expression(node.value), path, "eval"), _values(module, node.value))


def _values(module: str, node: ast.AST) -> dict[str, Any]:
    """Return the values of the names of a module that a piece of its code uses."""
    names = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
    return {name: read_value(f"{module}:{name}") for name in names if not hasattr(builtins, name)}


def _definition(module: str, name: str) -> ast.stmt:
    """Return the statement of a module that defines a name."""
    for node in ast.parse(_source(module)).body:
        match node:
            case ast.FunctionDef() if node.name == name:
                return node
            case ast.ImportFrom() if name in [alias.name for alias in node.names]:
                return node
            case ast.Assign(targets=[ast.Name(id=target)]) if target == name:
                return node
    raise LookupError(f"{module} does not define {name}")


@cache
def _source(module: str) -> str:
    spec = find_spec(module)  # imports the packages above, which are empty
    assert spec is not None and spec.origin is not None, module
    return Path(spec.origin).read_text(encoding="utf-8")
