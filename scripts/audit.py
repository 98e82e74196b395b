"""Which published scores are possible at all?

python scripts/audit.py                                the papers' numbers of this project
python scripts/audit.py TABLE.csv ... --out audit.md   any table with the columns paper, table, model, task, metric,
                                                       method, parameters, value, std, source (setting, kind optional)
python scripts/audit.py --runs runs benchmarks/results our own runs, of which every finding is a false alarm
python scripts/audit.py --rates 2000                   false alarms and power on drawn scores, by digits printed

Exit code: 0 if nothing is impossible or inconsistent (--runs: nothing found), 1 if something is, 2 for a wrong request.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from kasa_corda.errors import ConfigError, DataError, KasaCordaError


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", type=Path, metavar="CSV", help="published results (default: ours)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write the findings to FILE.md, .csv or .json")
    parser.add_argument("--sets", type=Path, metavar="CSV", help="further evaluation sets (columns as in ours)")
    parser.add_argument("--runs", nargs="+", type=Path, metavar="DIR", help="audit our own runs below these folders")
    parser.add_argument("--rates", type=int, metavar="TRIALS", help="measure false alarms and power on drawn scores")
    return parser.parse_args()


def main() -> int:
    chosen = arguments()
    try:
        if chosen.runs:
            return on_runs(chosen.runs)
        if chosen.rates is not None:
            return measured(chosen.rates)
        return on_tables(chosen.tables, chosen.sets, chosen.out)
    except KasaCordaError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


def on_tables(tables: list[Path], further: Path | None, out: Path | None) -> int:
    from kasa_corda.audit import audit, coverage, read_sets
    from kasa_corda.audit.writing import FORMATS, show, write
    from kasa_corda.paper.published import TABLE, read_published

    if out and out.suffix not in FORMATS:
        raise ConfigError(f"--out {out} must end in one of {', '.join(FORMATS)}")
    sets = read_sets() | (read_sets(further) if further else {})
    cells = []
    for path in tables or [TABLE]:
        try:
            cells += read_published(path)
        except (OSError, KeyError, ValueError, TypeError) as error:
            why = f"{type(error).__name__}: {error}"
            raise DataError(f"{path} can't be read as a table of published results ({why})") from None
    findings, covered = audit(cells, sets), coverage(cells, sets)
    show(findings, covered)
    if out:
        write(out, findings, covered)
        print(f"written: {out}")
    return int(any(finding.severity in ("impossible", "inconsistent") for finding in findings))


def on_runs(roots: list[Path]) -> int:
    from kasa_corda.audit import audit_runs

    found = audit_runs(roots)
    for finding in found.false_alarms:
        print(f"{finding.severity}: {finding.sentence}")
    print(
        f"{found.runs} finished runs and {found.settings} settings with several seeds, {found.numbers} printed "
        f"numbers: {len(found.false_alarms)} findings (rate {found.rate:.2g})"
    )
    return int(bool(found.false_alarms))


def measured(trials: int) -> int:
    from kasa_corda.audit.rates import DECIMALS, rates

    if trials < 1:
        raise ConfigError(f"--rates {trials} must be at least 1")
    rows = rates(trials)
    digits = [f"{decimals} decimal{'s' * (decimals > 1)}" if decimals < 16 else "all digits" for decimals in DECIMALS]
    print(f"| printed | set | n | true scores flagged | {' | '.join(digits)} |\n" + "|---" * (4 + len(digits)) + "|")
    for start in range(0, len(rows), len(DECIMALS)):
        same = rows[start : start + len(DECIMALS)]
        flagged = f"{sum(row.false_alarms for row in same)} of {sum(row.trials for row in same)}"
        caught = " | ".join(f"{row.power:.1%}" for row in same)
        print(f"| {same[0].check} | {same[0].task} | {same[0].size} | {flagged} | {caught} |")
    return int(any(row.false_alarms for row in rows))


if __name__ == "__main__":
    sys.exit(main())
