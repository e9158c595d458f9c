"""Print every recorded result: ``python -m benchmarks``."""

import json

from rich.console import Console
from rich.table import Table

from benchmarks.record import FOLDER

HIDDEN = {"command", "machine", "runs", "curves"}


def show(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main() -> None:
    console = Console()
    # What lies deeper was recorded with the runs of an experiment.
    for path in sorted([*FOLDER.glob("*.json"), *FOLDER.glob("*/*.json")]):
        content = json.loads(path.read_text())
        rows = content.get("summary", content)
        if not isinstance(rows, dict):
            continue
        rows = {name: row for name, row in rows.items() if isinstance(row, dict)}
        names = list(dict.fromkeys(k for row in rows.values() for k in row if k not in HIDDEN))
        if path.parent == FOLDER and len(names) > 8:  # too wide for a terminal: one line per row
            console.print(f"[bold]{path.stem}")
            for name, row in rows.items():
                console.print(f"  {name}: " + ", ".join(f"{k} {show(row[k])}" for k in names if k in row))
            continue
        table = Table("row", *names, title=path.stem, title_justify="left")
        for name, row in rows.items():
            table.add_row(name, *(show(row.get(k, "")) for k in names))
        console.print(table)


if __name__ == "__main__":
    main()
