"""The one reader of settings files of both packages: YAML in, plain values out, or every mistake with its line.

    read(path: Path) -> dict[str, Any]        # `YamlError`, whose `problems` hold one line each
    read_value(text: str) -> Any              # of an override `key=value`; `YamlError`
    plain(text: object) -> str                # a text from outside as part of one line of a message

What the values mean is said by pydantic models, whose mistakes `edge_app.contract.mistakes` puts into words:

    try:
        settings = Model.model_validate(read(path), context={"folder": path.parent})  # for fields that are a `FilePath`
    except ValidationError as error:
        problems = mistakes(error, Model)

A file is data from outside: it is bounded (`LARGEST_BYTES`, `DEEPEST`, `MOST_NODES` with every alias written out,
`LONGEST_NUMBER`) and refused in a second whatever it holds. Keys are names, so `on:` and `1:` stay text. A key given
twice in one group is a mistake. Values that YAML 1.1 takes for dates stay text. What stands in a file is shown by
its place and its keys, control characters escaped; values are not shown, they may be secrets.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, ValidationInfo
from yaml import events, nodes

from edge_app.contract.errors import ContractError

LARGEST_BYTES = 2**20
DEEPEST = 32  # groups and lists within each other
MOST_NODES = 50_000  # values and keys, what an alias stands for counted at every alias
LONGEST_NUMBER = 40  # characters
SHOWN = 80  # characters of a text in a message

_CORE = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "seq", "map")}
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_TEXT, _MERGE = "tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"
_NO_TEXT = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class YamlError(ContractError):
    """A settings file or value that cannot be used. `problems` holds every mistake, one line each, with its place."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("; ".join(problems))


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # libyaml is twenty times as fast
    """Plain values only; dates stay text."""

    yaml_implicit_resolvers = {  # noqa: RUF012  the name is PyYAML's
        first: [(tag, pattern) for tag, pattern in pairs if not tag.endswith(":timestamp")]
        for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def beside(path: Path, info: ValidationInfo) -> Path:
    """A relative path made relative to the folder in the context of the validation, `~` to the user's; elsewhere as
    it is. Raises `ValueError` for what is no path."""
    folder = (info.context or {}).get("folder")
    try:
        return path if folder is None else (folder / path.expanduser()).resolve()
    except (OSError, RuntimeError) as error:  # links in a circle, a user that is not there
        raise ValueError(f"no path: {error}") from None


FilePath = Annotated[Path, AfterValidator(beside)]
"""A path in a settings file: relative to that file, by `model_validate(values, context={"folder": path.parent})`."""


def read(path: Path) -> dict[str, Any]:
    """The settings in a file, as plain values under names. Raises `YamlError`; never a traceback of what it holds."""
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_BYTES + 1)
    except OSError as error:
        raise YamlError([f"cannot be read: {error.strerror or error}"]) from None
    except ValueError as error:  # a NUL in its name
        raise YamlError([f"cannot be read: {error}"]) from None
    if len(content) > LARGEST_BYTES:
        raise YamlError([f"is larger than {LARGEST_BYTES // 1024:,} kB, too large for settings: is it the right file?"])
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, byte = content.count(b"\n", 0, error.start) + 1, content[error.start]
        raise YamlError([f"line {line}: expected UTF-8 text, found the byte 0x{byte:02x}: save it as UTF-8"]) from None
    value, line = _loaded(text)
    if value is None:
        raise YamlError(["is empty: expected settings, `key: value`"])
    if not isinstance(value, dict):
        kind = "a list" if isinstance(value, list) else "a single value"
        raise YamlError([f"line {line}: expected settings, `key: value`, found {kind}"])
    return value


def read_value(text: str) -> Any:
    """The value that a text stands for, such as the right side of `key=value` on a command line. Raises `YamlError`."""
    if len(text.encode(errors="surrogateescape")) > LARGEST_BYTES:
        raise YamlError([f"is longer than {LARGEST_BYTES // 1024:,} kB"])
    return _loaded(text)[0]


def plain(text: object, longest: int = SHOWN) -> str:
    """A text as part of a line of a message: control characters escaped, its end cut off."""
    shown = str(text)
    shown = shown if len(shown) <= longest else f"{shown[:longest]}…"
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in shown)


def _loaded(text: str) -> tuple[Any, int]:
    """The value of a text, and the line it begins in."""
    strange = _NO_TEXT.search(text)
    if strange:
        line, column = text.count("\n", 0, strange.start()) + 1, strange.start() - text.rfind("\n", 0, strange.start())
        raise YamlError([f"line {line}, column {column}: the character U+{ord(strange.group()):04X} is no text"])
    try:
        measure = _Measure()
        for event in yaml.parse(text, _Loader):  # a parser without recursion
            measure.take(event)
        loader = _Loader(text)
        try:
            root = loader.get_single_node()
            if root is None:
                return None, 1
            problems = list(_mistakes_in(root))
            if problems:
                raise YamlError(problems)
            return loader.construct_document(root), root.start_mark.line + 1
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        raise YamlError([f"is not YAML: {_explained(error, text)}"]) from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise YamlError([f"is not YAML: {plain(' '.join(str(error).split()))}"]) from None


