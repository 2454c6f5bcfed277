"""The timeline: an SVG picture of who held which task when, written by hand.

The laws of this room: a pure function of the story; it stands alone (no fonts, scripts or links), suits a light and a
dark page, and says nothing by colour only.
"""

from collections.abc import Iterator
from typing import Final
from xml.sax.saxutils import escape

import attrs

from taskstore.demo.groups import Held, Story
from taskstore.demo.show import shortened

WIDTH: Final = 1080
LEFT: Final = 140
RIGHT: Final = 90
TOP: Final = 128
LANE: Final = 34
GAP: Final = 16

_STYLE: Final = """
text { font: 13px system-ui, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1f2328 }
.title { font-size: 20px; font-weight: 600 }
.small { font-size: 12px; fill: #59636e }
.page { fill: #ffffff }
.lane { fill: #eff2f5 }
.grid { stroke: #d1d9e0; stroke-width: 1 }
.map { fill: #3b78e7 }
.reduce { fill: #e0930f }
.lost { fill: #8b949e }
.kill { fill: #cf222e }
.heir { fill: #1a7f37 }
.over { fill: none; stroke: #cf222e; stroke-width: 1.5; stroke-dasharray: 5 4 }
.cross { stroke: #cf222e; stroke-width: 3; stroke-linecap: round }
.way { fill: none; stroke: #1a7f37; stroke-width: 2 }
.tip { fill: #1a7f37 }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc }
  .small { fill: #9198a1 }
  .page { fill: #0d1117 }
  .lane { fill: #1c2129 }
  .grid { stroke: #3d444d }
  .map { fill: #5a93f5 }
  .reduce { fill: #e5a93c }
  .kill { fill: #f85149 }
  .heir, .tip { fill: #3fb950 }
  .over, .cross { stroke: #f85149 }
  .way { stroke: #3fb950 }
}
"""


def drawn(story: Story) -> str:
    """`story` as an SVG document."""
    return "\n".join(_Drawing(story).parts()) + "\n"


@attrs.frozen
class _Drawing:
    story: Story

    @property
    def start_ns(self) -> int:
        return min((held.since_ns for held in self.story.held), default=0)

    @property
    def span_ns(self) -> int:
        end = max((held.until_ns for held in self.story.held), default=0)
        return max(end, self.story.lease_end_ns) - self.start_ns or 1

    @property
    def bottom(self) -> int:
        return TOP + self.story.workers * (LANE + GAP)

    def x(self, ns: int) -> float:
        return round(LEFT + (ns - self.start_ns) / self.span_ns * (WIDTH - LEFT - RIGHT), 2)

    def y(self, worker: int) -> int:
        return TOP + (worker - 1) * (LANE + GAP)

    def parts(self) -> Iterator[str]:
        height = self.bottom + 50
        yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" role="img">'
        yield f"<title>Who held which task when</title><style>{_STYLE}</style>"
        yield f'<rect class="page" width="{WIDTH}" height="{height}"/>'
        yield _text(LEFT, 34, "Who held which task when", "title")
        yield _text(LEFT, 58, self.summary())
        yield from self.legend()
        yield from self.axis()
        for worker in range(1, self.story.workers + 1):
            yield from self.lane(worker)
        yield from self.succession()
        yield "</svg>"

    def summary(self) -> str:
        story = self.story
        done = f"{story.count('map'):,} map and {story.count('reduce'):,} reduce tasks by {story.workers} workers"
        return f"{done}; each box is a task, from its claim to the update that ends it"

    def legend(self) -> Iterator[str]:
        entries = [("map", "map task"), ("reduce", "reduce task")]
        if self.story.killed:
            entries += [("kill", "held when killed"), ("over", "the rest of its lease")]
            entries += [("heir", "the same chunk again")]
        if self.story.count("lost"):
            entries.append(("lost", "too late, refused"))
        x = LEFT
        for style, meaning in entries:
            yield f'<rect class="{style}" x="{x}" y="78" width="14" height="14" rx="2"/>' + _text(x + 20, 90, meaning)
            x += 46 + round(6.7 * len(meaning))

    def axis(self) -> Iterator[str]:
        seconds = self.span_ns / 1e9
        step = next((step for step in (0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300) if seconds / step <= 12), 3600)
        for tick in range(int(seconds / step) + 1):
            x = self.x(self.start_ns + round(tick * step * 1e9))
            yield f'<path class="grid" d="M{x} {TOP - 8}V{self.bottom}"/>'
            yield _text(x, self.bottom + 20, f"{tick * step:g} s", "small", anchor="middle")

    def lane(self, worker: int) -> Iterator[str]:
        y = self.y(worker)
        yield f'<rect class="lane" x="{LEFT}" y="{y}" width="{WIDTH - LEFT - RIGHT}" height="{LANE}" rx="3"/>'
        yield _text(LEFT - 14, y + 14, f"worker {worker}", anchor="end")
        counts = f"{self.story.count('map', worker)} map, {self.story.count('reduce', worker)} reduce"
        yield _text(LEFT - 14, y + 30, counts, "small", anchor="end")
        for held in self.story.held:
            if held.worker == worker:
                yield self.box(held)

    def box(self, held: Held) -> str:
        x, end = self.x(held.since_ns), self.x(held.until_ns)
        heir = self.story.heir
        style = "heir" if heir and held.id == heir.id else held.kind
        what = shortened(held.data) if ":" in held.data else f"shard {held.data}"
        tip = f"{held.kind} task {held.id}, {what}, {(held.until_ns - held.since_ns) / 1e6:.0f} ms"
        least = 0.8 if style in ("map", "reduce") else 3.0
        size = f'width="{max(end - x, least):.2f}" height="{LANE - 8}"'
        return f'<rect class="{style}" x="{x}" y="{self.y(held.worker) + 4}" {size}><title>{escape(tip)}</title></rect>'

    def succession(self) -> Iterator[str]:
        """From the kill to the end of the lease, and from there to whoever did the work."""
        killed, heir = self.story.killed, self.story.heir
        if not killed or not heir:
            return
        y, middle = self.y(killed.worker), self.y(killed.worker) + LANE // 2
        died, taken = self.x(killed.until_ns), self.x(heir.since_ns)
        over = max(self.x(self.story.lease_end_ns), died)
        size = f'width="{over - died:.2f}" height="{LANE - 8}"'
        yield f'<rect class="over" x="{died}" y="{y + 4}" {size} rx="2"/>'
        yield f'<path class="cross" d="M{died - 6} {middle - 6}l12 12m0 -12l-12 12"/>'
        yield _text(died + 14 if over - died > 200 else over + 12, middle + 5, f"killed, holding task {killed.id}")
        down = 6 if heir.worker > killed.worker else -6
        start, end = (y + LANE, self.y(heir.worker)) if down > 0 else (y, self.y(heir.worker) + LANE)
        curve = f"M{over} {start}C{over} {end - 3 * down} {taken} {start + down} {taken} {end - down}"
        yield f'<path class="way" d="{curve}"/>'
        yield f'<path class="tip" d="M{taken - 4} {end - down}h8L{taken} {end}z"/>'
        yield _text(taken + 8, end - 4 if down > 0 else end + 13, f"task {heir.id}")


def _text(x: float, y: float, text: str, style: str = "", anchor: str = "start") -> str:
    return f'<text class="{style}" x="{x}" y="{y}" text-anchor="{anchor}">{escape(text)}</text>'
