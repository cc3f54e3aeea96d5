"""What changed between two reports of scripts/bench, and by how much beyond the noise.

The noise of a figure is the range of its rounds. A change is told where the ranges of both reports lie apart, and what
lies between them is what is beyond the noise:

    old      |----+-----|  most             least  |---+----|     new
                            <-- beyond the noise -->
"""
import json
import statistics

# Figures of which more is better; of all others less is.
MORE_IS_BETTER = ("ops_per_second", "bytes_per_second", "share")

# With fewer rounds there is no range to speak of.
ROUNDS_MIN = 2


class ReportError(Exception):
    """A file that is no report of scripts/bench."""


def read(path):
    try:
        report = json.loads(path.read_text())
        rows, figures = report["rows"], report["figures"]
        if all(figures[row["contender"]][row["figure"]] for row in rows):
            return report
        raise ReportError(f"{path}: a figure without a round")
    except OSError as error:
        raise ReportError(f"{path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ReportError(f"{path} is no report of scripts/bench: {error!r}") from error


def compare(old, new):
    """A comparison for each row of either report, in the order of the new one; a figure of several rows comes once.

    A row that stands beside another contender is compared as the ratio of both too, round by round: the two took turns,
    so that a slower day of the machine is in both.
    """
    compared = {}
    for row in new["rows"] + old["rows"]:
        key = (row["contender"], row["figure"])
        if key not in compared:
            compared[key] = one(row["what"], *key, None, *(rounds(report, *key) for report in (old, new)))
        other = row.get("other_contender")
        if other and (*key, other) not in compared:
            found = [ratios(rounds(report, *key), rounds(report, other, row["figure"])) for report in (old, new)]
            compared[*key, other] = one(row["what"], *key, other, *found)
    return list(compared.values())


def rounds(report, contender, figure):
    return report["figures"].get(contender, {}).get(figure, [])


def ratios(values, others):
    return [value / other for value, other in zip(values, others) if other]


def one(what, contender, figure, beside, old, new):
    """`verdict` is better, worse, noise, unknown (too few rounds), only old or only new.

    `change` is of the medians, `beyond` of the ranges' near ends, both as shares of the old value; None is not known.
    """
    result = {"what": what, "contender": contender, "figure": figure, "beside": beside, "old": old, "new": new,
              "change": None, "beyond": None}
    if not old or not new:
        return result | {"verdict": "only old" if old else "only new"}
    was, now = statistics.median(old), statistics.median(new)
    result["change"] = now / was - 1 if was else None
    if min(len(old), len(new)) < ROUNDS_MIN:
        return result | {"verdict": "unknown"}
    if min(new) > max(old):
        near, far = max(old), min(new)
    elif max(new) < min(old):
        near, far = min(old), max(new)
    else:
        return result | {"verdict": "noise"}
    result["beyond"] = far / near - 1 if near else None
    return result | {"verdict": "better" if (far > near) == figure.endswith(MORE_IS_BETTER) else "worse"}


def caveats(old, new):
    """Why the two should not be compared, if there is a reason."""
    found = []
    for name, words in [("machine", "machines"), ("seconds_a_run", "lengths of a run"), ("seed", "seeds")]:
        if old.get(name) != new.get(name):
            found.append(f"the {words} differ: {old.get(name)} and {new.get(name)}")
    if bool(old.get("profile_guided")) != bool(new.get("profile_guided")):
        found.append("only one of them was built by scripts/pgo")
    for report, which in [(old, "old"), (new, "new")]:
        if not report.get("idle", True):
            found.append(f"the machine was not idle during the {which} one")
        if report.get("quick"):
            found.append(f"the {which} one is quick: its figures are worth nothing")
        few = report.get("rounds", 0)
        if few < 5:
            found.append(f"the {which} one has {few} rounds: few to tell a range from")
    return found


def told(comparisons, caveats, names, shown):
    """The comparison as Markdown; `shown` writes a value as people read it, `names` are those of the two reports."""
    lines = [f"# {names[1]} against {names[0]}", ""]
    lines += [f"Beware: {caveat}." for caveat in caveats] + ([""] if caveats else [])
    lines += ["Medians with the least and the most of the rounds. A change counts where these ranges lie apart; what",
              "lies between them is beyond the noise.", "",
              "| row | contender | old | new | change | beyond the noise | verdict |", "|---|---|---|---|---|---|---|"]
    for row in comparisons:
        old, new = (ranged(row[which], shown_of(row, shown)) for which in ("old", "new"))
        name = f"{row['what']} ({row['figure']})" if row["beside"] is None else f"ratio to {row['beside']}"
        verdict = f"**{row['verdict']}**" if row["verdict"] in ("better", "worse") else row["verdict"]
        cells = [name, row["contender"], old, new, percent(row["change"]), percent(row["beyond"]), verdict]
        lines.append(f"| {' | '.join(cells)} |")
    counts = {verdict: sum(row["verdict"] == verdict for row in comparisons)
              for verdict in ("better", "worse", "noise", "unknown", "only old", "only new")}
    lines += ["", ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count) or "no rows"]
    return "\n".join(lines) + "\n"


def shown_of(row, shown):
    return (lambda value: f"{value:.2f}") if row["beside"] else (lambda value: shown(value, row["figure"]))


def ranged(values, shown):
    if not values:
        return "-"
    median, least, most = (shown(of(values)) for of in (statistics.median, min, max))
    return median if len(values) == 1 else f"{median} ({least} - {most})"


def percent(share):
    return "" if share is None else f"{share:+.1%}"


def exit_code(comparisons):
    """1 where a row got worse beyond the noise."""
    return int(any(row["verdict"] == "worse" for row in comparisons))
