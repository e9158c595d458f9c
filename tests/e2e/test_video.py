"""Films: every step of the episode, at the environment's own speed, without a screen."""

import imageio.v3 as imageio
import pytest

from fewstep.cli import main
from fewstep.training.evaluation.video import _pace
from tests.e2e.helpers import train


@pytest.mark.filterwarnings("ignore:os.fork")  # reading the film back starts a process too
@pytest.mark.parametrize("suffix", ["gif", "mp4"])
def test_an_episode_of_five_steps_has_six_pictures(suffix, tmp_path, capsys):
    run, film = tmp_path / "run", tmp_path / f"film.{suffix}"
    assert train(run, env="InvertedPendulum-v4", steps=60, sets=["training.max_episode_steps=5"]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(run), "--episodes", "1", "--actions", "mode", "--video", str(film)]) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines()[-1] == str(film)
    assert printed.err == ""
    pictures = imageio.imread(film, index=None if suffix == "gif" else ..., plugin=None)
    assert pictures.shape == (6, 480, 480, 3)
    assert pictures[0].std() > 5
    assert (pictures[0] != pictures[-1]).any()


def test_films_run_at_the_environments_speed():
    assert _pace(20) == (1, 20)
    assert _pace(30) == (1, 30)
    assert _pace(125) == (5, 25)


def test_an_environment_without_pictures_says_so(tmp_path, capsys):
    run = tmp_path / "run"
    assert train(run, env="toy/bandit", steps=60) == 0
    capsys.readouterr()
    assert main(["evaluate", str(run), "--episodes", "1", "--video", str(tmp_path / "film.gif")]) == 2
    assert "render_mode='rgb_array'" in capsys.readouterr().err
