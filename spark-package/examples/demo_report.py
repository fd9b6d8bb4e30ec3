"""The demo's report: one HTML file that needs nothing else, with every test picture on a contact sheet."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from html import escape
from io import BytesIO
from pathlib import Path

from PIL import Image

THUMBNAIL = 132  # points of the longer side


@dataclass
class Figures:
    """What the main job found."""

    pictures: str
    network: str
    train: int
    test: int
    accuracy: float = 0.0
    baseline: float = 0.0
    seconds: float = 0.0
    classes: list[str] = field(default_factory=list)
    confusion: list[list[int]] = field(default_factory=list)


@dataclass(frozen=True)
class Picture:
    """One test picture, and what was said of it."""

    content: bytes
    name: str
    true: str
    predicted: str
    score: float
    network_says: str
    network_score: float

    @property
    def wrong(self) -> bool:
        return self.true != self.predicted


STYLE = Path(__file__).with_suffix(".css")


def write_report(path: Path, figures: Figures, pictures: list[Picture]) -> None:
    wrong = sum(picture.wrong for picture in pictures)
    body = f"""
<header>
<h1>{figures.accuracy:.1%} of {figures.test} unseen pictures told apart</h1>
<p>Pictures: {escape(figures.pictures)}.<br>Weights: {escape(figures.network)}.</p>
</header>
<section class="tiles">
{_tile(f"{figures.accuracy:.3f}", "accuracy of the pipeline on the test pictures", "main")}
{_tile(f"{figures.baseline:.3f}", "accuracy of colour histograms, same split, same kind of regression")}
{_tile(f"{1 / len(figures.classes):.3f}", f"a guess among {len(figures.classes)} classes")}
{_tile(str(figures.train), f"pictures to learn from, {figures.test} others to test on")}
</section>
<section>
<h2>Which classes are taken for which</h2>
<p class="note">Each row is a true class, each column what the pipeline said. The stronger the colour,
the larger the share of the row.</p>
{_heat_map(figures)}
</section>
<section>
<h2>Every test picture</h2>
<p class="note">Under each: the class that the logistic regression predicts with its probability, then
what the network itself takes the picture for, by DeepImagePredictor.</p>
<label><input type="checkbox" id="mistakes"> Show only the {wrong} mistakes</label>
{"".join(_sheet(name, [p for p in pictures if p.true == name]) for name in figures.classes)}
</section>
<footer>DeepImageFeaturizer and LogisticRegression in one pipeline; saved, reloaded, and found to predict
the same. The whole job took {figures.seconds:.0f} seconds.</footer>"""
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    style = STYLE.read_text(encoding="utf-8")
    head += f"<title>Deep Learning Pipelines: demo</title><style>\n{style}</style>"
    page = f'<!doctype html><html lang="en"><head>{head}</head>'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{page}<body><main>{body}</main></body></html>\n", encoding="utf-8")


def _tile(figure: str, meaning: str, kind: str = "") -> str:
    return f'<div class="tile {kind}"><b>{escape(figure)}</b><small>{escape(meaning)}</small></div>'


def _heat_map(figures: Figures) -> str:
    corner = '<th scope="col">true \\ predicted</th>'
    head = corner + "".join(f'<th scope="col">{escape(name)}</th>' for name in figures.classes)
    body = ""
    for name, counts in zip(figures.classes, figures.confusion, strict=True):
        total = max(1, sum(counts))
        cells = "".join(_cell(count, count / total) for count in counts)
        body += f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>'
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(count: int, share: float) -> str:
    kind = "none" if count == 0 else "strong" if share > 0.55 else ""
    colour = f"background: rgb(var(--heat) / {share:.2f})"
    return f'<td class="{kind}" style="{colour}" title="{share:.0%}">{count}</td>'


def _sheet(name: str, pictures: list[Picture]) -> str:
    wrong = sum(picture.wrong for picture in pictures)
    tally = f"{len(pictures) - wrong} of {len(pictures)} right"
    ordered = sorted(pictures, key=lambda picture: (not picture.wrong, picture.name))
    sheet = "".join(_figure(picture) for picture in ordered)
    return f'<h3>{escape(name)} <span>{tally}</span></h3><div class="sheet">{sheet}</div>'


def _figure(picture: Picture) -> str:
    kind, mark = ("wrong", "✗") if picture.wrong else ("right", "✓")
    true = f"<small>is {escape(picture.true)}</small>" if picture.wrong else ""
    said = f"{picture.network_says.replace('_', ' ')} {picture.network_score:.2f}"
    alt = f"{picture.name}: {picture.true}, predicted {picture.predicted}"
    caption = f"<i>{picture.score:.2f}</i><b>{mark} {escape(picture.predicted)}</b>{true}"
    return f"""
<figure class="{kind}" title="{escape(picture.name)}">
<img loading="lazy" alt="{escape(alt)}" src="data:image/jpeg;base64,{_thumbnail(picture.content)}">
<figcaption>{caption}<small>network: {escape(said)}</small></figcaption>
</figure>"""


def _thumbnail(content: bytes) -> str:
    with Image.open(BytesIO(content)) as image:
        small = image.convert("RGB")
    small.thumbnail((2 * THUMBNAIL, 2 * THUMBNAIL))
    encoded = BytesIO()
    small.save(encoded, "JPEG", quality=72)
    return base64.b64encode(encoded.getvalue()).decode("ascii")
