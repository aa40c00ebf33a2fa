"""The ledger: what counts, what restarts a count, what is read from the programs' output.

Method: a git tree made for the test; the programs' own lines; one program that asks to be stopped. The
kinds are compared with this tree where git knows it.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import counts
from kinds import KINDS, Kind
from ledger import COMPLETE, INTERRUPTED, Ledger, Refusal, report
from programs import Program, Runner

ROOT = Path(__file__).resolve().parents[2]
KIND = Kind("thing", "seconds", 100, ("src/a*", "test/thing.cc"))
STATES = Kind("states", "distinct", 1000, ("src",))


def git(root: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=test", "-c", "user.email=test@localhost")
    return subprocess.run(
        ["git", *identity, *arguments], cwd=root, check=True, capture_output=True, text=True
    ).stdout


class LedgerTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        git(self.root, "init", "-q")
        for name in ("src/a.cc", "src/b.cc", "test/thing.cc"):
            self.write(name, "first")
        self.commit()
        self.ledger = Ledger(self.root, "runs.tsv")

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def commit(self) -> None:
        git(self.root, "add", "-A")
        git(self.root, "commit", "-q", "-m", "a change")

    def record(self, kind: Kind = KIND, seconds: float = 30.9, **more: object) -> None:
        fields = {"seeds": "7", "counts": {"distinct": 400}, "result": COMPLETE, **more}
        self.ledger.add(self.ledger.start([kind]), kind, seconds=seconds, **fields)

    def test_runs_add_up(self) -> None:
        self.record()
        self.record(seconds=12)
        self.record(kind=STATES)
        total = self.ledger.total(KIND)
        self.assertEqual((total.done, total.runs, total.missing()), (42, 2, 58))
        self.assertEqual(self.ledger.total(STATES).done, 400)

    def test_a_line_says_what_was_run_and_on_what(self) -> None:
        self.record(result="a finding\nof two lines")
        [run] = self.ledger.runs()
        self.assertEqual(run.commit, git(self.root, "rev-parse", "HEAD")[:12])
        self.assertEqual(run.sources, self.ledger.digest(KIND))
        self.assertEqual((run.kind, run.seeds, run.seconds), ("thing", "7", 30))
        self.assertEqual(run.result, "a finding of two lines")

    def test_a_change_of_a_covered_source_restarts_the_count(self) -> None:
        for change, counts_on in (("src/b.cc", True), ("docs.md", True), ("src/a.cc", False),
                                  ("src/another.cc", False), ("test/thing.cc", False)):
            self.record()
            before = self.ledger.total(KIND).done
            self.assertGreaterEqual(before, 30)
            self.write(change, f"changed, {change}")
            self.commit()
            total = self.ledger.total(KIND)
            self.assertEqual(total.done, before if counts_on else 0, change)
            self.assertEqual(total.runs + total.earlier, len(self.ledger.runs()))

    def test_a_change_taken_back_counts_again(self) -> None:
        self.record()
        self.write("src/a.cc", "second")
        self.commit()
        self.assertEqual(self.ledger.total(KIND).done, 0)
        self.write("src/a.cc", "first")
        self.commit()
        self.assertEqual(self.ledger.total(KIND).done, 30)

    def test_what_was_done_before_an_interruption_counts(self) -> None:
        self.record(result=INTERRUPTED)
        self.assertEqual(self.ledger.total(KIND).done, 30)

    def test_a_failure_stands_until_the_sources_change(self) -> None:
        self.record(seconds=200)
        self.record(seconds=500, result="heap-buffer-overflow")
        total = self.ledger.total(KIND)
        self.assertEqual(total.done, 200)
        self.assertEqual(len(total.failures), 1)
        self.assertIn("heap-buffer-overflow", report(self.ledger, [KIND]))
        self.write("src/a.cc", "fixed")
        self.commit()
        self.assertEqual(self.ledger.total(KIND).failures, [])
        self.assertNotIn("heap-buffer-overflow", report(self.ledger, [KIND]))

    def test_only_a_commit_is_recorded(self) -> None:
        self.record()
        self.record()  # the ledger itself may differ
        self.write("src/b.cc", "not committed")
        with self.assertRaises(Refusal):
            self.record()
        git(self.root, "checkout", "src/b.cc")
        self.write("src/new.cc", "not added")
        with self.assertRaises(Refusal):
            self.record()
        self.assertEqual(len(self.ledger.runs()), 2)

    def test_the_digest_is_that_of_the_start(self) -> None:
        start = self.ledger.start([KIND])
        self.write("src/a.cc", "changed while it ran")
        self.commit()
        self.ledger.add(start, KIND, seeds="1", seconds=50, counts={}, result=COMPLETE)
        self.assertEqual(self.ledger.total(KIND).done, 0)

    def test_a_broken_line_is_named(self) -> None:
        self.record()
        with (self.root / "runs.tsv").open("a", encoding="utf-8") as file:
            file.write("<<<<<<< a conflict\n")
        with self.assertRaisesRegex(Refusal, "runs.tsv:3"):
            self.ledger.total(KIND)


FUZZ = """\
INFO: Running with entropic power schedule (0xFF, 100).
INFO: Seed: 1790000000
#16\tINITED cov: 150 ft: 300 corp: 12/900b exec/s: 0 rss: 60Mb
#4096\tpulse  cov: 210 ft: 500 corp: 40/3Kb lim: 43 exec/s: 2048 rss: 70Mb
"""
FUZZ_DONE = """\
#70000\tDONE   cov: 211 ft: 505 corp: 41/3Kb lim: 200 exec/s: 7000 rss: 80Mb
Done 70000 runs in 10 second(s)
stat::number_of_executed_units: 70000
stat::average_exec_per_sec:     7000
stat::new_units_added:          29
"""
FUZZ_FOUND = """\
==12==ERROR: AddressSanitizer: heap-buffer-overflow on address 0x602000000131
SUMMARY: AddressSanitizer: heap-buffer-overflow src/bdev/uri.cc:31:7 in parse
artifact_prefix='build/fuzz/uri_fuzz-'; Test unit written to build/fuzz/uri_fuzz-crash-0a1b
stat::number_of_executed_units: 4321
"""
CRASH = """\
[ RUN      ] Scenarios/EveryState.IsLegal/synced_log_512
crash states: 6012 distinct, 7123 looked at (900 in recovery, 440 emptied, 300 without the newer \
superblock), 118 moments, seeds 5 to 9
[       OK ] Scenarios/EveryState.IsLegal/synced_log_512 (9000 ms)
crash states: 100 distinct, 200 looked at (30 in recovery, 4 emptied, 3 without the newer \
superblock), 20 moments, seeds 5 to 5
"""
CRASH_FAILED = """\
test/crash/every_state_test.cc:90: Failure
mount: corruption
replay: BASALT_CRASH_COMMAND=31 seed 5; replay: BASALT_CRASH_ROUNDS=1 BASALT_CRASH_SEED=5
[  FAILED  ] Scenarios/EveryState.IsLegal/full_512, where GetParam() = (12, 0) (100 ms)
[  FAILED  ] 1 test, listed below:
[  FAILED  ] Scenarios/EveryState.IsLegal/full_512, where GetParam() = (12, 0)
"""
STRESS = """\
child 1 (seed 77): killed after 2034 ms, 4567 writes of keys
child 2 (seed 78): killed after 12 ms, 0 writes of keys
"""
STRESS_DONE = """\
rocksdb_stress: 2 children, 2 kills, 9 openings, 3 mounts; operations: put 900 get 700; 4600 \
acknowledged writes of keys, 24000 keys verified, 5 changes landed unacknowledged; 0 tails left in \
shared memory; 0 lost
"""
POWER = """\
rocksdb_stress --power: 1 machines, 4 power cuts and 2 in recovery, 900 changes, of the unsynced 20 \
landed and 30 vanished from the end, 1500 keys verified, 3 checkpoints, 2 ingests, 1 reopenings; 0 lost
rocksdb_stress --power: 2 machines, 8 power cuts and 5 in recovery, 1900 changes, of the unsynced 41 \
landed and 60 vanished from the end, 3000 keys verified, 5 checkpoints, 4 ingests, 2 reopenings; 0 lost
"""


class CountsTest(unittest.TestCase):
    def test_fuzz(self) -> None:
        done = counts.fuzz(FUZZ + FUZZ_DONE)
        self.assertEqual(done.counts, {"inputs": 70000, "edges": 211, "corpus": 41})
        self.assertEqual(done.problem, "")
        self.assertEqual(counts.fuzz(FUZZ).counts["inputs"], 4096, "killed without a last word")

    def test_a_finding_of_fuzz(self) -> None:
        found = counts.fuzz(FUZZ + FUZZ_FOUND)
        self.assertEqual(found.counts["inputs"], 4321)
        self.assertIn("heap-buffer-overflow", found.problem)
        self.assertIn("uri_fuzz-crash-0a1b", found.problem)

    def test_crash(self) -> None:
        found = counts.crash(CRASH)
        self.assertEqual(
            found.counts,
            {"distinct": 6112, "looked_at": 7323, "in_recovery": 930, "scenarios": 2},
        )
        self.assertEqual(found.problem, "")
        failed = counts.crash(CRASH + CRASH_FAILED)
        self.assertEqual(
            failed.problem,
            "Scenarios/EveryState.IsLegal/full_512, BASALT_CRASH_COMMAND=31 seed 5",
        )

    def test_stress(self) -> None:
        done = counts.stress(STRESS + STRESS_DONE)
        self.assertEqual(done.counts["kills"], 2)
        self.assertEqual(done.counts["acknowledged"], 4600)
        self.assertEqual(done.counts["verified"], 24000)
        stopped = counts.stress(STRESS)
        self.assertEqual((stopped.counts["kills"], stopped.counts["acknowledged"]), (2, 4567))
        failed = counts.stress(STRESS + "rocksdb_stress: FAILED: Get: Corruption\n  child 3\n")
        self.assertEqual(failed.problem, "Get: Corruption")

    def test_stress_power(self) -> None:
        found = counts.stress_power(POWER)
        self.assertEqual(
            found.counts,
            {
                "machines": 2,
                "cuts": 8,
                "cuts_in_recovery": 5,
                "changes": 1900,
                "verified": 3000,
            },
        )


class ProgramsTest(unittest.TestCase):
    def run_all(self, scripts: list[str], at_once: int = 2) -> list:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        programs = [
            Program(str(i), [sys.executable, "-c", script], Path(folder.name) / f"{i}.log")
            for i, script in enumerate(scripts)
        ]
        return list(Runner(at_once).run(programs))

    def test_each_ends_with_its_status_and_output(self) -> None:
        ended = self.run_all(["print('one')", "print('two'); raise SystemExit(3)", "pass"], 1)
        self.assertEqual([one.status for one in ended], [0, 3, 0])
        self.assertEqual([one.text() for one in ended], ["one\n", "two\n", ""])
        self.assertFalse(any(one.interrupted for one in ended))

    def test_told_to_stop_they_are_told_too(self) -> None:
        ask = "import os, signal, time; os.kill(os.getppid(), signal.SIGTERM); time.sleep(1000)"
        ended = self.run_all([f"try:\n  {ask}\nexcept KeyboardInterrupt: print('so far')", "pass"], 1)
        self.assertEqual(len(ended), 1, "what has not begun is left out")
        self.assertTrue(ended[0].interrupted)
        self.assertEqual((ended[0].status, ended[0].text()), (0, "so far\n"))


class KindsTest(unittest.TestCase):
    """Against this tree."""

    def files(self, kind: Kind) -> set[str]:
        return set(git(ROOT, "ls-files", "--", *kind.sources).splitlines())

    def setUp(self) -> None:
        if subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True).returncode != 0:
            self.skipTest("not a git tree")

    def test_every_entry_has_a_kind(self) -> None:
        there = {path.name.removesuffix("_fuzz.cc") for path in ROOT.glob("test/fuzz/*_fuzz.cc")}
        known = {name.removeprefix("fuzz/") for name in KINDS if name.startswith("fuzz/")}
        self.assertEqual(known, there)

    def test_every_pathspec_names_something(self) -> None:
        for kind in KINDS.values():
            for pathspec in kind.sources:
                self.assertTrue(git(ROOT, "ls-files", "--", pathspec), f"{kind.name}: {pathspec}")

    def test_what_an_entry_includes_is_covered(self) -> None:
        for name, kind in KINDS.items():
            if not name.startswith("fuzz/"):
                continue
            covered = self.files(kind)
            entry = ROOT / f"test/{name}_fuzz.cc"
            for header in re.findall(r'^#include "(.*)"', entry.read_text("utf-8"), re.MULTILINE):
                places = {f"{folder}{header}" for folder in ("src/", "", "test/")}
                self.assertTrue(places & covered, f"{name} does not cover {header}")


if __name__ == "__main__":
    unittest.main()
