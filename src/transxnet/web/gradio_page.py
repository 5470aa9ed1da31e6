"""The web page: its Gradio components and their events."""

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
from transxnet.runs.trained_models import TrainedClassifier, TrainedDetector
from transxnet.utils.errors import UserError
from transxnet.web.example_images import ExampleImages
from transxnet.web.page_model import ImageResult, PageModel
from transxnet.web.uploads import has_several_frames, read_upload

_logger = logging.getLogger(__name__)

PREDICTED_CLASS = -1
"""Value of the predicted class in the list of classes to explain."""

MAX_UPLOAD_AGE = 3600
"""Seconds after which an upload is deleted."""

HINT = "Upload an image or select an example."
FAILED = "failed for this image. See the terminal running transxnet app."

Updates = dict[Any, Any]
"""New values by component."""


@dataclass(frozen=True)
class Selection:
    """The image that a visitor has selected, without its pixels, to save memory.

    Attributes:
        source: uploaded file, or number of an example.
        detections: all detections, with any score; None unless the model is a detector.
    """

    source: str | int
    detections: Detections | None


class GradioPage:
    """The components of the page and their events.

    Args:
        model: model to try.
        examples: example images of the run, or None.
        why_no_examples: message for the visitor if there are no examples.
        max_bytes: maximum size of an upload.

    Attributes:
        blocks: the Gradio app.
    """

    def __init__(self, model: PageModel, examples: ExampleImages | None, why_no_examples: str, max_bytes: int):
        self._model, self._examples, self._why_no_examples = model, examples, why_no_examples
        self._max_bytes = max_bytes
        self._html = cast(Any, load_template("app.html.jinja").module)
        self._detects = isinstance(model.trained, TrainedDetector)
        title, cache_ages = model.title, (MAX_UPLOAD_AGE // 6, MAX_UPLOAD_AGE)
        with gr.Blocks(title=title, analytics_enabled=False, delete_cache=cache_ages) as self.blocks:
            gr.HTML(self._html.head(title, model.description))
            with gr.Row():
                with gr.Column(scale=2, min_width=260):
                    self._add_inputs()
                with gr.Column(scale=5, min_width=260):
                    self._add_result()
            self._connect_events()

    def _add_inputs(self) -> None:
        self._upload = gr.File(
            label="Image", file_types=["image", ".avif", ".jp2"], height=150, elem_id="upload", buttons=[]
        )
        gr.HTML(self._html.rejected(self._max_bytes), elem_id="rejected")
        self._gallery = None
        if self._examples is not None:
            examples = self._examples
            labels = " with their labels" if isinstance(self._model.trained, TrainedClassifier) else ""
            gr.HTML(self._html.label(f"Validation images{labels}"), elem_id="examples-label")
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

    def _add_result(self) -> None:
        self._selection = gr.State(None)
        self._message = gr.HTML(self._html.message(HINT, False), elem_id="message")
        with gr.Column(visible=False, elem_id="result") as self._result:
            with gr.Row():
                with gr.Column(scale=3, min_width=260):
                    self._image = _image_output("The image with the prediction drawn on it", "predicted-image")
                with gr.Column(scale=2, min_width=240):
                    self._prediction = gr.HTML(elem_id="prediction")
                    self._min_score = gr.Slider(
                        0.05,
                        0.95,
                        MIN_SCORE,
                        step=0.05,
                        label="Score threshold",
                        visible=self._detects,
                        elem_id="score-threshold",
                    )
            if self._model.layers:
                self._add_heat_map()
            else:
                gr.HTML(self._html.message(f"No Grad-CAM: {self._model.why_no_layers}", False), elem_id="no-grad-cam")

    def _add_heat_map(self) -> None:
        layers = [(layer.title, name) for name, layer in self._model.layers.items()]
        classes = sorted((name, i) for i, name in enumerate(self._model.class_names))
        with gr.Row():
            with gr.Column(scale=3, min_width=260):
                self._heat = _image_output("Grad-CAM heat map over the image", "heat-map")
            with gr.Column(scale=2, min_width=240):
                self._heat_text = gr.HTML(elem_id="heat-map-text")
                self._layer = gr.Radio(layers, value=layers[-1][1], label="Layer", elem_id="layer")
                title, first = "Class", "Most frequent class except background"
                if isinstance(self._model.trained, TrainedClassifier):
                    several = self._model.trained.targets.kind == "multilabel"
                    title, first = ("Label", "Most probable label") if several else ("Class", "Predicted class")
                elif self._detects:
                    first = "Class with the highest score"
                self._class = gr.Dropdown(
                    [(first, PREDICTED_CLASS), *classes],
                    value=PREDICTED_CLASS,
                    label=title,
                    visible=len(classes) > 1,
                    elem_id="class",
                )

    def _connect_events(self) -> None:
        """Connect the events. The model runs one image at a time for all visitors; no event is a public API route."""
        model: dict[str, Any] = {
            "api_visibility": "private",
            "concurrency_limit": 1,
            "concurrency_id": "model",
            "show_progress": "minimal",
        }
        outputs = [self._selection, self._message, self._result, self._image, self._prediction]
        predicting: dict[str, Any] = {**model, "show_progress_on": [self._upload, self._image]}
        inputs = [self._upload, self._min_score]
        predicted = [self._upload.upload(self._on_upload, inputs, [self._upload, *outputs], **predicting)]
        if self._gallery is not None:
            predicted.append(self._gallery.select(self._on_example, [self._min_score], outputs, **predicting))
        if self._detects:
            # Drawing does not wait for the model. Not the release event, which the keyboard never triggers.
            drawing = {**predicting, "concurrency_id": "drawing", "show_progress_on": [self._image]}
            inputs = [self._selection, self._min_score]
            self._min_score.change(self._on_min_score, inputs, outputs, trigger_mode="always_last", **drawing)
        if self._model.layers:
            inputs, outputs = [self._selection, self._layer, self._class], [self._heat, self._heat_text]
            explaining = {**model, "show_progress_on": [self._heat]}
            for event in predicted:
                event.then(self._explain, inputs, outputs, **explaining)
            for control in (self._layer, self._class):
                control.input(self._explain, inputs, outputs, **explaining)
        self.blocks.queue(max_size=64)

    def _on_upload(self, path: str, min_score: float) -> Updates:
        return {self._upload: None, **self._or_message(lambda: self._predict(str(path), min_score))}

    def _on_example(self, min_score: float, event: gr.SelectData) -> Updates:
        return self._or_message(lambda: self._predict(int(event.index), min_score))

    def _on_min_score(self, selection: Selection | None, min_score: float) -> Updates:
        if selection is None or selection.detections is None:
            return {}
        source, detections = selection.source, selection.detections

        def filtered() -> Updates:
            return self._updates(selection, self._model.filter(self._open(source), detections, min_score))

        return self._or_message(filtered)

    def _explain(self, selection: Selection | None, layer: str, class_index: int) -> Updates:
        if selection is None:
            return {self._heat: None, self._heat_text: ""}
        chosen = None if class_index == PREDICTED_CLASS else class_index
        try:
            found = self._model.explain(self._open(selection.source), layer, chosen)
        except UserError as error:
            return {self._heat: None, self._heat_text: self._html.message(f"No Grad-CAM: {error}", True)}
        except Exception:
            _logger.exception("Grad-CAM of %s", selection.source)
            return {self._heat: None, self._heat_text: self._html.message(f"Grad-CAM {FAILED}", True)}
        return {self._heat: found.image, self._heat_text: self._html.heat_map(found, color_scale())}

    def _or_message(self, compute: Callable[[], Updates]) -> Updates:
        """Return the updates, or an error message instead of the result."""
        try:
            return compute()
        except UserError as error:
            text = str(error)
        except Exception:
            _logger.exception("prediction of an uploaded or example image")
            text = f"Prediction {FAILED}"
        message = gr.update(value=self._html.message(text, True), visible=True)
        return {self._selection: None, self._message: message, self._result: gr.update(visible=False)}

    def _predict(self, source: str | int, min_score: float) -> Updates:
        result = self._model.predict(self._open(source), min_score)
        several = isinstance(source, str) and has_several_frames(source)
        note = "The file contains several images. Only the first is used." if several else ""
        return self._updates(Selection(source, result.detections), result, note)

    def _updates(self, selection: Selection, result: ImageResult, note: str = "") -> Updates:
        return {
            self._selection: selection,
            self._message: gr.update(value=self._html.message(note, False), visible=bool(note)),
            self._result: gr.update(visible=True),
            self._image: result.image,
            self._prediction: self._html.result(result),
        }

    def _open(self, source: str | int) -> Image.Image:
        """Open an upload or example in RGB; raises UserError if it cannot be read."""
        if isinstance(source, str):
            if not Path(source).is_file():
                raise UserError("uploads are deleted after an hour. Upload the image again.")
            return read_upload(source)
        assert self._examples is not None
        return self._examples.image(source)


def color_scale() -> list[str]:
    """Return the colors of a heat map, from zero to the maximum."""
    return [to_hex(matplotlib.colormaps[COLORMAP](step / 8)) for step in range(9)]


def _image_output(alt_text: str, elem_id: str) -> gr.Image:
    return gr.Image(
        interactive=False,
        show_label=False,
        format="webp",
        buttons=["download", "fullscreen"],
        alt_text=alt_text,
        elem_id=elem_id,
    )
