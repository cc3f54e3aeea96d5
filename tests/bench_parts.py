#!/usr/bin/env python3
"""What scripts/bench --compare says of two reports, and how it ends; how scripts/budget reads a flamegraph, and
scripts/pairs its pairs.

usage: python3 tests/bench_parts.py
"""
import importlib.machinery
import importlib.util
import json
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
sys.dont_write_bytecode = True
import facts  # noqa: E402  (no bytecode beside it)
import bench_compare  # noqa: E402  (found by the path above)

RATE, CPU = "ops_per_second", "server_cpu_ns_per_op"


def report(figures, **facts):
    """A report with a row for each figure; `others` says beside whom a contender's rows stand."""
    others = facts.pop("others", {})
    rows = [{"what": f"row of {contender}", "contender": contender, "figure": figure,
             "other_contender": others.get(contender)}
            for contender, by_name in figures.items() for figure in by_name]
    return {"date": "2026-01-02", "commit": "0123456789ab", "seed": 1, "rounds": 5, "seconds_a_run": 5, "quick": False,
            "machine": "two cores", "idle": True, "rows": rows, "figures": figures} | facts


def only(comparisons):
    assert len(comparisons) == 1, comparisons
    return comparisons[0]


def change_of(figure, old, new):
    found = only(bench_compare.compare(report({"a": {figure: old}}), report({"a": {figure: new}})))
    change, beyond = (found[name] and round(found[name], 6) for name in ("change", "beyond"))
    return found["verdict"], change, beyond


def ranges_that_touch_are_noise():
    assert change_of(RATE, [90.0, 100.0, 110.0], [110.0, 120.0, 130.0]) == ("noise", 0.2, None)
    assert change_of(RATE, [90.0, 100.0, 110.0], [95.0, 100.0, 105.0]) == ("noise", 0.0, None)


def what_lies_between_ranges_is_beyond_the_noise():
    assert change_of(RATE, [90.0, 110.0, 100.0], [140.0, 121.0, 130.0]) == ("better", 0.3, 0.1)
    assert change_of(RATE, [121.0, 130.0, 140.0], [100.0, 90.0, 60.5]) == ("worse", round(90 / 130 - 1, 6),
                                                                           round(100 / 121 - 1, 6))


def of_time_less_is_better():
    assert change_of(CPU, [100.0, 101.0], [50.0, 80.0])[0] == "better"
    assert change_of("batch_us_p99", [100.0, 101.0], [150.0, 180.0])[0] == "worse"
    assert change_of("bytes_per_record", [100.0, 101.0], [150.0, 180.0])[0] == "worse"
    assert change_of("wire_limit_share", [0.3, 0.31], [0.4, 0.41])[0] == "better"


def one_round_has_no_range():
    assert change_of(RATE, [100.0], [200.0, 210.0]) == ("unknown", 1.05, None)


def a_row_of_one_report_alone_is_named_and_is_no_offence():
    old, new = report({"a": {RATE: [1.0, 2.0]}}), report({"b": {RATE: [1.0, 2.0]}})
    found = bench_compare.compare(old, new)
    assert [(row["contender"], row["verdict"]) for row in found] == [("b", "only new"), ("a", "only old")]
    assert bench_compare.exit_code(found) == 0


def ratios_are_taken_round_by_round():
    # The machine had a slow day in the new one: both are slower, and the ratio says that nothing changed.
    def of(scale):
        return report({"ours": {RATE: [100.0 * scale, 110.0 * scale]}, "theirs": {RATE: [50.0 * scale, 55.0 * scale]}},
                      others={"ours": "theirs"})
    found = {(row["contender"], row["beside"]): row for row in bench_compare.compare(of(1.0), of(0.5))}
    assert found["ours", None]["verdict"] == found["theirs", None]["verdict"] == "worse"
    assert (found["ours", "theirs"]["verdict"], found["ours", "theirs"]["old"]) == ("noise", [2.0, 2.0])


def a_figure_of_several_rows_comes_once():
    both = report({"a": {RATE: [1.0, 2.0]}})
    both["rows"] *= 2
    only(bench_compare.compare(both, both))


