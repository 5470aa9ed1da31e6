"""Options of a small ablation, and its table."""

import json
from pathlib import Path
from typing import Any

SMALL = "depths=(1,1,1,1),embed_dims=(16,16,32,32),num_heads=(1,1,2,2)"
OPTIONS = dict(
    model=f"transxnet_n@{SMALL}", rows="dwconv,idconv", seeds="0,3", rounds=0, img_size=32, batch_size=8, epochs=1,
    workers=0, device="cpu", lr=3e-3,
)  # fmt: skip


def read_table(path: Path) -> dict[str, Any]:
    """Read the table in an ablation folder."""
    return json.loads((path / "table.json").read_text())
