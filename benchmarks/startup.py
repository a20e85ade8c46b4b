"""How long `import convclinic` and `convclinic --help` take, interpreter start included."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time


def seconds(command: list[str], repeats: int = 15) -> list[float]:
    times = []
    for _ in range(repeats + 1):
        begin = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - begin)
    return sorted(times[1:])


def main() -> None:
    rows = {
        "python -c pass": ["-c", "pass"],
        "import convclinic": ["-c", "import convclinic"],
        "convclinic --help": ["-m", "convclinic", "--help"],
        "convclinic fit --help": ["-m", "convclinic", "fit", "--help"],
    }
    for name, arguments in rows.items():
        times = seconds([sys.executable, *arguments])
        print(
            f"{name:<24} median {statistics.median(times):.3f} s   min {times[0]:.3f}   max {times[-1]:.3f}"
        )


if __name__ == "__main__":
    main()