def what_makes_reports_unlike_is_said():
    old = report({}, machine="four cores", idle=False, rounds=3)
    words = "\n".join(bench_compare.caveats(old, report({}, quick=True, profile_guided=True)))
    for part in ("by scripts/pgo", "machines differ: four cores and two cores", "not idle during the old", "one is quick",
                 "3 rounds"):
        assert part in words, (part, words)
    assert bench_compare.caveats(report({}), report({})) == []


def the_command_compares_finished_reports_and_its_exit_code_says_whether_any_is_worse():
    with tempfile.TemporaryDirectory() as folder:
        old, new = pathlib.Path(folder, "old.json"), pathlib.Path(folder, "new.json")
        old.write_text(json.dumps(report({"a": {RATE: [1e6, 1.1e6, 1.2e6]}})))
        new.write_text(json.dumps(report({"a": {RATE: [2e6, 2.2e6, 2.4e6]}}, commit="ba9876543210")))
        for pair, code, words in [((old, new), 0, "| +100.0% | +66.7% | **better** |"),
                                  ((new, old), 1, "| -50.0% | -40.0% | **worse** |"), ((old, old), 0, "1 noise")]:
            done = bench("--compare", pair[0], "--new", pair[1])
            assert (done.returncode, words in done.stdout) == (code, True), (done.stdout, done.stderr)
        assert "# ba9876543210 of 2026-01-02 against 0123456789ab of 2026-01-02" in bench("--compare", old, "--new",
                                                                                          new).stdout


def what_is_no_report_is_refused_in_a_line_before_anything_runs():
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "report.json")
        for text, words in [("{}", "no report"), ("[]", "no report"), ("x", "no report"), (None, "No such file"),
                            ('{"rows": [{"contender": "a", "figure": "b"}], "figures": {}}', "no report")]:
            path.unlink(missing_ok=True)
            if text is not None:
                path.write_text(text)
            done = bench("--compare", path)
            assert (done.returncode, done.stdout) == (2, ""), done
            assert words in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
    assert bench("--new", path).returncode == 2
    assert bench("--compare", path, "--new", path, "redis").returncode == 2


def a_sample_counts_to_the_stage_of_its_leaf_on_its_side():
    found = script("budget").stages(flamegraph(
        (0, 0, 10, "all"), (1, 0, 4, "client-0"), (1, 4, 6, "freight-0"),
        (2, 0, 3, "freight::bench::lane::build&lt;T&gt;"), (2, 4, 5, "execute_bin&lt;A, B&lt;C&gt;&gt;"),
        (2, 9, 1, "__libc_recv"),
        (3, 4, 3, "prefetch_record"), (3, 7, 1, "write_plain_value"), (4, 4, 2, "_mm_prefetch&lt;3&gt;")))
    assert dict(found["client"]) == {"build": 3, "runtime, transport and the rest": 1}, found
    assert dict(found["node"]) == {
        "find: index and records, waiting for memory": 3, "reply: descriptors": 1,
        "execute: the rest": 1, "transport: system calls": 1}, found


def flamegraph(*frames):
    """As pprof's renderer writes it: the root lowest, each frame 16 higher than its caller."""
    drawn = (f'<g><title>{name} ({width} samples, 1.00%)</title><rect x="0%" y="{500 - 16 * depth}" width="1%" '
             f'height="15" fill="rgb(1,2,3)" fg:x="{x}" fg:w="{width}"/></g>' for depth, x, width, name in frames)
    return "<svg>" + "".join(drawn) + "</svg>"


def only_an_interval_without_one_shows_a_difference():
    told = script("pairs").told
    assert "no difference" in told([0.1, -0.1] * 12)
    assert "no difference" not in told([0.1, 0.12] * 12)


def script(name):
    loader = importlib.machinery.SourceFileLoader(name, str(ROOT / "scripts" / name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    loader.exec_module(module)
    return module


def bench(*arguments):
    return subprocess.run([ROOT / "scripts" / "bench", *arguments], capture_output=True, text=True)


def main():
    helpers = (report, only, change_of, flamegraph, script, bench, main)
    tests = [value for name, value in globals().items() if callable(value) and value not in helpers]
    return facts.run(tests)


if __name__ == "__main__":
    sys.exit(main())
