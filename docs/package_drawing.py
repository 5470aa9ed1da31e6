"""Draw the packages and the direction of their imports, from the import-linter contract in pyproject.toml.

After a change of the layers: ``python docs/package_drawing.py``.
"""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
DRAWING = ROOT / "docs" / "internals" / "packages.svg"

CAPTIONS = {
    "cli": "command line",
    "web": "page of transxnet app",
    "ablation": "ablation tables",
    "studies": "cross-validated comparisons",
    "experiments": "many runs in one folder",
    "training": "train",
    "prediction": "predict",
    "benchmark": "bench",
    "analysis": "receptive fields, Grad-CAM, cost",
    "checking": "duplicates, leaks, label errors",
    "deploy": "export, reparameterize, int8",
    "reports": "HTML reports, drawings",
    "evaluation": "models and exported files on images",
    "runs": "run folders, configurations, recipes",
    "metrics": "accuracy, AP, mean IoU",
    "heads": "RetinaNet, Mask R-CNN, Semantic FPN",
    "models": "TransXNet, weights, create_model",
    "layers": "named parts of the paper, and those it compares",
    "ops": "operators and their Triton kernels",
    "data": "formats, datasets, loaders",
    "utils": "files, locks, errors",
    "version": "version number",
}
"""One line for each package."""

FILLS = {
    "#e8eaf6": ("cli", "web", "ablation", "studies", "experiments"),
    "#e0f2f1": ("training", "prediction", "benchmark", "checking", "evaluation", "analysis", "deploy"),
    "#fff3e0": ("reports", "runs", "metrics"),
    "#fce4ec": ("heads", "models", "layers", "ops"),
    "#eceff1": ("data", "utils", "version"),
}
"""Background colors. The boxes are light with dark text, so the drawing is legible on a light and a dark page."""

WIDTH, ROW, GAP, MARGIN = 720, 34, 8, 34


def package_layers() -> list[list[str]]:
    """Return the packages of each layer, the top layer first."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(each["layers"] for each in contracts if each.get("containers") == ["transxnet"])
    return [layer.replace(" ", "").split("|") for layer in layers]


def draw_packages(layers: list[list[str]]) -> str:
    """Draw one row of boxes for each layer."""
    fills = {package: color for color, packages in FILLS.items() for package in packages}
    height = len(layers) * (ROW + GAP) - GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        'font-family="system-ui, sans-serif">',
        "<title>Packages of transxnet. A package imports only packages in the rows below it.</title>",
        f'<path d="M14 2V{height - 4}M8 {height - 12}L14 {height - 4}L20 {height - 12}" fill="none" '
        'stroke="#7986cb" stroke-width="2"/>',
    ]
    for row, packages in enumerate(layers):
        top = row * (ROW + GAP)
        width = (WIDTH - MARGIN - GAP * (len(packages) - 1)) / len(packages)
        for column, package in enumerate(packages):
            left = MARGIN + column * (width + GAP)
            parts += [
                f'<rect x="{left:g}" y="{top}" width="{width:g}" height="{ROW}" rx="4" fill="{fills[package]}" '
                'stroke="#9e9e9e"/>',
                f'<text x="{left + 10:g}" y="{top + 22}" font-size="14" fill="#212121">'
                f'<tspan font-weight="600">{package}</tspan>'
                f'<tspan dx="8" font-size="12" fill="#424242">{CAPTIONS[package]}</tspan></text>',
            ]
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    DRAWING.write_text(draw_packages(package_layers()), encoding="utf-8")
