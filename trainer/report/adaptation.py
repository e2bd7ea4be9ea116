"""One adaptation as one page that needs no other file: what came, what was learned, and what was decided.

It is made for the owner of a site, who may send it on: the decision stands at the top, pictures are in the page.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from trainer.data.images import read_image
from trainer.errors import DataError
from trainer.report import figures
from trainer.report.figures import Side
from trainer.report.page import document, text, values

HEIGHT_PX, WIDEST = 96, 2.0  # of a picture on the page; no wider than so many times its height
TINTS = 8  # colours of former clusters
MEASURES: dict[str, tuple[str, Side, str]] = {
    "placebo lift": (
        "It finds the same one again more often",
        "least",
        "How much more often than the old model it finds the best look-alike just when somebody can arrive, not just "
        "before or after.",
    ),
    "wrong matches": ("Few matches that cannot be true", "most", "Matches that arise while no true one is possible."),
    "right matches": ("No fewer true matches", "least", "Matches beyond those that chance alone makes."),
    "certain impostors": (
        "Two in view at once stay two",
        "least",
        "How surely the two ends of one passage are more alike than two passages that one camera saw at once.",
    ),
    "effective rank": ("It has not lost its variety", "least", "In how many directions its descriptions differ."),
    "impostor similarity": ("Strangers have not grown alike", "most", "How alike the most similar strangers are."),
    "camera share": ("It does not judge by the camera", "most", "How much of a description tells only which camera."),
    "drift": ("Not worse than the best so far", "least", "The first figure once more, on passages that never change."),
}
STYLE = """
:root { --faint: #f0f2f5; --good: #1f8a58; --good-ground: #d7efe2; --bad: #c8372d; --bad-ground: #fbe3e0;
  --warn: #d98a00; --warn-ground: #fbefd5 }
@media (prefers-color-scheme: dark) { :root { --faint: #232830; --good: #4cc38a; --good-ground: #1d3a2d;
  --bad: #ff8078; --bad-ground: #45221f; --warn: #ffb84d; --warn-ground: #40331a } }
body { max-width: 1080px } h1 { font-size: 32px; line-height: 1.2; margin: 14px 0 10px; text-wrap: balance }
h2 { font-size: 22px; margin: 56px 0 4px } h3 { font-size: 16px; margin: 26px 0 8px } p { max-width: 72ch }
.above { display: flex; flex-wrap: wrap; gap: 10px; align-items: center; color: var(--soft) }
.mark { padding: 2px 12px; border-radius: 99px; font-size: 14px; font-weight: 600; white-space: nowrap }
.passed .mark, .mark.passed { color: var(--good); background: var(--good-ground) }
.refused .mark, .mark.refused { color: var(--bad); background: var(--bad-ground) }
.unjudged .mark, .mark.unjudged { color: var(--warn); background: var(--warn-ground) }
.lead { font-size: 18px; color: var(--ink) } .todo { border-left: 4px solid var(--accent); padding: 2px 0 2px 16px }
.small { font-size: 13px; margin: 4px 0 }
.pictures { display: flex; flex-wrap: wrap; gap: 6px; margin: 8px 0 20px }
figure { margin: 0 } figure img { height: 96px; width: auto; border: 0; border-radius: 4px; background: var(--faint);
  border-bottom: 4px solid var(--line) } figcaption { font-size: 11px; color: var(--soft); text-align: center }
.pairs { display: grid; grid-template-columns: repeat(auto-fill, minmax(210px, 1fr)); gap: 16px }
.pair { display: flex; gap: 6px; padding: 12px; border: 1px solid var(--line); border-radius: 10px;
  justify-content: center }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 440px), 1fr)); gap: 16px }
.card { border: 1px solid var(--line); border-radius: 12px; padding: 16px 20px }
.card header { display: flex; justify-content: space-between; gap: 12px; align-items: baseline }
.card h3 { margin: 0 } .card .number { font-size: 24px } .card p { font-size: 13px; margin: 8px 0 0 }
.table { overflow-x: auto } table { border-collapse: collapse; margin: 12px 0 } td, th { text-align: right;
  padding: 6px 0 6px 32px; border-bottom: 1px solid var(--line); white-space: nowrap }
