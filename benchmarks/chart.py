"""The chart: bars for each contender in the works where all of them can be compared.

report.py writes what `draw` returns. Plain SVG without a script, readable in light and in dark pages.
"""

from collections.abc import Iterator
from html import escape
from typing import Final, NamedTuple

from benchmarks.figures import Results

_WIDTH: Final = 760
_LABEL: Final = 170  # pixels for the contenders' names
_BAR: Final = 18
_STEP: Final = 26
_HEAD: Final = 34


class _Panel(NamedTuple):
    work: str
    figure: str
    title: str
    more_is_better: bool


_PANELS: Final = (
    _Panel("burst", "rate", "Burst: jobs a second, two worker processes (longer is better)", True),
    _Panel("enqueue", "one_by_one", "Enqueue one by one: jobs a second (longer is better)", True),
    _Panel("latency", "p50", "Latency: milliseconds from enqueue to start, median (shorter is better)", False),
    _Panel("storm", "last", "Storm: seconds until the last of 10,000 schedules has started (shorter is better)", False),
)


def draw(results: Results) -> str:
    """Return the chart as SVG."""
    parts, y = list[str](), 8
    for panel in _PANELS:
        bars = list(_bars(results, panel))
        if bars:
            parts += _draw_panel(panel, bars, y)
            y += _HEAD + _STEP * len(bars) + 16
    style = (
        "text{font:13px sans-serif;fill:#222}.t{font-weight:bold}.v{font-size:12px}rect{fill:#8aa4bf}.s{fill:#1f6f4a}"
        "@media(prefers-color-scheme:dark){text{fill:#ddd}}"
    )
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {max(y, 20)}" role="img">'
    return "\n".join([opening, "<title>sisy and its rivals</title>", f"<style>{style}</style>", *parts, "</svg>", ""])


def _bars(results: Results, panel: _Panel) -> Iterator[tuple[str, float, str, bool]]:
    """Yield name, value, text and whether it is sisy's, the best first; of several sizes the smallest."""
    seen, found = set(), []
    for measurement in results.of(panel.work):
        value = measurement.median(panel.figure)
        if measurement.contender in seen:
            continue
        seen.add(measurement.contender)
        if value is not None:
            incomplete = f", {measurement.lost:,} not started" if measurement.lost else ""
            found.append(
                (measurement.title, value, f"{_short(value)}{incomplete}", measurement.contender.startswith("sisy"))
            )
    incomplete_last = [
        (bar[2].find("not started") >= 0, -bar[1] if panel.more_is_better else bar[1], bar) for bar in found
    ]
    yield from (bar for _, _, bar in sorted(incomplete_last, key=lambda entry: entry[:2]))


def _draw_panel(panel: _Panel, bars: list[tuple[str, float, str, bool]], y: int) -> list[str]:
    longest = max(value for _, value, _, _ in bars) or 1.0
    parts = [f'<text class="t" x="0" y="{y + 14}">{escape(panel.title)}</text>']
    for place, (name, value, text, is_sisy) in enumerate(bars):
        top = y + _HEAD + place * _STEP
        width = max(1.0, value / longest * (_WIDTH - _LABEL - 190))
        kind = ' class="s"' if is_sisy else ""
        parts += [
            f'<text x="0" y="{top + 13}">{escape(name)}</text>',
            f'<rect{kind} x="{_LABEL}" y="{top}" width="{width:.1f}" height="{_BAR}" rx="2"/>',
            f'<text class="v" x="{_LABEL + width + 6:.1f}" y="{top + 13}">{escape(text)}</text>',
        ]
    return parts


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
