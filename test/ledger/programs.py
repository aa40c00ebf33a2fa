"""Runs programs, several at once, each with its output in a file, and stops them when told to.

SIGINT and SIGTERM end what runs, by SIGINT first, so that a program can say how far it came; what has
not begun is left out. Unix only.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Iterator

POLL_SECONDS = 0.1
GRACE_SECONDS = 20  # from SIGINT to SIGKILL


@dataclass
class Program:
    name: str
    command: list[str]
    log: Path
    environment: dict[str, str] = field(default_factory=dict)


@dataclass
class Ended:
    program: Program
    status: int  # negative: the signal it died of
    seconds: float
    interrupted: bool

    def text(self) -> str:
        return self.program.log.read_text(encoding="utf-8", errors="replace")


class Running:
    """One program, with all it starts."""

    def __init__(self, program: Program):
        self.program = program
        program.log.parent.mkdir(parents=True, exist_ok=True)
        with program.log.open("wb") as log:
            self.process = subprocess.Popen(
                program.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **program.environment},
                start_new_session=True,  # signals reach it through us alone
            )
        self.began = time.monotonic()
        self.told = False  # to stop

    def kill(self, number: signal.Signals) -> None:
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            pass


class Runner:
    def __init__(self, at_once: int):
        self.at_once = at_once
        self.stopped_at: float | None = None
        self.running: list[Running] = []

    def run(self, programs: list[Program]) -> Iterator[Ended]:
        """Yields each as it ends."""
        handlers = {
            number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)
        }
        waiting = list(programs)
        try:
            while self.running or (waiting and self.stopped_at is None):
                while waiting and len(self.running) < self.at_once and self.stopped_at is None:
                    self.running.append(Running(waiting.pop(0)))
                for running in [one for one in self.running if one.process.poll() is not None]:
                    self.running.remove(running)
                    yield Ended(
                        running.program,
                        running.process.returncode,
                        time.monotonic() - running.began,
                        self.stopped_at is not None,
                    )
                self._tell()
                time.sleep(POLL_SECONDS)
        finally:
            for running in self.running:
                running.kill(signal.SIGKILL)
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def _stop(self, *_: object) -> None:
        self.stopped_at = self.stopped_at or time.monotonic()

    def _tell(self) -> None:
        if self.stopped_at is None:
            return
        late = time.monotonic() > self.stopped_at + GRACE_SECONDS
        for running in self.running:
            if late:
                running.kill(signal.SIGKILL)
            elif not running.told:
                running.told = True
                running.kill(signal.SIGINT)
