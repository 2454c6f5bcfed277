"""The report as a page: one file that can be read without a network, and be sent to whoever writes the server.

The laws of this room: nothing is loaded from anywhere; everything that came from a server is escaped; the page reads
well without its script, which only copies and hides.
"""

from collections.abc import Iterator
from html import escape
from json import dumps, loads
from typing import Final

from taskstore.contract.curl import shown
from taskstore.contract.report import PARTS, Report, Verdict
from taskstore.contract.show import summary
from taskstore.contract.store import Pause, Step

LONGEST: Final = 3000
"""How many characters of a body are shown."""

STYLE: Final = """
:root { color-scheme: light dark; --back: #f7f7f4; --card: #fff; --ink: #1d2129; --soft: #667085; --line: #e2e2dc;
  --good: #15803d; --bad: #c81e1e; --none: #a16207; --code: #f1f1ec; --badback: #fdecec; }
@media (prefers-color-scheme: dark) { :root { --back: #15171c; --card: #1d2026; --ink: #e6e8ec; --soft: #98a1b0;
  --line: #30343d; --good: #4ade80; --bad: #ff7b72; --none: #e3b341; --code: #14161a; --badback: #3a1d1f; } }
* { box-sizing: border-box }
body { margin: 0; background: var(--back); color: var(--ink); font: 16px/1.5 system-ui, sans-serif }
main { max-width: 72rem; margin: 0 auto; padding: 2rem 1.25rem 4rem }
h1 { font-size: 1.6rem; margin: 0 0 .25rem } h2 { font-size: 1.2rem; margin: 2.5rem 0 .75rem }
h3 { font-size: 1.05rem; margin: 0; font-family: ui-monospace, monospace }
.soft { color: var(--soft) } .pass { color: var(--good) } .fail { color: var(--bad) } .absent { color: var(--none) }
.outcome { border-left: .4rem solid currentColor; padding: .6rem 1rem; background: var(--card); margin: 1.25rem 0 }
.outcome p { color: var(--ink); margin: 0 } .outcome strong { font-size: 1.15rem }
.tiles { display: flex; flex-wrap: wrap; gap: .75rem; margin: 1rem 0 }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .5rem 1rem }
.tile b { display: block; font-size: 1.5rem; line-height: 1.2 }
.bar { display: flex; height: .6rem; border-radius: .3rem; overflow: hidden; background: var(--line) }
.bar i { background: currentColor }
table { width: 100%; border-collapse: collapse; background: var(--card); border: 1px solid var(--line) }
td { padding: .35rem .75rem; border-top: 1px solid var(--line); vertical-align: top }
td:first-child { width: 5rem; font-weight: 600 } td:nth-child(2) { font: .9rem/1.6 ui-monospace, monospace }
td:last-child { color: var(--soft); text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums }
.failure { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: 1rem 1.25rem;
  margin: 1rem 0 }
.wrong { background: var(--badback); color: var(--bad); padding: .5rem .75rem; border-radius: .3rem;
  white-space: pre-wrap; overflow-wrap: anywhere }
ol { padding-left: 1.5rem } li { margin: .75rem 0 }
pre { background: var(--code); border: 1px solid var(--line); border-radius: .3rem; padding: .6rem .75rem;
  margin: .3rem 0;
  overflow-x: auto; white-space: pre-wrap; overflow-wrap: anywhere; font: .85rem/1.5 ui-monospace, monospace }
pre.answer { border-left: .25rem solid var(--soft) } pre.last { border-left-color: var(--bad) }
summary { cursor: pointer; color: var(--soft) }
button { font: inherit; font-size: .85rem; float: right; border: 1px solid var(--line); border-radius: .3rem;
  background: var(--card); color: var(--ink); cursor: pointer }
a { color: inherit }
"""
SCRIPT: Final = """
for (const button of document.querySelectorAll("button")) {
  button.hidden = !navigator.clipboard;
  button.onclick = async () => {
    await navigator.clipboard.writeText(button.parentElement.querySelector("code").textContent);
    button.textContent = "copied";
  };
}
"""


