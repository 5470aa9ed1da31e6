"""The commands ``info``, ``bench`` and ``explain``, which do more than call one function."""

from typing import Any

from rich.console import Console

from transxnet.cli.command import Command, load
from transxnet.cli.parser import Parser
from transxnet.utils.errors import UserError
from transxnet.utils.option_names import as_option


class InfoCommand(Command):
    """The command ``info``, whose first options are for classification and the second for the other tasks."""

    def call(self, parser: Parser, given: dict[str, Any]) -> None:
        """Print the properties of a model, or of a detector or segmenter with this backbone."""
        task, model = given.pop("task"), given.pop("model")
        classify, dense = self.options
        names = classify.names + (() if task == "classify" else dense.names)
        wrong = [as_option(name) for name, value in given.items() if name not in names and value is not None]
        if wrong:
            raise UserError(f"--task {task} does not accept {', '.join(wrong)}. See: {parser.prog} --help")
        options = {name: given[name] for name in names}
        if task == "classify":
            Console().print(load(self.show)(load(self.function)(model, **options)), highlight=False, soft_wrap=True)
            return
        from transxnet.analysis.dense_cost import show

        Console().print(show(load(dense.source)(model, task=task, **options)), highlight=False)


class BenchCommand(Command):
    """The command ``bench``, which fails if no model could be measured."""

    def call(self, parser: Parser, given: dict[str, Any]) -> None:
        """Run the benchmark and print the table."""
        result = load(self.function)(**given)
        Console().print(load(self.show)(result), highlight=False)
        if all(row.failure for row in result.rows):
            raise UserError("no model could be measured.")


class ExplainCommand(Command):
    """The command ``explain``, whose arguments are all images with a preset, or networks of it with weights on disk."""

    def call(self, parser: Parser, given: dict[str, Any]) -> None:
        """Explain the images."""
        words, preset = [given.pop("model"), *given.pop("images")], given["preset"]
        if preset is not None:
            from transxnet.analysis.paper_figures import EXPLAIN_FIGURES, find_figure, split_words

            models, images = split_words(find_figure(EXPLAIN_FIGURES, preset), words)
            load(self.function)(models, images, **given)
            return
        if len(words) == 1:
            parser.error("the following arguments are required: images")
        load(self.function)(words[0], words[1:], **given)