def _explained(error: yaml.MarkedYAMLError, text: str) -> str:
    """Where and what, without the text around it: nobody knows what secrets stand in a broken file."""
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return plain(error.problem)
    where = f"{_at(mark)}, column {mark.column + 1}"
    if re.compile(rf"(?:[^\n]*\n){{{mark.line}}}.{{{mark.column}}}\t").match(text):
        return f"{where}: a tab; indent with spaces"
    return f"{where}: " + plain(", ".join(part for part in (error.context, error.problem) if part))


def _at(mark: Any) -> str:
    return f"line {mark.line + 1}"


@dataclass(slots=True)
class _Open:
    """A group or list whose end has not come."""

    anchor: str | None
    before: int  # values counted before it
    height: int = 1  # groups and lists within each other, itself included


@dataclass(slots=True)
class _Measure:
    """How much a document would build, aliases written out; refuses what is too much, and what is no plain value."""

    count: int = 0
    documents: int = 0
    opened: list[_Open] = field(default_factory=list)
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)  # count and height of each anchor

    def take(self, event: Any) -> None:
        """One event of the parser. Raises `YamlError`."""
        problem = None
        if isinstance(event, events.DocumentStartEvent):
            self.documents += 1
            problem = "a second document begins (---); one file holds one" if self.documents > 1 else None
        elif isinstance(event, events.AliasEvent):
            problem = self._alias(str(event.anchor))
        elif isinstance(event, events.NodeEvent):
            problem = self._node(event)
        elif isinstance(event, events.CollectionEndEvent):
            ended = self.opened.pop()
            self._hold(ended.anchor, self.count - ended.before, ended.height)
        if self.count > MOST_NODES:
            problem = f"more than {MOST_NODES:,} values, too many for settings"
        if problem:
            raise YamlError([f"{_at(event.start_mark)}: {problem}"])

    def _alias(self, anchor: str) -> str | None:
        if anchor not in self.sizes:
            inside = any(each.anchor == anchor for each in self.opened)
            return f"the anchor {plain(anchor)} " + (
                "stands inside itself" if inside else "is not known before this line"
            )
        count, height = self.sizes[anchor]
        self.count += count
        return self._hold(None, count, height)

    def _node(self, event: Any) -> str | None:
        if event.tag not in (None, "!", *_CORE):
            return f"the tag {plain(event.tag)} asks for more than a plain value"
        self.count += 1
        if isinstance(event, events.CollectionStartEvent):
            self.opened.append(_Open(event.anchor, self.count - 1))
            return self._hold(None, 0, 0)
        return self._hold(event.anchor, 1, 0)

    def _hold(self, anchor: str | None, count: int, height: int) -> str | None:
        """What a whole node, or the beginning of one, means for those around it."""
        if anchor:
            self.sizes[anchor] = count, height
        if self.opened:
            self.opened[-1].height = max(self.opened[-1].height, height + 1)
        deep = len(self.opened) + height > DEEPEST
        return f"more than {DEEPEST} groups or lists within each other" if deep else None


def _mistakes_in(root: nodes.Node) -> Iterator[str]:
    """Mistakes that YAML allows, each with its line: keys that are no names or given twice, endless numbers. Keys
    become text."""
    waiting, seen = [root], set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, nodes.MappingNode):
            yield from _mistakes_of_keys(node)
            waiting += [value for _, value in reversed(node.value)]
        elif isinstance(node, nodes.SequenceNode):
            waiting += reversed(node.value)
        elif node.tag in _NUMBERS and len(node.value) > LONGEST_NUMBER:
            yield f"{_at(node.start_mark)}: a number of {len(node.value):,} characters, at most {LONGEST_NUMBER}"


def _mistakes_of_keys(node: nodes.MappingNode) -> Iterator[str]:
    first: dict[str, str] = {}
    for place, (key, value) in enumerate(node.value):
        at = _at(key.start_mark)
        if not isinstance(key, nodes.ScalarNode):
            yield f"{at}: a key must be a name, not a group or list"
            continue
        if key.value in first:
            yield f"{at}: `{plain(key.value)}` is given twice, first in {first[key.value]}"
        first.setdefault(key.value, at)
        if key.tag != _MERGE:
            node.value[place] = nodes.ScalarNode(_TEXT, key.value, key.start_mark, key.end_mark), value
