"""What the page answers to a picture: classes, objects or labelled pixels, and where the reasons for a class lie."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms.v2.functional import pil_to_tensor

from transxnet.analysis.explain_figure import overlay
from transxnet.analysis.grad_cam import explain_image, require_grad_cam
from transxnet.analysis.network_parts import NetworkPart, find_part, named_parts
from transxnet.data.formats.class_alignment import in_words
from transxnet.data.loading.dense_transforms import AlignedResize
from transxnet.evaluation.inference import classify, detect, segment
from transxnet.metrics.detection import MIN_SCORE, Detections
from transxnet.reports.colors import Color, palette
from transxnet.reports.drawing import draw_detections, draw_label_map
from transxnet.runs.load import TrainedClassifier, TrainedDetector, TrainedModel, TrainedSegmenter
from transxnet.utils.device import default_device, prepare_for_inference
from transxnet.utils.errors import UserError
from transxnet.web.uploads import DENSE_PIXELS, for_the_browser, within_pixels

TOP_K = 5
MOST_ROWS = 15  # of objects, or of classes of pixels


@dataclass(frozen=True)
class Row:
    """A line of an answer.

    Attributes:
        name: of a class, in words.
        share: 0 to 1: a probability, a score, or a share of the pixels.
        colour: that it has in the picture, if it has one there.
    """

    name: str
    share: float
    colour: Color | None = None

    @property
    def percentage(self) -> str:
        """The share in words."""
        return percent(self.share)


@dataclass(frozen=True)
class Answer:
    """What a model says of a picture.

    Attributes:
        headline: in a few words.
        rows: the most important first.
        more: how many further rows were left out.
        picture: to look at, with what was found drawn over it.
        found: all that a detector found, with any score; else None.
        notes: sentences that the user should read.
    """

    headline: str
    rows: list[Row]
    more: int
    picture: Image.Image
    found: Detections | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reasons:
    """Where the reasons for a class lie.

    Attributes:
        picture: what the network saw, under the map's colours.
        class_name: in words.
        place: in the network, in words.
        nothing: whether nothing at this place speaks for the class.
    """

    picture: Image.Image
    class_name: str
    place: str
    nothing: bool


class Answerer:
    """A trained model that answers to one picture at a time, whichever thread asks.

    Args:
        trained: a classifier, detector or segmenter; its network is moved to the GPU if there is one.

    Attributes:
        places: of the network, by name, that :meth:`explain` can look at; empty where there are none.
        why_no_places: a sentence for the user in that case.
    """

    def __init__(self, trained: TrainedModel):
        self.trained = trained
        self.words = [in_words(name) for name in trained.class_names]
        self.places: Mapping[str, NetworkPart] = {}
        self.why_no_places = ""
        self._device = default_device()
        self._lock = threading.Lock()
        prepare_for_inference(trained.model, self._device)
        try:
            require_grad_cam()
            network = trained.backbone
            self.places = named_parts(network) or {"last": find_part(network)}
        except UserError as error:
            self.why_no_places = str(error)

    def answer(self, picture: Image.Image, least: float = MIN_SCORE) -> Answer:
        """What the model says of a picture in RGB; of a detector's finds, those with at least a score."""
        with self._lock:
            if isinstance(self.trained, TrainedDetector):
                seen, notes = self._dense_picture(picture)
                (found,) = detect(self.trained.model, [pil_to_tensor(seen)], self._device)
                return self._objects(seen, Detections.from_output(found), least, notes)
            if isinstance(self.trained, TrainedSegmenter):
                return self._pixels(*self._dense_picture(picture))
            assert isinstance(self.trained, TrainedClassifier)
            return self._classes(self.trained, picture)

    def with_least(self, picture: Image.Image, found: Detections, least: float) -> Answer:
        """The same detector's answer to the picture, of the finds with at least another score."""
        seen, notes = self._dense_picture(picture)
        return self._objects(seen, found, least, notes)

    def explain(self, picture: Image.Image, place: str, class_index: int | None = None) -> Reasons:
        """Grad-CAM of a class at a place.

        Args:
            picture: in RGB.
            place: name of one of ``places``.
            class_index: from 0; by default as of :func:`~transxnet.analysis.explain.explain`.

        Raises:
            UserError: there is nothing of the class in the picture, or the network can't be explained.
        """
        if place not in self.places:
            raise UserError(f"the network has no place {place!r}. Accepted: {', '.join(self.places)}.")
        if not isinstance(self.trained, TrainedClassifier):
            picture = self._dense_picture(picture)[0]
        with self._lock:
            found = explain_image(self.trained, picture, class_index, {place: self.places[place]})
        heat = found.maps[place]
        return Reasons(_heated(found.image, heat), found.class_name, found.titles[place], not heat.any())

    def _dense_picture(self, picture: Image.Image) -> tuple[Image.Image, tuple[str, ...]]:
        """What a detector or segmenter is given of a picture, and a note where that is less than all."""
        seen = within_pixels(picture, DENSE_PIXELS)
        if seen is picture:
            return picture, ()
        return seen, (f"The picture has {_size(picture)} pixels and was looked at in {_size(seen)}.",)

    def _classes(self, trained: TrainedClassifier, picture: Image.Image) -> Answer:
        images = trained.preprocessing.transform()(picture)[None]
        likeliest = classify(trained.model, images, self._device)[0].topk(min(TOP_K, len(self.words)))
        rows = [Row(self.words[i], float(p)) for p, i in zip(*likeliest, strict=True)]
        return Answer(rows[0].name, rows, len(self.words) - len(rows), for_the_browser(picture))

    def _objects(self, seen: Image.Image, found: Detections, least: float, notes: tuple[str, ...]) -> Answer:
        sure, colours = found.filter(least), palette(len(self.words))
        count = len(sure.scores)
        rows = [
            Row(self.words[label - 1], float(score), colours[label - 1])
            for label, score in zip(sure.labels[:MOST_ROWS], sure.scores[:MOST_ROWS], strict=True)
        ]
        headline = f"{count} object{'' if count == 1 else 's'}"
        if not count:
            headline = "Nothing found"
            if len(found.scores):
                best = f"{self.words[found.labels[0] - 1]}, {percent(float(found.scores[0]))}"
                notes = (f"The best that falls short of the least score: {best}.", *notes)
        drawn = draw_detections(seen, sure, self.words)
        return Answer(headline, rows, count - len(rows), for_the_browser(drawn), found, notes)

    def _pixels(self, seen: Image.Image, notes: tuple[str, ...]) -> Answer:
        assert isinstance(self.trained, TrainedSegmenter)
        pixels = pil_to_tensor(seen)
        resized = AlignedResize(self.trained.scale)(tv_tensors.Image(pixels))
        labels = segment(self.trained.model, resized, pixels.shape[1:], self._device)
        rows = shares(labels, self.words)
        drawn = draw_label_map(seen, labels, self.words, legend=False)
        headline = f"{len(rows)} class{'' if len(rows) == 1 else 'es'}"
        shown = rows[:MOST_ROWS]
        return Answer(headline, shown, len(rows) - len(shown), for_the_browser(drawn), notes=notes)


def shares(labels: np.ndarray, names: Sequence[str]) -> list[Row]:
    """The classes that occur in a label map (H, W), each with its share of the pixels, the largest first."""
    counts = np.bincount(labels.ravel(), minlength=len(names))
    colours = palette(len(names))
    order = [int(i) for i in np.argsort(-counts, kind="stable") if counts[i]]
    return [Row(names[i], counts[i] / counts.sum(), colours[i]) for i in order]


def percent(share: float) -> str:
    """``0.934`` as "93%", and what would be 0% or 100% without being so as "under 1%" and "over 99%"."""
    if 0 < share < 0.01:
        return "under 1%"
    return "over 99%" if 0.99 < share < 1 else f"{share:.0%}"


def _heated(picture: np.ndarray, heat: np.ndarray) -> Image.Image:
    """A picture (H, W, 3) under the colours of a map (H, W), at a size to look at."""
    large = for_the_browser(Image.fromarray(picture))
    resized = np.asarray(Image.fromarray(heat.astype(np.float32)).resize(large.size, Image.Resampling.BICUBIC))
    return Image.fromarray(overlay(np.asarray(large), resized.clip(0, 1)))


def _size(picture: Image.Image) -> str:
    return f"{picture.width}x{picture.height}"