th { font-weight: 500; color: var(--soft) }
td:first-child, th:first-child { text-align: left; padding-left: 0; white-space: normal }
footer { margin-top: 64px; border-top: 1px solid var(--line); padding-top: 16px; font-size: 13px }
.chart { background: #fff }
.t0 img { border-color: #2e74e6 } .t1 img { border-color: #e8590c } .t2 img { border-color: #2f9e6e }
.t3 img { border-color: #b0439a } .t4 img { border-color: #d9a400 } .t5 img { border-color: #7a6ff0 }
.t6 img { border-color: #12a3b4 } .t7 img { border-color: #c8372d }
@media (max-width: 560px) { body { padding: 20px 16px 60px } h1 { font-size: 26px } td, th { padding-left: 16px }
  figure img { height: 76px } }
"""


@dataclass(frozen=True, slots=True)
class Picture:
    """One crop."""

    file: Path
    camera: str
    time_s: float
    group: int = -1  # colour of its line; −1 has none


@dataclass(frozen=True, slots=True)
class Changed:
    """Tracks that came together, or were parted: how many pairs, and some of them."""

    pairs: int
    shown: Sequence[tuple[Picture, Picture]]


@dataclass(frozen=True, slots=True)
class Came:
    """Crops by camera and hour of the day."""

    cameras: Sequence[str]
    trained: NDArray[np.int64]  # (C, 24)
    judged: NDArray[np.int64]  # (C, 24)
    days: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Learned:
    """Clusters before and after."""

    counts: Mapping[str, Sequence[str]]  # what → before and, where there is one, after
    clusters: Sequence[Sequence[Picture]]  # some clusters, a line each
    joined: Changed | None
    parted: Changed | None


@dataclass(frozen=True, slots=True)
class Adaptation:
    """All that the page says. What is None or empty has no section."""

    title: str
    when: str
    outcome: str  # passed | refused | unjudged: the colour of the decision
    decision: str  # a word or two
    sentence: str
    because: str
    advice: str
    facts: Mapping[str, str]
    came: Came | None
    learned: Learned | None
    verdict: Mapping[str, Any]  # `judge.facts`
    bundle: Mapping[str, Any]  # `bundling.bundle`
    curves: Path | None
    kept_until: str  # "" when the page shows no crop


def page_of(one: Adaptation) -> str:
    """The page. Pictures that cannot be read are left out."""
    parts = [
        f'<div class="above"><span class="mark {one.outcome}">{text(one.decision)}</span>'
        f"<span>{text(one.title)}</span><span>{text(one.when)}</span></div>"
        f'<h1>{text(one.sentence)}</h1><p class="lead">{text(one.because)}</p>'
        f'<p class="lead todo">{text(one.advice)}</p>',
        values(one.facts),
        _judged(one.verdict) if one.verdict else "",
        _bundled(one.bundle) if one.bundle else "",
        "" if one.came is None else _came(one.came),
        "" if one.learned is None else _learned(one.learned),
        "" if one.curves is None else _curves(one.curves),
        _footer(one.kept_until),
    ]
    return document(one.title, "".join(parts), STYLE + figures.STYLE)


def _came(came: Came) -> str:
    held = "A dot marks hours of which whole passages were kept out of training, to judge the model by. " * bool(
        came.judged.any()
    )
    return (
        "<h2>What the cameras sent</h2><p>Crops by camera and hour of the day, in UTC: the darker, the more. A camera "
        f"or an hour without colour teaches nothing. {held}</p>"
        + figures.heat_map(came.cameras, came.trained, came.judged)
        + figures.columns(came.days)
    )


def _learned(learned: Learned) -> str:
    count = max(len(row) for row in learned.counts.values())
    names = ("before", "after")[:count]
    rows = "".join(f"<tr><td>{text(name)}</td>{_cells(row)}</tr>" for name, row in learned.counts.items())
    head = "".join(f"<th>{name}</th>" for name in names)
    found = [
        "<h2>What it took for the same</h2><p>Nobody labels anything here: crops that look alike are grouped, with "
        "what tracks and travel times say, and the model learns from the groups.</p>"
        f'<div class="table"><table><tr><th></th>{head}</tr>{rows}</table></div>'
    ]
    if learned.clusters:
        found.append(
            "<h3>Groups that reach furthest</h3><p>One line is one group. Crops whose lines have one colour were one "
            "group before; grey ones were in none. Look for two different ones in a line.</p>"
        )
        found += [f'<div class="pictures">{_pictures(line)}</div>' for line in learned.clusters]
    found += _changed("Pairs that came together", "apart before, together now", learned.joined)
    found += _changed("Pairs that were parted", "together before, apart now", learned.parted)
    return "".join(found)


def _changed(heading: str, meaning: str, changed: Changed | None) -> list[str]:
    if changed is None:
        return []
    words = f"{changed.pairs:,} pairs of passages were {meaning}" + ("; some of them:" if changed.shown else ".")
    pairs = "".join(f'<div class="pair">{_pictures(pair)}</div>' for pair in changed.shown)
    return [f'<h3>{heading}</h3><p>{words}</p><div class="pairs">{pairs}</div>']


def _judged(verdict: Mapping[str, Any]) -> str:
    said = {one["sentence"] for one in verdict["measures"]}
    notes = "".join(f'<p class="small">{text(note)}</p>' for note in verdict["notes"] if note not in said)
    cards = "".join(map(_card, verdict["measures"]))
    return (
        "<h2>How it was judged</h2><p>On passages of hours that no training saw, the new model against the one in "
        "force. The light zone is where a figure must lie, the upright line its bound, the bar its 95 % interval.</p>"
        f'<div class="cards">{cards}</div>{notes}'
    )


def _card(measure: Mapping[str, Any]) -> str:
    words, side, meaning = MEASURES.get(measure["name"], (measure["name"], "", ""))
    outcome = {"passed": "passed", "refused": "refused"}.get(measure["outcome"], "unjudged")
    value, interval = measure["value"], measure["interval"]
    number = drawn = ""
    if value is not None:
        spread = "" if interval is None else f" <small>[{_number(interval[0])}, {_number(interval[1])}]</small>"
        number = f'<div class="number">{_number(value)}{spread}</div>'
        drawn = figures.scale(value, interval, measure["bound"], side)
    head = f'<header><h3>{text(words)}</h3><span class="mark">{text(measure["outcome"])}</span></header>'
    said = f"<p>{text(meaning)}</p><p>{text(measure['name'])}: {text(measure['sentence'])}</p>"
    return f'<div class="card {outcome}">{head}{number}{drawn}{said}</div>'


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _bundled(made: Mapping[str, Any]) -> str:
    facts = {"precision": made["precision"].upper(), "size": f"{made['bytes'] / 1e6:.1f} MB", "serial": made["serial"]}
    facts["match threshold"] = f"{made['threshold_shift']:+.4f}"
    rows = "".join(f"<tr>{_cells(_gate(gate))}</tr>" for gate in made.get("gates", ()))
    table = f"<tr><th></th><th>found</th><th>limit</th><th></th></tr>{rows}"
    return (
        f"<h2>What the nodes get</h2><p>A signed bundle, {text(made['bundle'])}, in {text(made['precision'].upper())}: "
        f"{text(made['precision_reason'])}. It says for itself by how much the match threshold moves.</p>"
        + values({name: str(value) for name, value in facts.items()})
        + (f'<div class="table"><table>{table}</table></div>' if rows else "")
    )


def _gate(gate: Mapping[str, Any]) -> tuple[str, ...]:
    verdict = "passed" if gate["passed"] else "missed"
    return gate["name"].replace("_", " "), f"{gate['value']:.4f}", f"{gate['limit']:g}", verdict


def _curves(file: Path) -> str:
    data = base64.b64encode(file.read_bytes()).decode()
    return f'<h2>How training went</h2><img class="chart" alt="curves" src="data:image/png;base64,{data}">'


def _footer(until: str) -> str:
    shows = (
        f"This page shows crops, and is deleted with them on {until}: keep no copy longer, and show it to nobody who "
        "may not see them. Whether persons can be seen is a setting of the nodes (collection.persons); where it says "
        "blur, they were made unrecognisable before a crop left its node."
        if until
        else "This page shows no crop."
    )
    return f"<footer><p>{text(shows)}</p></footer>"


def _cells(row: Iterable[str]) -> str:
    return "".join(f"<td>{text(value)}</td>" for value in row)


def _pictures(pictures: Iterable[Picture]) -> str:
    return "".join(map(_picture, pictures))


def _picture(picture: Picture) -> str:
    try:
        pixels = read_image(picture.file)
    except DataError:
        return ""
    height, width = pixels.shape[:2]
    size = (max(1, round(min(width / height, WIDEST) * HEIGHT_PX * 2)), HEIGHT_PX * 2)
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA) if height > size[1] else pixels
    data = base64.b64encode(cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()).decode()
    said = f"{picture.camera} {day(picture.time_s)}"
    tint = f' class="t{picture.group % TINTS}"' if picture.group >= 0 else ""
    image = f'<img src="data:image/jpeg;base64,{data}" alt="{text(said)}" title="{text(said)}">'
    return f"<figure{tint}>{image}<figcaption>{text(picture.camera)}</figcaption></figure>"


def day(time_s: float) -> str:
    """A time for people."""
    return datetime.fromtimestamp(time_s, tz=timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
