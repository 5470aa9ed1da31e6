"""Making the classes of a data set and those of a model mean the same."""

from collections.abc import Sequence
from functools import cache

from timm.data import ImageNetInfo

from transxnet.utils.errors import UserError, nearest


def class_order(folder_names: Sequence[str]) -> list[str]:
    """Class folders in the order of their indices: by number where all are numbers, else by text.

    ImageNet-V2 names its folders 0 to 999; as text, 10 comes before 2, and every label would be wrong.
    """
    if all(name.isascii() and name.isdigit() for name in folder_names):
        return sorted(folder_names, key=lambda name: (int(name), name))
    return sorted(folder_names)


@cache
def imagenet_synsets() -> tuple[str, ...]:
    """The 1,000 WordNet ids of ImageNet-1K by class index."""
    return tuple(ImageNetInfo("imagenet-1k").label_names())


def in_words(class_name: str) -> str:
    """A class's name for people: of ImageNet's WordNet ids the first of their words, any other name as it is."""
    return _imagenet_words().get(class_name, class_name)


@cache
def _imagenet_words() -> dict[str, str]:
    info = ImageNetInfo("imagenet-1k")
    return {synset: info.label_name_to_description(synset).partition(",")[0] for synset in imagenet_synsets()}


def align_classes(model_classes: Sequence[str], data_classes: Sequence[str]) -> list[int]:
    """The model's class index for each class of a data set.

    The classes are matched by name. A model of ImageNet's 1,000 classes also takes folders that are named by class
    number, as ImageNet-V2's are.

    Raises:
        UserError: classes that the model does not know, named.
    """
    index = {name: i for i, name in enumerate(model_classes)}
    if all(name in index for name in data_classes):
        return [index[name] for name in data_classes]
    numbers = [int(name) if name.isascii() and name.isdigit() else -1 for name in data_classes]
    if tuple(model_classes) == imagenet_synsets() and all(0 <= n < len(model_classes) for n in numbers):
        return numbers
    unknown = [name for name in data_classes if name not in index]
    raise UserError(
        f"the labels of the data do not match those of the model: {len(unknown)} of the data's {len(data_classes)} "
        f"classes are unknown to it, {_listed(unknown)}. It knows {len(model_classes)}: {_listed(model_classes)}."
        f"{nearest(unknown[0], model_classes)} Rename the folders, or train on this data."
    )


def _listed(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(map(repr, names[:most])) + (" and more" if len(names) > most else "")
