import json

import pytest

from fewstep.errors import FewstepError
from fewstep.runs.layout import RunDir
from fewstep.sinks.points import Point, fill, follow, points

METRICS = [
    {"env_steps": 10, "updates": 0, "episode_return": -2.5, "wall_seconds": 1.0, "note": "text", "ok": True},
    {"env_steps": 20, "updates": 5, "critic/loss": 0.25, "wall_seconds": 2.0},
]
EVALUATION = {
    "env_steps": 20,
    "actions": "mode",
    "returns": [1.0, 4.0],
    "lengths": [5, 6],
    "wall_seconds": 3.0,
}


class Kept:
    def __init__(self):
        self.last = -1
        self.points: list[Point] = []

    def write(self, point):
        self.points.append(point)

    def close(self):
        return "here"


@pytest.fixture
def run(tmp_path):
    made = RunDir.create(tmp_path / "run", 'env = "E"\nalgo = "a"\nseed = 3\n')
    add(made.metrics, *METRICS)
    add(made.evaluations, EVALUATION)
    return made


def add(path, *rows):
    with path.open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def test_rows_of_one_step_are_one_point_of_numbers(run):
    assert points(run) == [
        Point(10, 1.0, {"updates": 0.0, "episode_return": -2.5, "wall_seconds": 1.0}),
        Point(
            20,
            2.0,
            {
                "updates": 5.0,
                "critic/loss": 0.25,
                "wall_seconds": 2.0,
                "evaluation/mode/return": 2.5,
                "evaluation/mode/length": 5.5,
            },
        ),
    ]


def test_a_second_filling_adds_only_what_is_new(run):
    sink = Kept()
    assert (fill(run, sink), fill(run, sink)) == (2, 0)
    add(run.metrics, {"env_steps": 30, "updates": 9})
    assert fill(run, sink) == 1
    assert [point.env_steps for point in sink.points] == [10, 20, 30]


def test_following_waits_with_the_newest_step_until_the_writer_has_left(run):
    """Its evaluation may still come; and the writer's death between two looks loses nothing."""
    sink, seen = Kept(), []
    writer = run.locked()
    writer.__enter__()

    def later(_seconds):
        seen.append([point.env_steps for point in sink.points])
        if len(seen) == 1:
            add(run.evaluations, EVALUATION | {"actions": "sample"})
            add(run.metrics, {"env_steps": 30, "updates": 9})
        else:
            writer.__exit__(None, None, None)

    assert follow(run, sink, sleep=later) == 3
    assert seen == [[10], [10, 20]]
    assert "evaluation/sample/return" in sink.points[1].values


@pytest.mark.parametrize(
    "row", [{"updates": 1}, {"env_steps": "x"}, [1], {"env_steps": None}, {"env_steps": float("inf")}]
)
def test_a_row_that_is_none_is_one_line(run, row):
    add(run.metrics, row)
    with pytest.raises(FewstepError, match=r"metrics\.jsonl, line 3 is not a row"):
        points(run)
