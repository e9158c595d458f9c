"""What the command line says when several seeds of one process fail."""

import pytest

from fewstep.cli.common import print_runs
from fewstep.errors import FewstepError
from fewstep.training.several.together import Failure


def test_the_lowest_seed_is_named_first_whichever_failed_first(tmp_path, capsys):
    paths = [tmp_path / f"seed-{seed}" for seed in range(3)]
    failures = [Failure(seed, paths[seed], FewstepError(f"no room {seed}")) for seed in (2, 0)]
    with pytest.raises(FewstepError, match=r"^2 of 3 seeds failed: seed 0: no room 0 \(also: 2; see log"):
        print_runs(paths, failures)
    assert capsys.readouterr().out == f"{paths[1]}\n"
