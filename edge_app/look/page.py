"""The page of a look: what stands out of each camera in words, pictures of it, and how alike its passages are. One file
without scripts and without anything from elsewhere."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from edge_app.look.gallery import Shown
from edge_app.look.record import CameraRecord
from edge_app.look.verdict import Finding
from edge_app.pictures import style

BINS = np.linspace(-0.2, 1.0, 49)
FRAMES = 6  # of a camera's pictures that are shown

COLOURS = {"lost": style.WRONG, "doubt": style.MISSED, "good": style.RIGHT}
LEGEND = (
    ("a track in its colour; a double box: a view was taken", style.RIGHT),
    ("a box without a track", style.TEXT),
    ("too weak to be followed", style.MUTED),
    ("of a class that is not asked for", style.MISSED),
    ("a person who may be a rider", style.NEUTRAL),
)
CSS = f"""
body{{background:{style.BACKGROUND};color:{style.TEXT};font:15px/1.5 "DejaVu Sans",system-ui,sans-serif;margin:0}}
main{{max-width:1180px;margin:0 auto;padding:36px 24px 80px}}
h1{{font-size:30px;margin:0}} h2{{font-size:22px;margin:44px 0 4px}} h3{{font-size:15px;margin:26px 0 8px}}
p.sub,figcaption,td.k{{color:{style.MUTED}}} p.sub{{margin:2px 0 16px}}
ul.findings{{list-style:none;padding:0;margin:14px 0}}
ul.findings li{{background:{style.PANEL};border-left:4px solid;border-radius:4px;padding:9px 14px;margin:7px 0}}
.frames{{display:grid;grid-template-columns:repeat(auto-fit,minmax(340px,1fr));gap:12px}}
figure{{margin:0}} .frames img{{width:100%;border-radius:4px;display:block}} figcaption{{font-size:12px;margin-top:3px}}
.crops{{display:flex;flex-wrap:wrap;gap:8px}} .crops img{{height:84px;border-radius:3px;display:block}}
table{{border-collapse:collapse}} td{{padding:2px 18px 2px 0;vertical-align:top}}
.legend span{{margin-right:18px;white-space:nowrap}} .legend i{{display:inline-block;width:14px;height:10px;
border:2px solid;margin-right:6px;vertical-align:-1px}}
a{{color:{style.NEUTRAL}}} svg text{{fill:{style.MUTED};font-size:11px}}
"""


@dataclass(frozen=True, slots=True)
class Alike:
    """Similarities that are compared with each other, under a heading."""

    title: str
    groups: tuple[tuple[str, Sequence[float]], ...]


def page(
    title: str,
    cameras: Sequence[tuple[CameraRecord, list[Finding], Shown | None]],
    alike: Sequence[Alike],
    links: Sequence[Finding],
) -> str:
    """The whole page as HTML."""
    body = [f"<h1>{escape(title)}</h1>", f'<p class="sub">{_sum(cameras)}</p>', _legend()]
    body += [_camera(*one) for one in cameras]
    if alike or links:
        body += ["<h2>How alike</h2>", _list(links), *map(_histogram, alike)]
    text = "\n".join(body)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{CSS}</style><main>{text}</main></html>\n"
    )


def _sum(cameras: Sequence[tuple[CameraRecord, list[Finding], Shown | None]]) -> str:
    frames = sum(one.frames for one, _, _ in cameras)
    passages = sum(one.endings["passage"] for one, _, _ in cameras)
    return f"cameras: {len(cameras)}, frames: {frames:,}, passages: {passages:,}"


def _legend() -> str:
    marks = "".join(f'<span><i style="border-color:{colour}"></i>{escape(text)}</span>' for text, colour in LEGEND)
    return f'<p class="legend sub">{marks}</p>'


def _camera(one: CameraRecord, found: list[Finding], shown: Shown | None) -> str:
    width, height = one.size_px
    head = f"{one.frames:,} frames of {width} × {height} in {one.seconds:.0f} s, from {style.clock(one.first_s, 0)} on"
    parts = [f"<h2>Camera {escape(one.camera)}</h2>", f'<p class="sub">{head}</p>', _list(found)]
    if shown is not None and shown.frames:
        chosen = np.linspace(0, len(shown.frames) - 1, min(FRAMES, len(shown.frames))).round().astype(int)
        figures = "".join(
            f'<figure><img src="{_data(shown.frames[n][1])}" alt=""><figcaption>{style.clock(shown.frames[n][0])}'
            "</figcaption></figure>"
            for n in chosen
        )
        parts.append(f'<div class="frames">{figures}</div>')
        if shown.video is not None:
            parts.append(f'<p><a href="{escape(shown.video)}">Every frame, as a video</a></p>')
    parts.append(_table(one))
    if shown is not None:
        parts += [_crops("Views that were taken, with their quality", shown.taken)]
        parts += [_crops("Too poor to be compared, of tracks of which nothing better was there by then", shown.refused)]
    return "\n".join(parts)


def _list(found: Sequence[Finding]) -> str:
    items = "".join(f'<li style="border-color:{COLOURS[each.grade]}">{escape(each.text)}</li>' for each in found)
    return f'<ul class="findings">{items}</ul>' if items else ""


def _table(one: CameraRecord) -> str:
    rows = {
        "passages": _counts(one.passages),
        "came in → went out": _counts(Counter({f"{a} → {b}": n for (a, b), n in one.ways.items()})),
        "tracks": _counts(Counter({"passages": one.endings["passage"], "too short": one.endings["short"],
                                   "persons on foot": one.endings["unasked"], "pieces that were joined": one.pieces})),
        "boxes": _counts(one.kept),
        "of these too weak to begin a track": _counts(one.unsure),
        "too weak to be followed": _counts(one.weak),
        "of other classes": _counts(one.other),
        "outside the area": f"{one.outside:,}" if one.outside else "",
        "views": f"{one.views:,}" if one.views else "",
        "passages without a view": _counts(one.unseen),
    }  # fmt: skip
    cells = "".join(f'<tr><td class="k">{key}</td><td>{escape(text)}</td></tr>' for key, text in rows.items() if text)
    return f"<h3>Counts</h3><table>{cells}</table>"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {n:,}" for name, n in sorted(counts.items(), key=lambda each: -each[1])[:12] if n)


def _crops(title: str, crops: Sequence[tuple[str, bytes]]) -> str:
    figures = "".join(
        f'<figure><img src="{_data(picture)}" alt=""><figcaption>{escape(text)}</figcaption></figure>'
        for text, picture in crops
    )
    return f'<h3>{escape(title)}</h3><div class="crops">{figures}</div>' if figures else ""


def _histogram(alike: Alike) -> str:
    """Shares of each group by similarity, one line each."""
    groups = [(name, np.asarray(values)) for name, values in alike.groups if len(values)]
    if not groups:
        return ""
    width, height = 560, 120
    shares = [np.histogram(values, BINS)[0] / len(values) for _, values in groups]
    top = max(float(share.max()) for share in shares)
    lines, names = [], []
    for (name, values), share, colour in zip(groups, shares, (style.NEUTRAL, style.MISSED, style.RIGHT), strict=False):
        x = (BINS[:-1] + BINS[1:]) / 2
        points = " ".join(
            f"{(at - BINS[0]) / (BINS[-1] - BINS[0]) * width:.1f},{height - 4 - (height - 16) * y / top:.1f}"
            for at, y in zip(x, share, strict=True)
        )
        lines.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        names.append(f'<span><i style="border-color:{colour}"></i>{escape(name)} ({len(values)})</span>')
    ticks = "".join(
        f'<text x="{(at - BINS[0]) / (BINS[-1] - BINS[0]) * width:.0f}" y="{height + 12}" text-anchor="middle">{at:g}'
        "</text>"
        for at in (0.0, 0.25, 0.5, 0.75, 1.0)
    )
    return (
        f'<h3>{escape(alike.title)}</h3><svg width="{width}" height="{height + 16}" role="img">{ticks}{"".join(lines)}'
        f'</svg><p class="legend sub">{"".join(names)}</p>'
    )


def _data(picture: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}"
