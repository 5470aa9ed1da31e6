"""The pages of the documentation, their code blocks, and the commands in them."""

import itertools
import re
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "benchmarks" / "README.md"])
SHELL = ("sh", "bash", "console")
_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w+)[^\n]*\n(?P<code>.*?)^(?P=indent)```", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Block:
    """A code block; ``place`` is its file and line."""

    file: Path
    line: int
    language: str
    code: str

    @property
    def place(self) -> str:
        return f"{self.file.relative_to(ROOT).as_posix()}:{self.line}"

    def lines(self) -> list[str]:
        """The commands of a shell block, with continuation lines joined, prompts removed and loops kept whole."""
        commands, depth = [], 0
        for line in self.code.replace("\\\n", " ").splitlines():
            line = line.removeprefix("$ ").strip()
            if depth:
                commands[-1] += "\n" + line
            elif line and not line.startswith("#"):
                commands.append(line)
            depth += line.startswith("for ") - (line == "done")
        return commands


def blocks(*languages: str) -> list[Block]:
    """All blocks in these languages."""
    found = []
    for file in PAGES:
        text = file.read_text(encoding="utf-8")
        for match in _FENCE.finditer(text):
            line = text[: match.start()].count("\n") + 1
            found.append(Block(file, line, match["language"], textwrap.dedent(match["code"])))
    return [block for block in found if block.language in languages]


def transxnet_arguments(block: Block) -> Iterator[list[str]]:
    """The arguments of each ``transxnet`` command of a shell block, with the variables that the block sets."""
    variables: dict[str, str] = {}
    for line in block.lines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|\n")
        lexer.whitespace, lexer.whitespace_split = " \t", True
        words: list[str] = []
        for word in [*lexer, ";"]:
            word = re.sub(r"\$(\w+)", lambda name: variables.get(name[1], name[0]), word)
            if word.strip(";&|\n"):
                words.append(word)
                continue
            while words and (words[0] in ("export", "do") or re.match(r"\w+=", words[0])):
                name, equals, value = words.pop(0).partition("=")
                if equals:
                    variables[name] = value
            program = [i for i, word in enumerate(words) if Path(word).name == "transxnet"][:1]
            if program and words[0] not in ("pip", "cd", "git"):
                yield [*itertools.takewhile(lambda word: word != ">", words[program[0] + 1 :])]
            words = []
