"""Bundles on the Hugging Face Hub, through ``huggingface_hub``, whose own variables (``HF_TOKEN``,
``HF_ENDPOINT``, ``HF_HUB_OFFLINE``) hold."""

import importlib
import os
import re
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fewstep.errors import FewstepError, UsageError
from fewstep.runs.layout import RunDir
from fewstep.sharing import bundle


def push(files: Mapping[str, bytes], repo: str, private: bool = False) -> str:
    """Put the files into a model repository, which is made if it does not exist, as one commit.

    Returns:
        The commit's address.

    Raises:
        UsageError: ``huggingface_hub`` is not installed, or the name is none that a repository can have.
        FewstepError: the Hub cannot be reached or refuses.
    """
    require_name(repo)
    hub = _library()
    with _told(repo):
        api = hub.HfApi(endpoint=_endpoint(), library_name="fewstep")
        api.create_repo(repo, repo_type="model", private=private or None, exist_ok=True)
        changes = [hub.CommitOperationAdd(name, data) for name, data in files.items()]
        made = api.create_commit(
            repo, changes, repo_type="model", commit_message="A policy trained with fewstep"
        )
        return str(made.commit_url)


def pull(repo: str, out: Path, revision: str | None = None) -> RunDir:
    """Fetch a bundle and make it the run directory ``out``; only files that a bundle has are fetched.

    Raises:
        UsageError: ``huggingface_hub`` is not installed, the name is wrong, or ``out`` is in use.
        FewstepError: the Hub cannot be reached or refuses, or what it has is not whole or no bundle.
    """
    require_name(repo)
    RunDir.refuse_existing(out)
    hub = _library()
    with tempfile.TemporaryDirectory() as folder:
        with _told(repo):
            hub.snapshot_download(
                repo,
                repo_type="model",
                revision=revision,
                allow_patterns=list(bundle.NAMES),
                local_dir=folder,
                endpoint=_endpoint(),
                library_name="fewstep",
            )
        return bundle.unpack(Path(folder), out)


def require_name(repo: str) -> None:
    """Raise UsageError unless ``repo`` is OWNER/NAME."""
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", repo, re.ASCII):
        raise UsageError(f"a repository is called OWNER/NAME, got {repo!r}, which is no folder either")


def _library() -> Any:
    try:
        hub = importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise UsageError(f"sharing needs {error.name}: pip install 'fewstep[hub]'") from error
    hub.logging.set_verbosity_error()  # of its retries; what is left of them is one line of ours
    return hub


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT")


@contextmanager
def _told(repo: str) -> Generator[None]:
    """Errors of the Hub in one line that says what to do."""
    errors: Any = importlib.import_module("huggingface_hub.errors")
    try:
        yield
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.GatedRepoError) as error:
        raise FewstepError(
            f"the Hub has no {repo}, or not this revision, or not for you; a private one needs HF_TOKEN"
        ) from error
    except errors.LocalTokenNotFoundError as error:
        raise FewstepError("the Hub asks who you are: `hf auth login`, or set HF_TOKEN") from error
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", "?")
        hint = "; `hf auth login`, or set HF_TOKEN" if status in (401, 403) else ""
        raise FewstepError(f"the Hub refused {repo}: {_line(error)} (status {status}){hint}") from error
    except errors.OfflineModeIsEnabled as error:
        raise FewstepError("HF_HUB_OFFLINE is set: nothing is sent or fetched") from error
    except (errors.LocalEntryNotFoundError, OSError) as error:
        raise FewstepError(f"the Hub cannot be reached: {_line(error)}") from error
    except Exception as error:  # the HTTP library's own classes, which differ between its versions
        if type(error).__module__.partition(".")[0].startswith("http"):
            raise FewstepError(f"the Hub cannot be reached: {_line(error)}") from error
        raise


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
