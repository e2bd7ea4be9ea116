"""The names of a detector's classes: what was configured, held against what the model file says of itself."""

from __future__ import annotations

import ast
import logging
from collections.abc import Mapping

from edge_app.errors import ModelError

log = logging.getLogger(__name__)

LONGEST = 100_000  # characters of a description of classes that are looked at

_COCO = (
    "person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,stop sign,parking meter,"
    "bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,backpack,umbrella,handbag,tie,suitcase,frisbee,"
    "skis,snowboard,sports ball,kite,baseball bat,baseball glove,skateboard,surfboard,tennis racket,bottle,wine glass,"
    "cup,fork,knife,spoon,bowl,banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,couch,"
    "potted plant,bed,dining table,toilet,tv,laptop,mouse,remote,keyboard,cell phone,microwave,oven,toaster,sink,"
    "refrigerator,book,clock,vase,scissors,teddy bear,hair drier,toothbrush"
)
COCO_NAMES = tuple(_COCO.split(","))


def names_in(metadata: Mapping[str, str]) -> tuple[str, ...] | None:
    """The class names in a file's metadata: Ultralytics writes `names` as a Python literal, {0: 'person', …}. None
    where there are none that can be read."""
    try:
        names = ast.literal_eval(metadata.get("names", "")[:LONGEST])
        if isinstance(names, dict):
            names = [names[index] for index in range(len(names))]
        return tuple(map(str, names)) if isinstance(names, list | tuple) and names else None
    except (ValueError, SyntaxError, TypeError, KeyError, MemoryError, RecursionError):
        return None


def agree(given: tuple[str, ...] | None, in_file: tuple[str, ...] | None, where: str) -> tuple[str, ...] | None:
    """The names to go by, None where nobody gives any.

    Raises `ModelError` where the given ones are another number, or call a class what the file calls another one. Names
    that the file does not know are somebody's own words for them, and are said in the log.
    """
    if not given or not in_file:
        return given or in_file
    if len(given) != len(in_file):
        raise ModelError(
            f"{where}: `class_names` gives {len(given)} classes, the model file says that it has {len(in_file)}: "
            f"{', '.join(in_file[:10])}{', …' if len(in_file) > 10 else ''}; leave `class_names` out to take those"
        )
    known, renamed = [name.casefold() for name in in_file], []
    for index, name in enumerate(given):
        if name.casefold() == known[index]:
            continue
        if name.casefold() in known:
            raise ModelError(
                f"{where}: class {index} is {name!r} in `class_names`, and {in_file[index]!r} in the model file, whose "
                f"{name!r} is class {known.index(name.casefold())}; leave `class_names` out to take those of the file"
            )
        renamed.append(f"{in_file[index]} is called {name}")
    if renamed:
        log.warning("%s: %s", where, ", ".join(renamed[:10]) + (", …" if len(renamed) > 10 else ""))
    return given


def default_names(count: int | None, where: str) -> tuple[str, ...]:
    """A model of 80 classes without names is COCO's. Raises `ModelError` for every other."""
    if count == len(COCO_NAMES):
        return COCO_NAMES
    classes = f"{count} classes" if count is not None else "an unknown number of classes"
    raise ModelError(f"{where}: a model of {classes} needs `class_names`, in its manifest or in the settings")
