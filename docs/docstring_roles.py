"""Griffe extension: turn Sphinx roles in docstrings into links of the site."""

import re
from typing import Any

from griffe import Extension, Object

_ROLE = re.compile(r":(?:class|func|mod|data|meth|attr):`(~?)([\w.]+)`")


class DocstringRoles(Extension):
    """``:class:`~transxnet.layers.IDConv``` becomes a link named ``IDConv``, or code if the site has no such entry."""

    def on_object(self, *, obj: Object, **kwargs: Any) -> None:
        """Convert the roles of one docstring."""
        if obj.docstring is not None:
            obj.docstring.value = _ROLE.sub(lambda role: self._link(obj, *role.groups()), obj.docstring.value)

    @staticmethod
    def _link(obj: Object, short: str, name: str) -> str:
        try:
            path = name if name.startswith("transxnet.") else obj.resolve(name)
        except Exception:  # griffe has several errors for names that it cannot resolve
            path = name
        shown = name.rpartition(".")[2] if short else name
        return f'<autoref identifier="{path}" optional><code>{shown}</code></autoref>'
