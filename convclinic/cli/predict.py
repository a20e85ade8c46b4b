"""convclinic predict: class, probability, and "not sure" below the reject threshold."""

from __future__ import annotations

import csv
import dataclasses
import io
from pathlib import Path
from typing import Annotated

import typer

from convclinic.cli.options import Device, Json, Out, Quiet, RunFolder, print_json


def run(
    folder: RunFolder,
    images: Annotated[list[Path], typer.Argument(help="Images, folders or archives.")],
    out: Out = None,
    device: Device = None,
    quiet: Quiet = False,
    as_json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print as CSV.")] = False,
) -> None:
    """Name the class of each image with its probability, or "not sure" where the model had better not."""
    from convclinic.ground.files import write_bytes
    from convclinic.model_file import load
    from convclinic.planning.hardware import choose_device
    from convclinic.predict import predict

    answers = predict(load(folder, choose_device(device)), images)
    if as_json:
        rows = [dataclasses.asdict(answer) for answer in answers]
        if out is None:
            print_json(rows)
            return
        import json

        text = json.dumps(rows, indent=2, ensure_ascii=False) + "\n"
    elif as_csv or (out is not None and out.suffix == ".csv"):
        buffer = io.StringIO()
        writer = csv.writer(buffer)
        writer.writerow(["path", "answer", "best", "probability", "error"])
        for answer in answers:
            writer.writerow([answer.path, answer.answer, answer.best, answer.probability, answer.error])
        text = buffer.getvalue()
    else:
        lines: list[str] = []
        for answer in answers:
            if answer.error is not None:
                lines.append(f"{answer.path}: not read: {answer.error}")
                continue
            unsure = f" (perhaps {answer.best})" if answer.answer != answer.best else ""
            lines.append(f"{answer.path}: {answer.answer}{unsure} {answer.probability:.1%}")
        text = "\n".join(lines) + "\n"
    if out is not None:
        write_bytes(out, text.encode("utf-8", "backslashreplace"))
        if not quiet:
            typer.echo(f"written to {out}", err=True)
    else:
        typer.echo(text, nl=False)
