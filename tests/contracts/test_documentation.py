"""The documentation: links between files, the drawing of the packages, and names that every page must list."""

import re
import shlex
from pathlib import Path

import pytest

import transxnet
from docs.package_drawing import DRAWING, draw_packages, package_layers
from tests.helpers.documented_code import PAGES, ROOT
from transxnet.cli.command_table import COMMANDS
from transxnet.runs.recipes import recipe_names
from transxnet.utils.errors import UserError

DOCS = ROOT / "docs"
LINK = re.compile(r"\]\(([^)\s#]*)(?:#([^)\s]*))?\)")


def prose(page: Path) -> list[str]:
    """The lines of a page outside of code blocks."""
    fenced, lines = False, []
    for line in page.read_text(encoding="utf-8").splitlines():
        fenced ^= line.lstrip().startswith("```")
        if not fenced:
            lines.append(re.sub(r"`[^`]*`", lambda code: "x" * len(code[0]), line) if "](" not in line else line)
    return lines


def anchors(page: Path) -> set[str]:
    """Anchors of the headings, as a git host and the site make them."""
    headings = [line.lstrip("#").strip() for line in prose(page) if re.match(r"#+ ", line)]
    return {re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_files_and_headings(page):
    broken = []
    for target, anchor in LINK.findall("\n".join(prose(page))):
        if "://" in target or target.startswith("mailto:"):
            continue
        file = (page.parent / target).resolve() if target else page
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
            broken.append(f"{target}#{anchor}")
    assert broken == []


def test_drawing_of_the_packages_matches_the_import_contract():
    """After a change of the layers, run: python docs/package_drawing.py"""
    assert DRAWING.read_text(encoding="utf-8") == draw_packages(package_layers())


def test_every_package_is_described():
    described = (DOCS / "internals" / "architecture.md").read_text(encoding="utf-8")
    packages = [path.name for path in (ROOT / "src" / "transxnet").iterdir() if (path / "__init__.py").is_file()]
    assert [name for name in packages if f"`{name}`" not in described] == []


def test_every_public_name_is_in_the_reference():
    text = "\n".join(page.read_text(encoding="utf-8") for page in (DOCS / "reference" / "api").glob("*.md"))
    described = {line.rpartition(".")[2] for line in text.splitlines() if line.startswith("::: ")}
    by_module = {"TransXNet", "TransXNetFeatures", "__version__"}  # the first two by "::: transxnet.models.transxnet"
    assert set(transxnet.__all__) - described - by_module == set()


def test_recipes_of_the_paper_are_listed():
    listed = (DOCS / "research" / "recipes.md").read_text(encoding="utf-8")
    published = [name for name in recipe_names() if name.startswith(("imagenet", "coco", "ade20k"))]
    assert [name for name in published if f"{name}.yaml" not in listed] == []


def test_minimum_versions_in_the_documentation_are_those_of_pyproject():
    minimum = dict(re.findall(r'"(torch|torchvision|timm|lightning)>=([\d.]+)"', (ROOT / "pyproject.toml").read_text()))
    text = (DOCS / "internals" / "reliability.md").read_text(encoding="utf-8")
    for name, version in minimum.items():
        assert re.search(rf"{name} {re.escape(version)}(\.0)?\b", text), f"{name} {version}"


def commands_in_text() -> dict[str, list[str]]:
    """All commands in code spans, by their text, as words; test_documented_code.py has those in code blocks."""
    found = {}
    for page in PAGES:
        text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for span in re.findall(r"`transxnet ([a-z]+ [^`\n]*)`", text):
            if "COMMAND" not in span:
                found[span] = shlex.split(span)
    return found


@pytest.mark.parametrize("words", commands_in_text().values(), ids=commands_in_text())
def test_command_in_the_text_has_these_options(words):
    """Options and values, not whether models and files exist."""
    parser = COMMANDS[words[0]].parser()
    try:
        parser.parse_words(words[1:])
    except UserError as error:
        if not re.search("^missing: |expected one argument", str(error)):  # a span such as `transxnet train --recipe`
            raise


def test_documented_files_exist():
    """Paths of modules, tests and recipes in code spans."""
    missing = []
    for page in PAGES:
        if page.name in ("CHANGELOG.md", "CONTRIBUTING.md"):  # files of the past, and of the examples
            continue
        for path in re.findall(r"`((?:[a-z_]+/)+[a-z_0-9]+\.py)`", page.read_text(encoding="utf-8")):
            if not any((base / path).is_file() for base in (ROOT, ROOT / "src" / "transxnet")):
                missing.append(f"{page.name}: {path}")
    assert missing == []


def test_documented_test_selections_exist():
    """``pytest PATH -k WORD``: the paths exist, and a test of these files has the word in its name."""
    missing = []
    for page in PAGES:
        for command in re.findall(r"`pytest ([^`]*)`", page.read_text(encoding="utf-8")):
            words = shlex.split(command.partition(",")[0])
            paths = [ROOT / word for word in words if word.startswith("tests/")]
            files = [file for path in paths for file in ([path] if path.is_file() else path.rglob("test_*.py"))]
            names = [name for file in files for name in re.findall(r"def (test_\w+)", file.read_text(encoding="utf-8"))]
            wanted = words[words.index("-k") + 1] if "-k" in words else ""
            if not all(path.exists() for path in paths) or not any(wanted in name for name in names):
                missing.append(f"{page.name}: pytest {command}")
    assert missing == []
