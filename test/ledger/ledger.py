"""The ledger: one line for each recorded run, in runs.tsv.

A line names the commit and carries a digest of the sources the run speaks for (kinds.py). Lines whose
digest is that of the sources as they are now add up; the others are history. A failure stands until
the sources change.
"""

from __future__ import annotations

import hashlib
import subprocess
from dataclasses import astuple, dataclass, fields
from datetime import datetime, timezone
from pathlib import Path

from kinds import Kind

COMPLETE = "ok"
INTERRUPTED = "interrupted"  # without a finding until then


class Refusal(Exception):
    """Nothing can be recorded, for this reason."""


@dataclass(frozen=True)
class Run:
    date: str  # when it began, UTC
    commit: str
    kind: str
    sources: str  # digest
    seeds: str
    seconds: int
    counts: str  # name=number, by spaces
    result: str  # COMPLETE, INTERRUPTED, or what was found

    def failed(self) -> bool:
        return self.result not in (COMPLETE, INTERRUPTED)

    def count(self, name: str) -> int:
        if name == "seconds":
            return self.seconds
        return int(dict(pair.split("=") for pair in self.counts.split()).get(name, 0))


COLUMNS = [field.name for field in fields(Run)]


@dataclass(frozen=True)
class Start:
    """What the tree was when a run began."""

    date: str
    commit: str
    digests: dict[str, str]


@dataclass(frozen=True)
class Total:
    """What was done for a kind at the present sources."""

    kind: Kind
    done: int
    runs: int
    earlier: int  # runs at other sources
    failures: list[Run]

    def missing(self) -> int:
        return max(0, self.kind.target - self.done)


class Ledger:
    def __init__(self, root: Path, file: str = "test/ledger/runs.tsv"):
        self.root = root
        self.file = file

    def _git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=self.root, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise Refusal(f"git {arguments[0]}: {done.stderr.strip()}")
        return done.stdout

    def digest(self, kind: Kind) -> str:
        listed = self._git("ls-files", "-s", "--", *kind.sources)
        return hashlib.sha256(listed.encode()).hexdigest()[:12]

    def changes(self) -> str:
        """What differs from the commit, but for the ledger itself."""
        return self._git("status", "--porcelain", "--", ".", f":(exclude){self.file}").rstrip()

    def start(self, kinds: list[Kind]) -> Start:
        if changes := self.changes():
            raise Refusal(f"a run is recorded for a commit, and the tree differs from it:\n{changes}")
        return Start(
            datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%MZ"),
            self._git("rev-parse", "--short=12", "HEAD").strip(),
            {kind.name: self.digest(kind) for kind in kinds},
        )

    def add(
        self,
        start: Start,
        kind: Kind,
        *,
        seeds: str,
        seconds: float,
        counts: dict[str, int],
        result: str,
    ) -> None:
        run = Run(
            start.date,
            start.commit,
            kind.name,
            start.digests[kind.name],
            seeds,
            int(seconds),
            " ".join(f"{name}={number}" for name, number in counts.items()),
            " ".join(result.split()),
        )
        path = self.root / self.file
        head = "" if path.exists() else "\t".join(COLUMNS) + "\n"
        with path.open("a", encoding="utf-8") as file:
            file.write(head + "\t".join(str(value) for value in astuple(run)) + "\n")

    def runs(self) -> list[Run]:
        path = self.root / self.file
        if not path.exists():
            return []
        runs = []
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            cells = line.split("\t")
            if cells == COLUMNS:
                continue
            if len(cells) != len(COLUMNS) or not cells[5].isdigit():
                raise Refusal(f"{self.file}:{number}: not a line of the ledger")
            runs.append(Run(*cells[:5], int(cells[5]), *cells[6:]))
        return runs

    def total(self, kind: Kind) -> Total:
        digest = self.digest(kind)
        runs = [run for run in self.runs() if run.kind == kind.name]
        present = [run for run in runs if run.sources == digest]
        failures = [run for run in present if run.failed()]
        done = sum(run.count(kind.counts) for run in present if not run.failed())
        return Total(kind, done, len(present), len(runs) - len(present), failures)


def report(ledger: Ledger, kinds: list[Kind]) -> str:
    lines = [f"{'run':20} {'target':>17} {'done':>10} {'missing':>10}  runs (at earlier sources)"]
    for kind in kinds:
        total = ledger.total(kind)
        lines.append(
            f"{kind.name:20} {kind.target:>8} {kind.counts:8} {total.done:>10} "
            f"{total.missing() or '-':>10}  {total.runs} ({total.earlier})"
        )
        lines += [f"  FAILED {run.date} {run.commit}: {run.result}" for run in total.failures]
    if ledger.changes():
        lines.append("the tree has changes: this is about the sources as git has them staged")
    return "\n".join(lines)
