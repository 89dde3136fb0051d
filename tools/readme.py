# SPDX-License-Identifier: Apache-2.0
"""Write the parts of README.md that must be true: `python -m tools.readme` rehearses and writes figures and loop.

With `--loop` it writes the loop alone, with `--check` it only says whether the loop is stale. Figures are rounded, so
that another run on the same machine gives about the same. The words around them are written by people.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

from firecurtain.rehearsal.knight.arms import ARMS
from firecurtain.rehearsal.knight.runner import Options, Result, run_rehearsal

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "README.md"
SOURCE = ROOT / "src" / "firecurtain"

# One turn of the loop: who, in which file, and its lines there. A line that is no longer in the file is an error.
LOOP = (
    (
        "the application reserves each order before it sends it",
        "rehearsal/knight/artifacts/smars/order_exit_guarded.py",
        ('token = self._send_order.acquire(cause=f"parent-{order.parent}", usd=usd)',),
    ),
    (
        "its guard looks at the page: no I/O, no clock but this host's",
        "permit/reader.py",
        ("if 0 < expiry_ns - now_ns <= view.window_ns:", "return view"),
    ),
    (
        "the agent reads its clock, then asks, saying what runs here",
        "agent/exchange.py",
        (
            "t0_ns = boottime_ns()",
            "self._host.apply(machine.begin_attest(self._host.state, t0_ns, secrets.token_bytes(16), totals))",
        ),
    ),
    (
        "the control plane judges, and answers or keeps silent",
        "control/answers.py",
        ("verdict = judge_attest(fleet, self.live, attest, now)",),
    ),
    (
        "it decides, records, and only then acts",
        "control/turn.py",
        (
            "for event in decide(self.fleet, command, self._read_instant(), self._get_live()):",
            "await self._append(event, uses_reserve=uses_reserve)",
            "self.fleet = evolve(self.fleet, decode_event(entry.event))",
        ),
    ),
    (
        "it signs what the ledger says, its clock read first",
        "control/issuer.py",
        (
            "signed_ns = self.clock.read_ns()  # first: a stop durable before this moment must stand below",
            "stops, _ = self._select(service)",
            "return encode_frame(beacon, self._signer)",
        ),
    ),
    (
        "the agent takes stops first, then content, then age",
        "agent/core/machine.py",
        (
            "state, effects = _take_stops(state, beacon.stops, now_ns)",
            "state, changed = _take_content(state, keyid, beacon)",
            "state, doubted = _take_freshness(state, keyid, beacon, now_ns)",
            "wanted, page = verdict.decide_permit(state, now_ns), state.page",
        ),
    ),
    ("and writes the page: one aligned store", "permit/writer.py", ("self._words[EXPIRY_WORD] = deadline_ns",)),
)
COLUMNS = "{:<23} {:>14}  {:>14}  {}"


def main() -> None:
    """Write what was asked for, or with --check exit 1 when the loop is not the code's."""
    page = PAGE.read_text(encoding="utf-8")
    written = replace_part(page, "loop", f"```python\n{compute_loop()}```")
    if "--check" in sys.argv[1:]:
        if written != page:
            raise SystemExit("the loop in README.md is stale. Run `python -m tools.readme --loop` and read the diff.")
        return
    if "--loop" not in sys.argv[1:]:
        print("rehearsing every arm, about two minutes", flush=True)
        result = run_rehearsal(Options(), lambda _: None)
        if not result.holds:
            raise SystemExit(f"no figures written, claims were broken: {result.broken}")
        written = replace_part(written, "figures", f"```\n{format_figures(result)}```")
    PAGE.write_text(written, encoding="utf-8")


def compute_loop() -> str:
    """The loop's lines as they stand in the source, each group below the file it comes from."""
    groups = [f"# {words} ({name})\n{compute_group(name, lines)}" for words, name, lines in LOOP]
    return "\n".join(groups)


def compute_group(name: str, lines: tuple[str, ...]) -> str:
    """These lines of one file, as far to the right of the first as they stand there."""
    source = (SOURCE / name).read_text(encoding="utf-8").splitlines()
    indents = {line.strip(): len(line) - len(line.lstrip()) for line in reversed(source)}
    for line in lines:
        if line not in indents:
            raise SystemExit(f"src/firecurtain/{name} has no line `{line}` any more. Correct LOOP in tools/readme.py.")
    return "".join(f"{' ' * max(indents[line] - indents[lines[0]], 0)}{line}\n" for line in lines)


def format_figures(result: Result) -> str:
    """One line for each arm, burning ones by their rate, which does not depend on the window."""
    rows = [COLUMNS.format("arm", "wrong orders", "correct orders", "judged by the venue's own ledger")]
    for name, outcome in result.outcomes.items():
        figures, arm = outcome.figures, ARMS[name]
        wrong = f"{round_figure(figures.wrong_per_s):,} a second" if figures.wrong_executions else "0"
        correct = f"{figures.parents_completed:,} of {figures.parents_total:,}"
        rows.append(COLUMNS.format(arm.title, wrong, correct, arm.remark.format(straggler=outcome.straggler)))
    return "".join(f"{row}\n" for row in rows)


def round_figure(value: float) -> int:
    """Two digits that count; more would differ from run to run.

    >>> round_figure(1478.4), round_figure(6642.0), round_figure(0.0)
    (1500, 6600, 0)
    """
    return 0 if value == 0 else int(round(value, 1 - math.floor(math.log10(value))))


def replace_part(page: str, name: str, text: str) -> str:
    """The page with what stands between its two markers of this name replaced.

    >>> replace_part("a <!-- x --> old <!-- /x --> b", "x", "new")
    'a <!-- x -->\\nnew\\n<!-- /x --> b'
    """
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    if page.count(begin) != 1 or page.count(end) != 1:
        raise SystemExit(f"README.md needs the markers {begin} and {end} once each.")
    head, rest = page.split(begin)
    return f"{head}{begin}\n{text}\n{end}{rest.split(end)[1]}"


if __name__ == "__main__":
    main()
