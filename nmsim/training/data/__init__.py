"""The data sets by name, each shipped inside a Python package: nothing is downloaded. Adding one is a file and a row."""

from __future__ import annotations

from collections.abc import Callable

from nmsim.errors import InputError
from nmsim.training.data.dataset import Dataset, Kind
from nmsim.training.data.digits import load_digits_images
from nmsim.training.data.masked import MaskedText
from nmsim.training.data.text import load_pydoc_text

DATASETS: dict[str, tuple[Kind, Callable[[int], Dataset]]] = {
    "digits": ("images", load_digits_images),
    "pydoc": ("text", load_pydoc_text),
    "pydoc-masked": ("text", lambda context: MaskedText.of(load_pydoc_text(context))),
}


def load_dataset(name: str, kind: Kind, context: int) -> Dataset:
    """The data set `name`, which must be of `kind`; `context` is the characters of a text sample (images ignore it).

    InputError for an unknown name, and for images where a model reads text or the reverse.
    """
    suited = [other for other, (its_kind, _) in DATASETS.items() if its_kind == kind]
    if name not in suited:
        problem = f"the model reads {kind}" if name in DATASETS else "no such data set"
        raise InputError(problem, path="--data", value=name, fix=f"choose {' or '.join(suited)}")
    return DATASETS[name][1](context)
