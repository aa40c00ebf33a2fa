"""Long runs, and the ledger of them: what `./dev fuzz`, `crash`, `stress` and `ledger` do after a build.

With --record a run is entered in the ledger (README.md), however it ends. Everything starts in the
root of the tree.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import counts
from kinds import KINDS, Kind
from ledger import COMPLETE, INTERRUPTED, Ledger, Refusal, report
from programs import Ended, Program, Runner

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path("build")
CORPUS = Path("test/fuzz/corpus")
STATES, LONG_STATES = 5_000, 50_000  # of each scenario on each disk
INTERRUPTED_EXIT = 130


def say(text: str) -> None:
    print(text, flush=True)


def new_seed() -> int:
    """Another one each second, so that runs add up to something."""
    return int(time.time())


@dataclass
class Outcome:
    result: str  # as in the ledger
    counts: dict[str, int]


def outcome(ended: list[Ended], count: Callable[[str], counts.Found]) -> Outcome:
    """Of programs that together are one run."""
    found = count("\n".join(one.text() for one in ended))
    bad = [one for one in ended if one.status != 0 and not one.interrupted]
    if found.problem or bad:
        unexplained = ", ".join(f"{one.program.name}: exit status {one.status}" for one in bad)
        return Outcome(found.problem or unexplained, found.counts)
    interrupted = any(one.interrupted for one in ended)
    return Outcome(INTERRUPTED if interrupted else COMPLETE, found.counts)


class Recorder:
    """Enters runs in the ledger, if that was asked for."""

    def __init__(self, record: bool, kinds: list[Kind]):
        self.ledger = Ledger(ROOT)
        self.start = self.ledger.start(kinds) if record else None

    def add(self, kind: Kind, seeds: str, seconds: float, what: Outcome) -> None:
        if self.start is not None:
            self.ledger.add(
                self.start,
                kind,
                seeds=seeds,
                seconds=seconds,
                counts=what.counts,
                result=what.result.replace(f"{ROOT}/", ""),
            )


def exit_status(outcomes: list[Outcome]) -> int:
    results = {one.result for one in outcomes}
    if results - {COMPLETE, INTERRUPTED}:
        return 1
    return INTERRUPTED_EXIT if INTERRUPTED in results else 0


# ---- ./dev fuzz


def entries(pattern: str) -> list[str]:
    names = sorted(kind.removeprefix("fuzz/") for kind in KINDS if kind.startswith("fuzz/"))
    chosen = [name for name in names if pattern in f"{name}_fuzz"]
    if not chosen:
        raise Refusal(f'no fuzz entry has "{pattern}" in its name; there are {", ".join(names)}')
    return chosen


def fuzz_program(entry: str, seconds: int, seed: int) -> Program:
    name = f"{entry}_fuzz"
    found = BUILD / "fuzz/corpus" / name
    found.mkdir(parents=True, exist_ok=True)
    command = [
        str(BUILD / "fuzz/fuzz" / name),
        f"-seed={seed}",
        f"-max_total_time={seconds}",
        "-rss_limit_mb=2048",
        "-print_final_stats=1",
        f"-artifact_prefix={BUILD}/fuzz/{name}-",
        str(found),
        str(CORPUS / name),
    ]
    return Program(entry, command, BUILD / "fuzz" / f"{name}.log")


def merge_program(entry: str) -> Program:
    name = f"{entry}_fuzz"
    found = BUILD / "fuzz/corpus" / name
    found.mkdir(parents=True, exist_ok=True)
    command = [str(BUILD / "fuzz/fuzz" / name), "-merge=1", str(CORPUS / name), str(found)]
    return Program(entry, command, BUILD / "fuzz" / f"{name}.merge.log")


def fuzz(options: argparse.Namespace) -> int:
    chosen = entries(options.name)
    recorder = Recorder(options.record, [KINDS[f"fuzz/{entry}"] for entry in chosen])
    seed = options.seed or new_seed()
    say(f"== {', '.join(chosen)}: {options.time} s each, seed {seed}")
    outcomes = []
    for ended in Runner(options.jobs).run(
        [fuzz_program(entry, options.time, seed) for entry in chosen]
    ):
        entry = ended.program.name
        what = outcome([ended], counts.fuzz)
        recorder.add(KINDS[f"fuzz/{entry}"], str(seed), ended.seconds, what)
        outcomes.append(what)
        inputs = what.counts["inputs"]
        if what.result in (COMPLETE, INTERRUPTED):
            say(f"   {entry}: no failure in {inputs} inputs")
        else:
            say("\n".join(ended.text().splitlines()[-40:]))
            say(f"   {entry}: FAILED after {inputs} inputs: {what.result}; log {ended.program.log}")
    if options.merge and exit_status(outcomes) == 0:
        for ended in Runner(options.jobs).run([merge_program(entry) for entry in chosen]):
            outcomes.append(outcome([ended], lambda _: counts.Found()))
            say(f"   {ended.program.name}: merged into {CORPUS}: {outcomes[-1].result}")
    return exit_status(outcomes)


# ---- ./dev crash


def crash(options: argparse.Namespace) -> int:
    if options.record and options.further:
        raise Refusal("--record takes all scenarios: no further options")
    kind = KINDS["crash"]
    recorder = Recorder(options.record, [kind])
    seed = options.seed or (new_seed() if options.record else 1)
    programs = [
        Program(
            f"shard {shard}",
            [str(BUILD / "release/tests/crash_every_state_test"), *options.further],
            BUILD / f"crash/{shard}.log",
            {
                "BASALT_CRASH_STATES": str(LONG_STATES if options.long else STATES),
                "BASALT_CRASH_SEED": str(seed),
                "GTEST_TOTAL_SHARDS": str(options.jobs),
                "GTEST_SHARD_INDEX": str(shard),
            },
        )
        for shard in range(options.jobs)
    ]
    began = time.monotonic()
    ended = list(Runner(options.jobs).run(programs))
    what = outcome(ended, counts.crash)
    recorder.add(kind, f"{seed}+", time.monotonic() - began, what)
    for one in ended:
        for line in one.text().splitlines():
            if line.startswith(("crash states:", "flushes left out:", "[  FAILED")):
                say(line)
    say(f"{what.counts['distinct']} distinct crash states, {what.counts['looked_at']} looked at")
    if what.result not in (COMPLETE, INTERRUPTED):
        say("a state was not legal; the logs are build/crash/*.log")
    return exit_status([what])


# ---- ./dev stress

NOT_RECORDED = ("--sabotage", "--plain", "--verify", "--child", "--seed")


def stress(options: argparse.Namespace) -> int:
    further = options.further
    if options.record and (refused := [name for name in NOT_RECORDED if name in further]):
        raise Refusal(f"with --record there is no {', '.join(refused)}")
    power = any(pair == ("--power", "1") for pair in zip(further, further[1:]))
    kind = KINDS["stress_power" if power else "stress"]
    recorder = Recorder(options.record, [kind])
    seed = new_seed()
    command = [str(BUILD / "release/test/system/stress/rocksdb_stress"), *further]
    command += [] if "--verbose" in further else ["--verbose", "1"]
    command += [] if "--seed" in further else ["--seed", str(seed)]
    say(f"== {' '.join(command)}")
    [ended] = Runner(1).run([Program("rocksdb_stress", command, BUILD / f"stress/{kind.name}.log")])
    what = outcome([ended], counts.stress_power if power else counts.stress)
    recorder.add(kind, str(seed), ended.seconds, what)
    text = ended.text().splitlines()
    say("\n".join(text[-1:] if what.result == COMPLETE else text[-20:]))
    if what.result != COMPLETE:
        say(f"{what.result}; log {ended.program.log}")
    return exit_status([what])


def show_ledger(_: argparse.Namespace) -> int:
    say(report(Ledger(ROOT), list(KINDS.values())))
    return 0


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./dev", allow_abbrev=False)
    commands = parser.add_subparsers(required=True)

    def command(name: str, run: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        added = commands.add_parser(name, allow_abbrev=False)
        added.set_defaults(run=run)
        added.add_argument("--jobs", type=int, default=1, help=argparse.SUPPRESS)
        if name != "ledger":
            added.add_argument("--record", action="store_true", help="enter it in the ledger")
        return added

    fuzzing = command("fuzz", fuzz)
    fuzzing.add_argument("--time", type=int, default=60, help="seconds for each entry")
    fuzzing.add_argument("--seed", type=int, help="instead of a new one")
    fuzzing.add_argument(
        "--merge", action="store_true", help=f"then add inputs that reach more to {CORPUS}"
    )
    fuzzing.add_argument("name", nargs="?", default="", help="a part of the entries' names")
    crashing = command("crash", crash)  # further options are GoogleTest's
    crashing.add_argument("--long", action="store_true", help="ten times as many states")
    crashing.add_argument("--seed", type=int, help="of the first run of each scenario")
    command("stress", stress)  # further options are rocksdb_stress's
    command("ledger", show_ledger)
    options, options.further = parser.parse_known_args(arguments)
    if options.further and options.run not in (crash, stress):
        parser.error(f"what is {options.further[0]}?")
    return options


if __name__ == "__main__":
    try:
        options = parse(sys.argv[1:])
        sys.exit(options.run(options))
    except Refusal as refusal:
        sys.exit(f"dev: {refusal}")
