"""One page that shows a run: what it was, what it reached, and every picture with a line on how to read it."""

from __future__ import annotations

import html
from collections.abc import Mapping
from pathlib import Path

from trainer.errors import WorldError

CAPTIONS = {
    "curves.png": ("Curves", "Faint: every logged loss; strong: its running mean. The test scores choose nothing."),
    "ranked.png": (
        "Ranked lists",
        "A query on the left, then the ten nearest crops of other cameras: green is right, red is wrong.",
    ),
    "clusters_most_cameras.png": (
        "Clusters that span most cameras",
        "One line per cluster: number/crops and camera. Look for two vehicles or persons in one line.",
    ),
    "clusters_largest.png": ("Largest clusters", "A cluster far larger than the others joins several identities."),
    "outliers.png": ("Outliers", "Crops without a cluster: seldom seen, half hidden, or badly cut."),
    "map.png": (
        "Map",
        "Islands of one colour are clusters; two islands of one colour are the same cluster seen twice.",
    ),
    "ways.png": (
        "Ways between cameras",
        "What the clusters say about time: above 1, two crops of one identity lie so many seconds apart more often "
        "than chance would have it. A flat line says that time tells nothing between these two cameras.",
    ),
    "similarity.png": (
        "Similarity",
        "Each held-out crop, embedded by the float network and by the one that ships. Dashed: the limits of the gate.",
    ),
    "sensitivity_embedder.png": (
        "Sensitivity of the embedder",
        "What each layer costs when it alone is quantized. A few long bars can be left out; many need another network.",
    ),
    "sensitivity_detector.png": (
        "Sensitivity of the detector",
        "The same for the detector: how unlike its boxes become when one layer alone is quantized.",
    ),
}
STYLE = """
:root { color-scheme: light dark; --ink: #22262c; --soft: #626a76; --line: #e3e6ea; --ground: #fff; --accent: #1f6feb }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ee; --soft: #9aa3b0; --line: #30363f; --ground: #14171c; --accent: #6ea8ff }
}
body { margin: 0 auto; max-width: 1180px; padding: 40px 24px 80px; color: var(--ink); background: var(--ground);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif }
h1 { font-size: 28px; margin: 0 } h2 { font-size: 19px; margin: 48px 0 4px } p { margin: 0 0 14px; color: var(--soft) }
dl { display: flex; flex-wrap: wrap; gap: 10px 36px; margin: 24px 0; padding: 18px 0; border: solid var(--line);
  border-width: 1px 0 } dt { color: var(--soft); font-size: 13px } dd { margin: 0; font-size: 20px }
nav a { margin-right: 18px; color: var(--accent); text-decoration: none }
img { max-width: 100%; display: block; border: 1px solid var(--line); border-radius: 6px }
"""


def write_page(folder: Path, title: str, facts: dict[str, str]) -> None:
    """`index.html` in `folder`, with those of the pictures above that lie there. `WorldError` when the disk refuses."""
    shown = [name for name in CAPTIONS if (folder / name).is_file()]
    links = "".join(f'<a href="#{name}">{text(CAPTIONS[name][0])}</a>' for name in shown)
    sections = "".join(_section(name, *CAPTIONS[name]) for name in shown)
    page = document(title, f"<h1>{text(title)}</h1>{values(facts)}<nav>{links}</nav>{sections}")
    try:
        (folder / "index.html").write_text(page, encoding="utf-8")
    except OSError as error:
        raise WorldError(f"{folder / 'index.html'} cannot be written: {error.strerror or error}") from error


def _section(name: str, heading: str, caption: str) -> str:
    words = f"<h2>{text(heading)}</h2><p>{text(caption)}</p>"
    return f'<section id="{name}">{words}<img src="{name}" alt="{text(heading)}" loading="lazy"></section>'


def document(title: str, body: str, style: str = "") -> str:
    """A whole page, as wide as its screen."""
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{text(title)}</title><style>{STYLE}{style}</style><body>{body}</body></html>\n"
    )


def values(facts: Mapping[str, str]) -> str:
    """Names and values beside each other."""
    items = (f"<div><dt>{text(name)}</dt><dd>{text(value)}</dd></div>" for name, value in facts.items())
    return f"<dl>{''.join(items)}</dl>"


def text(value: str) -> str:
    """As it is read, whatever it is made of."""
    return html.escape(value, quote=True)
