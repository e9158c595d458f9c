"""Where the command keeps compiled programs, and which."""

import os

from fewstep.cli.main import use_compilation_cache

FOLDER, LEAST = "JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"


def test_all_programs_are_kept_in_the_users_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "environ", {"XDG_CACHE_HOME": str(tmp_path)})
    use_compilation_cache()
    assert os.environ == {
        "XDG_CACHE_HOME": str(tmp_path),
        FOLDER: str(tmp_path / "fewstep" / "jax"),
        LEAST: "0",
    }


def test_what_the_user_has_decided_stays(monkeypatch):
    monkeypatch.setattr(os, "environ", {FOLDER: "/elsewhere", LEAST: "5"})
    use_compilation_cache()
    assert os.environ == {FOLDER: "/elsewhere", LEAST: "5"}
