"""The densities that several runs on ``toy/bandit`` have learned, beside the true one, as one picture.

    fewstep train sac toy/bandit --preset small --steps 5000 --out bandit/sac
    fewstep train smfp toy/bandit --preset small --steps 5000 --set entropy.kind=hinge \\
        --set entropy.target_std=0.0033 --out bandit/surrogate
    fewstep train smfp toy/bandit --preset soft --steps 6000 --out bandit/soft
    fewstep train mfpo toy/bandit --preset small --steps 10000 --out bandit/mfpo
    python -m benchmarks.bandit_densities "SAC"=bandit/sac "SMFP, its surrogate"=bandit/surrogate \\
        "SMFP, H_K (soft)"=bandit/soft "MFPO, two steps"=bandit/mfpo

Writes ``results/bandit_densities.svg``, and the total variation of each to ``bandit_densities.json`` there.
"""

import argparse
from pathlib import Path

from benchmarks import record
from fewstep.analysis.figures import style
from fewstep.analysis.figures import toys as toy_figures
from fewstep.analysis.report import toy_comparison, toys
from fewstep.analysis.runs.reading import read_run


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", metavar="NAME=RUN")
    pairs = [text.rpartition("=") for text in parser.parse_args().runs]
    shown = [(name, read_run(Path(path))) for name, _, path in pairs]
    alpha = round(toys.final_alpha(shown[0][1]), 6)
    if {round(toys.final_alpha(run), 6) for _, run in shown} != {alpha}:
        parser.error("the runs have different temperatures, so they have different targets")
    rows = toy_comparison.densities(shown, alpha)
    with style.styled():
        figure = toy_figures.densities_figure(
            toy_comparison.titled(rows), 3, 8.0, toy_comparison.brightest(rows)
        )
        (record.FOLDER / "bandit_densities.svg").write_bytes(style.to_file(figure, "svg"))
    for row in rows:
        shares = [round(float(share), 3) for share in row.shares]
        result = {
            "alpha": alpha,
            "total_variation": round(float(row.total_variation), 3),
            "mode_shares": shares,
        }
        record.update("bandit_densities", row.name, result)


if __name__ == "__main__":
    main()
