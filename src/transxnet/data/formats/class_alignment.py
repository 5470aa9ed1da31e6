"""Map the classes of a data set to those of a model."""

from collections.abc import Sequence
from functools import cache
from unicodedata import normalize

from timm.data import ImageNetInfo

from transxnet.utils.errors import UserError, nearest


def class_order(folder_names: Sequence[str]) -> list[str]:
    """Sort class folders by class index: numerically if all names are numbers, else alphabetically.

    ImageNet-V2 names its folders 0 to 999; sorted as text, 10 comes before 2, and every label would be wrong.
    """
    if all(name.isascii() and name.isdigit() for name in folder_names):
        return sorted(folder_names, key=lambda name: (int(name), name))
    return sorted(folder_names)


@cache
def imagenet_synsets() -> tuple[str, ...]:
    """The 1,000 WordNet ids of ImageNet-1K by class index."""
    return tuple(ImageNetInfo("imagenet-1k").label_names())


def in_words(class_name: str) -> str:
    """A readable class name: the first word of an ImageNet WordNet id, any other name unchanged."""
    return _imagenet_words().get(class_name, class_name)


@cache
def _imagenet_words() -> dict[str, str]:
    info = ImageNetInfo("imagenet-1k")
    return {synset: info.label_name_to_description(synset).partition(",")[0] for synset in imagenet_synsets()}


def align_classes(model_classes: Sequence[str], data_classes: Sequence[str]) -> list[int]:
    """Return the model's class index for each class of a data set.

    Classes are matched by name, in any Unicode form: macOS decomposes the letters of file names. A model of ImageNet's
    1,000 classes also accepts folders named by class index, as in ImageNet-V2.

    Raises:
        UserError: the model does not know some classes; the message names them.
    """
    index = {normalize("NFC", name): i for i, name in enumerate(model_classes)}
    found = [index.get(normalize("NFC", name)) for name in data_classes]
    if None not in found:
        return found  # type: ignore[return-value]
    numbers = [int(name) if name.isascii() and name.isdigit() else -1 for name in data_classes]
    if tuple(model_classes) == imagenet_synsets() and all(0 <= n < len(model_classes) for n in numbers):
        return numbers
    unknown = [name for name, i in zip(data_classes, found, strict=True) if i is None]
    raise UserError(
        f"the classes of the data do not match the model: {len(unknown)} of {len(data_classes)} are unknown, "
        f"{_listed(unknown)}. The model has {len(model_classes)}: {_listed(model_classes)}."
        f"{nearest(unknown[0], model_classes)} Rename the classes, or train on this data."
    )


def _listed(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(map(repr, names[:most])) + (" and more" if len(names) > most else "")
