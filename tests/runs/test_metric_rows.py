"""JSON lines: exact bytes, no NaN, torn tails tolerated, rows after a checkpoint dropped."""

import pytest

from fewstep.errors import FewstepError, NonFiniteError
from fewstep.runs.metrics import RowWriter, read_rows, truncate_rows


@pytest.fixture
def path(tmp_path):
    return tmp_path / "metrics.jsonl"


def write(path, *rows):
    writer = RowWriter(path)
    for row in rows:
        writer.append(row)
    writer.close()


def test_bytes_are_the_shortest_exact_form(path):
    write(path, {"env_steps": 1, "b": 0.1 + 0.2, "a": None, "list": [1.0, 2]})
    assert path.read_bytes() == b'{"env_steps": 1, "b": 0.30000000000000004, "a": null, "list": [1.0, 2]}\n'
    assert read_rows(path) == [{"env_steps": 1, "b": 0.1 + 0.2, "a": None, "list": [1.0, 2]}]


def test_each_row_is_on_disk_at_once(path):
    writer = RowWriter(path)
    writer.append({"env_steps": 1})
    assert read_rows(path) == [{"env_steps": 1}]
    writer.close()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), [1.0, float("-inf")]])
def test_a_number_that_is_not_finite_is_refused_by_name_and_step(path, bad):
    with pytest.raises(NonFiniteError, match=r"critic/loss is (nan|inf|-inf) at environment step 7"):
        write(path, {"env_steps": 7, "critic/loss": bad})
    assert read_rows(path) == []


def test_a_torn_last_line_is_left_out_and_then_dropped(path):
    write(path, {"env_steps": 1}, {"env_steps": 2})
    with open(path, "a") as file:
        file.write('{"env_steps": 3, "lo')
    assert [row["env_steps"] for row in read_rows(path)] == [1, 2]
    truncate_rows(path, 10, 0)
    write(path, {"env_steps": 3})
    assert [row["env_steps"] for row in read_rows(path)] == [1, 2, 3]


def test_rows_after_the_checkpoint_are_dropped_and_the_rest_kept_to_the_byte(path):
    write(path, *({"env_steps": steps, "updates": steps, "x": steps / 3} for steps in (10, 20, 30)))
    before = path.read_bytes().splitlines()
    truncate_rows(path, 20, 25)
    assert path.read_bytes().splitlines() == before[:2]


def test_before_the_first_step_rows_after_the_checkpoint_have_more_updates(path):
    write(path, *({"env_steps": 0, "updates": updates} for updates in (10, 20, 30)))
    truncate_rows(path, 0, 20)
    assert [row["updates"] for row in read_rows(path)] == [10, 20]


def test_a_damaged_line_in_the_middle_names_itself(path):
    path.write_text('{"env_steps": 1}\nnonsense\n{"env_steps": 3}\n')
    with pytest.raises(FewstepError, match="line 2 is damaged"):
        read_rows(path)


@pytest.mark.parametrize("line", ["{}", "[1, 2]", '{"env_steps": "a"}', "3"])
def test_a_line_that_is_no_row_is_named(line, tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"env_steps": 10}\n' + line + "\n")
    with pytest.raises(FewstepError, match=r"metrics\.jsonl, line 2 is not a row of a run"):
        truncate_rows(path, 20, 0)