def as_html(report: Report) -> str:
    """The report as one page."""
    status, word = ("pass", "keeps") if report.passed else ("fail", "breaks")
    outcome, _, counts = summary(report).partition(": ")
    about = f"{report.url}, {report.started}, kit {report.version}, dialect {report.dialect}, repeat with"
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{_text(report.url)} {word} the contract</title><style>{STYLE}</style></head><body><main>",
        "<h1>taskstore check</h1>",
        f'<div class="soft">{_text(about)} <code>--seed {report.seed}</code></div>',
        f'<div class="outcome {status}"><strong>{_text(outcome)}</strong><p>{_text(counts)}</p></div>',
        *_tiles(report),
        *_failures(report),
        *_tables(report),
        f"</main><script>{SCRIPT}</script></body></html>",
    ]
    return "\n".join(parts) + "\n"


def _tiles(report: Report) -> Iterator[str]:
    total = max(1, len(report.verdicts))
    shares = [(status, report.count(status)) for status in ("pass", "fail", "absent")]
    bars = "".join(f'<i class="{status}" style="width:{100 * n / total:.2f}%"></i>' for status, n in shares)
    yield f'<div class="bar">{bars}</div><div class="tiles">'
    for status, n in shares:
        yield f'<div class="tile"><b class="{status}">{n}</b>{status}</div>'
    yield f'<div class="tile"><b>{report.requests:,}</b>requests</div>'
    yield f'<div class="tile"><b>{report.seconds:.1f} s</b>took</div></div>'


def _failures(report: Report) -> Iterator[str]:
    failures = [verdict for verdict in report.verdicts if verdict.status == "fail"]
    if failures:
        yield "<h2>What is wrong</h2>"
    for verdict in failures:
        yield f'<section class="failure" id="{verdict.rule}"><h3 class="fail">{verdict.rule}</h3>'
        yield f'<div class="soft">{_text(verdict.sentence)}</div>'
        yield f'<div class="wrong">{_text(verdict.message)}</div>'
        yield "<details open><summary>The requests that show it</summary><ol>"
        for position, step in enumerate(verdict.steps, 1):
            yield from _step(step, is_last=position == len(verdict.steps))
        yield "</ol></details><details><summary>The same as commands for a shell</summary>"
        yield f"<pre><button>copy</button><code>{_text(report.commands(verdict))}</code></pre></details></section>"


def _step(step: Step, *, is_last: bool) -> Iterator[str]:
    if isinstance(step, Pause):
        yield f'<li class="soft">{step.seconds:.2f} s pass</li>'
        return
    request, answer = step.request, step.answer
    beside = ' <span class="soft">at the same time as others</span>' if step.beside else ""
    yield f"<li><code>{request.method} {_text(request.path)}</code>{beside}"
    if request.body is not None:
        yield f"<pre>{_body(request.body)}</pre>"
    last = " last" if is_last else ""
    if answer is None:
        yield f'<pre class="answer{last}">{"hung up" if step.hung_up else "no answer"}</pre></li>'
    else:
        yield f'<pre class="answer{last}">{answer.status} {_text(answer.media)}\n{_body(answer.body)}</pre></li>'


def _body(body: bytes) -> str:
    text = body.decode("utf-8", "backslashreplace")
    try:
        pretty = dumps(loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        pretty = text
    text = text if len(text) < 100 else pretty
    return _text(text[:LONGEST]) + (f" ... ({len(body):,} bytes)" if len(text) > LONGEST else "")


def _tables(report: Report) -> Iterator[str]:
    for part in PARTS:
        verdicts = [verdict for verdict in report.verdicts if verdict.part == part]
        if verdicts:
            yield f"<h2>{part.capitalize()}</h2><table>"
            yield from (_row(verdict) for verdict in verdicts)
            yield "</table>"


def _row(verdict: Verdict) -> str:
    name = f'<a href="#{verdict.rule}">{verdict.rule}</a>' if verdict.status == "fail" else verdict.rule
    why = f' <span class="absent">({_text(verdict.message)})</span>' if verdict.status == "absent" else ""
    return (
        f'<tr><td class="{verdict.status}">{verdict.status}</td><td>{name}</td>'
        f"<td>{_text(verdict.sentence)}{why}</td><td>{verdict.requests:,} requests</td></tr>"
    )


def _text(text: str) -> str:
    return escape(shown(text).encode("utf-8", "backslashreplace").decode())
