"""The page itself: Gradio's components, and what happens when they are used."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import gradio as gr
import matplotlib
from matplotlib.colors import to_hex
from PIL import Image

from transxnet.analysis.explain_figure import COLORMAP
from transxnet.metrics.detection import MIN_SCORE, Detections
from transxnet.reports.html_page import load_template
from transxnet.runs.load import TrainedClassifier, TrainedDetector
from transxnet.utils.errors import UserError
from transxnet.web.about import subtitle, title
from transxnet.web.answers import Answer, Answerer
from transxnet.web.examples import Examples
from transxnet.web.uploads import more_than_one, read_picture

_logger = logging.getLogger(__name__)

THE_ANSWER = -1
"""Stands for the class to explain where the visitor has not chosen one."""

KEPT = 3600
"""Seconds after which a picture that was sent is deleted."""

HINT = "Send a picture, or choose an example."
FAILED = "Something went wrong with this picture. What it was stands in the terminal that the page was started from."

Values = dict[Any, Any]
"""New values of components."""


@dataclass(frozen=True)
class Shown:
    """What a visitor looks at, by where it can be had again: pictures would fill the memory, visitor by visitor.

    Attributes:
        source: a file that was sent, or the number of an example.
        found: what a detector found in it, with any score.
    """

    source: str | int
    found: Detections | None


class Page:
    """The components, and what they do.

    Args:
        answerer: the model.
        examples: of the run, or None.
        why_no_examples: a sentence for the visitor in that case, or nothing.
        max_bytes: of a file that is sent.

    Attributes:
        blocks: what Gradio serves.
    """

    def __init__(self, answerer: Answerer, examples: Examples | None, why_no_examples: str, max_bytes: int):
        self._answerer, self._examples, self._why_no_examples = answerer, examples, why_no_examples
        self._max_bytes = max_bytes
        self._html = cast(Any, load_template("app.html.jinja").module)
        self._detects = isinstance(answerer.trained, TrainedDetector)
        about = title(answerer.trained)
        with gr.Blocks(title=about, analytics_enabled=False, delete_cache=(KEPT // 6, KEPT)) as self.blocks:
            gr.HTML(self._html.head(about, subtitle(answerer.trained)))
            with gr.Row():
                with gr.Column(scale=2, min_width=260):
                    self._choosing()
                with gr.Column(scale=5, min_width=260):
                    self._answering()
            self._connect()

    def _choosing(self) -> None:
        self._upload = gr.File(
            label="Picture", file_types=["image", ".avif", ".jp2"], height=150, elem_id="upload", buttons=[]
        )
        gr.HTML(self._html.refused(self._max_bytes), elem_id="refused")
        self._gallery = None
        if self._examples is not None:
            examples = self._examples
            classes = ", with their true classes" if isinstance(self._answerer.trained, TrainedClassifier) else ""
            gr.HTML(self._html.label(f"Examples that it has not learnt from{classes}"), elem_id="examples-label")
            self._gallery = gr.Gallery(
                list(zip(examples.thumbnails, examples.captions, strict=True)),
                label="Examples",
                show_label=False,
                columns=4,
                height="auto",
                object_fit="cover",
                allow_preview=False,
                interactive=False,
                buttons=[],
                elem_id="examples",
            )
        elif self._why_no_examples:
            gr.HTML(self._html.message(self._why_no_examples, False), elem_id="no-examples")

    def _answering(self) -> None:
        self._shown = gr.State(None)
        self._message = gr.HTML(self._html.message(HINT, False), elem_id="message")
        with gr.Column(visible=False, elem_id="result") as self._result:
            with gr.Row():
                with gr.Column(scale=3, min_width=260):
                    self._picture = _picture("What the model says, over the picture", "picture")
                with gr.Column(scale=2, min_width=240):
                    self._answer = gr.HTML(elem_id="answer")
                    self._least = gr.Slider(
                        0.05, 0.95, MIN_SCORE, step=0.05, label="Least score", visible=self._detects, elem_id="least"
                    )
            if self._answerer.places:
                self._explaining()
            else:
                gr.HTML(self._html.message(f"No Grad-CAM: {self._answerer.why_no_places}", False), elem_id="no-reasons")

    def _explaining(self) -> None:
        places = [(place.title, name) for name, place in self._answerer.places.items()]
        classes = sorted((word, i) for i, word in enumerate(self._answerer.words))
        with gr.Row():
            with gr.Column(scale=3, min_width=260):
                self._heat = _picture("The picture under colours that show what speaks for the class", "heat")
            with gr.Column(scale=2, min_width=240):
                self._reasons = gr.HTML(elem_id="reasons")
                self._place = gr.Radio(places, value=places[-1][1], label="Where in the network", elem_id="place")
                first = "the likeliest" if isinstance(self._answerer.trained, TrainedClassifier) else "the most certain"
                if not isinstance(self._answerer.trained, (TrainedClassifier, TrainedDetector)):
                    first = "the commonest"
                self._class = gr.Dropdown(
                    [(first, THE_ANSWER), *classes], value=THE_ANSWER, label="Class", elem_id="class"
                )

    def _connect(self) -> None:
        """One picture at a time is computed, whoever asks; API routes are for the page alone."""
        model: dict[str, Any] = {
            "api_visibility": "private",
            "concurrency_limit": 1,
            "concurrency_id": "model",
            "show_progress": "minimal",
        }
        answer = [self._shown, self._message, self._result, self._picture, self._answer]
        asking: dict[str, Any] = {**model, "show_progress_on": [self._upload, self._picture]}
        asked = [self._upload.upload(self._sent, [self._upload, self._least], [self._upload, *answer], **asking)]
        if self._gallery is not None:
            asked.append(self._gallery.select(self._chosen, [self._least], answer, **asking))
        if self._detects:
            # Drawing needs no model, and so waits for none; not on release, which a keyboard never does.
            drawing = {**asking, "concurrency_id": "drawing", "show_progress_on": [self._picture]}
            limit = [self._shown, self._least]
            self._least.change(self._limited, limit, answer, trigger_mode="always_last", **drawing)
        if self._answerer.places:
            wishes, reasons = [self._shown, self._place, self._class], [self._heat, self._reasons]
            explaining = {**model, "show_progress_on": [self._heat]}
            for event in asked:
                event.then(self._explained, wishes, reasons, **explaining)
            for control in (self._place, self._class):
                control.input(self._explained, wishes, reasons, **explaining)
        self.blocks.queue(max_size=64)

    def _sent(self, path: str, least: float) -> Values:
        return {self._upload: None, **self._attempt(lambda: self._look_at(str(path), least))}

    def _chosen(self, least: float, event: gr.SelectData) -> Values:
        return self._attempt(lambda: self._look_at(int(event.index), least))

    def _limited(self, shown: Shown | None, least: float) -> Values:
        if shown is None or shown.found is None:
            return {}
        source, found = shown.source, shown.found
        return self._attempt(lambda: self._values(shown, self._answerer.with_least(self._open(source), found, least)))

    def _explained(self, shown: Shown | None, place: str, class_index: int) -> Values:
        if shown is None:
            return {self._heat: None, self._reasons: ""}
        chosen = None if class_index == THE_ANSWER else class_index
        try:
            found = self._answerer.explain(self._open(shown.source), place, chosen)
        except UserError as error:
            return {self._heat: None, self._reasons: self._html.message(f"No Grad-CAM: {error}", True)}
        except Exception:
            _logger.exception("Grad-CAM of %s", shown.source)
            return {self._heat: None, self._reasons: self._html.message(FAILED, True)}
        return {self._heat: found.picture, self._reasons: self._html.reasons(found, gradient())}

    def _attempt(self, look: Callable[[], Values]) -> Values:
        """The answer, or what was wrong with the picture."""
        try:
            return look()
        except UserError as error:
            text = str(error)
        except Exception:
            _logger.exception("answering to a picture")
            text = FAILED
        message = gr.update(value=self._html.message(text, True), visible=True)
        return {self._shown: None, self._message: message, self._result: gr.update(visible=False)}

    def _look_at(self, source: str | int, least: float) -> Values:
        answer = self._answerer.answer(self._open(source), least)
        several = isinstance(source, str) and more_than_one(source)
        note = "The file holds several pictures; only the first was looked at." if several else ""
        return self._values(Shown(source, answer.found), answer, note)

    def _values(self, shown: Shown, answer: Answer, note: str = "") -> Values:
        return {
            self._shown: shown,
            self._message: gr.update(value=self._html.message(note, False), visible=bool(note)),
            self._result: gr.update(visible=True),
            self._picture: answer.picture,
            self._answer: self._html.answer(answer),
        }

    def _open(self, source: str | int) -> Image.Image:
        """A picture that was sent or chosen, in RGB; raises UserError."""
        if isinstance(source, str):
            if not Path(source).is_file():
                raise UserError("the picture is not kept any longer. Send it again.")
            return read_picture(source)
        assert self._examples is not None
        return self._examples.picture(source)


def gradient() -> list[str]:
    """The colours of a map, from nothing to the most."""
    return [to_hex(matplotlib.colormaps[COLORMAP](step / 8)) for step in range(9)]


def _picture(alt_text: str, elem_id: str) -> gr.Image:
    return gr.Image(
        interactive=False,
        show_label=False,
        format="webp",
        buttons=["download", "fullscreen"],
        alt_text=alt_text,
        elem_id=elem_id,
    )
