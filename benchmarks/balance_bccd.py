"""The policies for rare classes on blood cells (BCCD), crops of one photo kept in one part of the split.

    python benchmarks/balance_bccd.py bccd-crops.tar --budget 30m --seeds 5 --side 48 --out DIR

`convclinic study balance` with the images at a fixed side: one plan and equally many steps for every policy,
train and validation divided anew for every seed, the test part fixed. Prints the table and the verdict; DIR
keeps the outcomes, and the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from convclinic.job.studying import Request, study_balance
from convclinic.study.balance import summary, table, verdict


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--budget", default="30m")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--side", type=int, default=48, help="pixels")
    parser.add_argument("--only", nargs="+", default=[], help="policies beside none; all where none is given")
    parser.add_argument("--set", dest="settings", action="append", default=[], help="for every run")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    settings = (f"data.height={given.side}", f"data.width={given.side}", *given.settings)
    request = Request(
        given.data, seeds=given.seeds, budget=given.budget, only=given.only, out=given.out, settings=settings
    )
    studied = study_balance(request)
    rows = summary(studied.outcomes, list(studied.counts))
    print(table(rows, verdict(studied.outcomes, rows), studied.counts))
    print(f"\neach net: {studied.steps} steps, {studied.epochs:.1f} epochs at {given.side} px")


if __name__ == "__main__":
    main()
