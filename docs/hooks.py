"""MkDocs hooks: pages from other files of the repository, and a reference of the commands and recipes."""

import argparse
import importlib
import inspect
import logging
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from transxnet.cli.command import Command
from transxnet.cli.command_table import COMMANDS
from transxnet.runs.recipes import RECIPES, recipe_names

ROOT = Path(__file__).parents[1]
LOG = logging.getLogger("mkdocs.hooks.transxnet")

INCLUDED = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "benchmarks/README.md": "internals/benchmarks.md",
}
"""Files outside of docs/, and their pages."""

PACKAGES = {
    "layers": "Layers",
    "layers.compared": "Compared layers",
    "heads": "Heads",
    "ops": "Operators",
}
"""Packages whose public names have a page in the reference."""

RECIPE_PAGE = "reference/recipes.md"

_LINK = re.compile(r"(\]\()([^)\s]+)(\))")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Enter a page for each command into the navigation."""
    reference = next(entry["Reference"] for entry in config.nav if "Reference" in entry)
    commands = next(entry["Commands"] for entry in reference if "Commands" in entry)
    commands += [{f"transxnet {name}": f"reference/commands/{name}.md"} for name in COMMANDS]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not files in docs/."""
    pages = {page: (ROOT / file).read_text(encoding="utf-8") for file, page in INCLUDED.items()}
    pages["reference/commands/index.md"] = command_list()
    pages |= {f"reference/commands/{name}.md": command_page(command) for name, command in COMMANDS.items()}
    pages |= {f"reference/api/{name.rpartition('.')[2]}.md": package_page(name) for name in PACKAGES}
    pages[RECIPE_PAGE] = recipe_page()
    for path, content in pages.items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links between files of the repository into links between pages."""
    path = page.file.src_uri
    if page.url in ("index.html", "changelog.html"):  # these sections have a single page
        page.meta["hide"] = ["navigation"]
    source = next((file for file, name in INCLUDED.items() if name == path), f"docs/{path}")
    if source == "README.md":  # the navigation of the site replaces its list of pages
        markdown = re.sub(r"^## Documentation\n.*?(?=^## )", "", markdown, flags=re.DOTALL | re.MULTILINE)
    fenced, lines = False, []
    for line in markdown.splitlines():
        fenced ^= line.lstrip().startswith("```")
        lines.append(line if fenced else _LINK.sub(lambda link: _page_link(link, source, path), line))
    return "\n".join(lines)


def _page_link(link: re.Match, source: str, page: str) -> str:
    target, hash_, anchor = link[2].partition("#")
    if not target or ":" in target:
        return link[0]
    file = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    if not (ROOT / file).exists() and not file.startswith("docs/reference/"):
        LOG.warning("%s links to %s, which does not exist", source, file)
        return link[0]
    if file.startswith("src/transxnet/recipes/"):
        found, hash_, anchor = RECIPE_PAGE, "#", Path(file).stem
    elif file.startswith("docs/"):
        found = file.removeprefix("docs/")
    elif file in INCLUDED:
        found = INCLUDED[file]
    else:
        LOG.warning("%s links to %s, which is no page of the site: write it as code", source, file)
        return link[0]
    return link[1] + posixpath.relpath(found, posixpath.dirname(page) or ".") + hash_ + anchor + link[3]


def package_page(name: str) -> str:
    """Return the page with the public names of a package, which mkdocstrings fills from the docstrings."""
    package = importlib.import_module(f"transxnet.{name}")
    docstring = re.sub(r":\w+:`~?([\w.]+)`", r"`\1`", inspect.getdoc(package) or "").replace("``", "`")
    entries = [f"::: transxnet.{name}.{entry}\n" for entry in sorted(package.__all__, key=str.lower)]
    return "\n".join([f"# {PACKAGES[name]}\n", f"{docstring}\n", *entries])


def command_list() -> str:
    """Return the page that lists all commands."""
    lines = [
        "# Commands",
        "",
        "The help of every command, as printed by `transxnet COMMAND --help`. Every command is also a function of the",
        "same name: see [functions](../api/functions.md).",
        "",
        "| command | |",
        "|---|---|",
    ]
    for name, command in COMMANDS.items():
        lines.append(f"| [`{name}`]({name}.md) | {_text(command.summary)} |")
    return "\n".join(lines) + "\n"


def command_page(command: Command) -> str:
    """Return the page of a command: usage, arguments and options with their defaults."""
    parser = command.parser()
    usage = parser.format_usage().removeprefix("usage: ").replace("\n       ", "\n").strip()
    lines = [f"# transxnet {command.name}", "", _text(command.description), "", "```text", usage, "```", ""]
    for group in parser._action_groups:
        actions = [action for action in group._group_actions if action.dest != "help"]
        if actions:
            title = {"positional arguments": "Arguments", "options": "Options"}.get(str(group.title), str(group.title))
            lines += [f"## {title[0].upper()}{title[1:]}", ""]
            for action in actions:
                lines += _definition(action)
    return "\n".join(lines)


def _definition(action: argparse.Action) -> Iterator[str]:
    name = action.option_strings[-1] if action.option_strings else str(action.metavar or action.dest)
    takes_value = bool(action.option_strings) and action.nargs != 0
    value = f" {action.metavar or action.dest.rpartition('_')[2].upper()}" if takes_value else ""
    text = _text(re.sub(r"(?<!\.)\.$", "", action.help or ""))
    default = action.default
    if takes_value and default is not None and default is not False and default != argparse.SUPPRESS:
        text += f" (default: `{default}`)"
    if action.required and action.option_strings:
        text += " (required)"
    yield from (f"`{name}{value}`{{ #{action.dest} }}", f":   {text}", "")


def recipe_page() -> str:
    """Return the page with every recipe: its comment and its settings."""
    lines = [
        "# Recipes",
        "",
        "`transxnet train DATA --recipe NAME` loads these settings. Other options override them, and `--print-config`",
        "prints the result. A recipe may also be a YAML file of your own.",
        "",
    ]
    for name in recipe_names():
        comment, settings = split_recipe((RECIPES / f"{name}.yaml").read_text(encoding="utf-8"))
        lines += [f"## {name}", "", *_comment(comment), "```yaml", settings.strip(), "```", ""]
    return "\n".join(lines)


def split_recipe(text: str) -> tuple[list[str], str]:
    """Return the lines of the first comment, and the settings."""
    lines = text.splitlines()
    end = next(i for i, line in enumerate(lines) if not line.startswith("#"))
    return [line.removeprefix("#").removeprefix(" ") for line in lines[:end]], "\n".join(lines[end:])


def _comment(lines: list[str]) -> Iterator[str]:
    """Paragraphs, and a definition list of the lines ``Key: text`` with their indented continuations."""
    for line in lines:
        key = re.match(r"(Paper|Command|Hardware|Published|Measured by us): +(.*)", line)
        if key:
            yield from ("", key[1])
            yield f":   {_recipe_text(key[2])}"
        elif line.startswith("   "):
            yield f"    {_recipe_text(line.strip())}"
        else:
            yield _text(line)
    yield ""


def _recipe_text(text: str) -> str:
    command = re.match(r"((?:torchrun|transxnet|GOMP_\S+|--checkpoint runs)\b.*)", text)
    if command:
        return f"`{text}`<br>"
    text = re.sub(r"(transxnet (?:train|info) [^;)]*[^;).]|runs/\S+)", r"`\1`", text) if "`" not in text else text
    return _text(text)


def _text(text: str) -> str:
    """Plain text as Markdown: options and quoted code as code, everything else literal."""
    text = " ".join(text.replace("``", "`").split())
    pieces = re.split(r"(`[^`]*`)", text)
    for i in range(0, len(pieces), 2):
        code = re.sub(r"(?<![\w`-])(--[a-z_-]+)", r"`\1`", pieces[i])
        parts = re.split(r"(`[^`]*`)", code)
        parts[::2] = [re.sub(r"([\\*_\[\]<>#|])", r"\\\1", part) for part in parts[::2]]
        pieces[i] = "".join(parts)
    return "".join(pieces)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Refuse pages that load anything from other machines."""
    for tag in re.findall(r"<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)=[\"']?(?:https?:)?//[^>]*>", output):
        if 'rel="canonical"' not in tag:
            LOG.warning("%s loads from another machine: %s", page.file.src_uri, tag)
    return output
