"""The command ``push``: upload a run to the Hugging Face Hub."""

from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HFValidationError, LocalTokenNotFoundError
from rich.console import Console

from transxnet.reports.model_card import model_card
from transxnet.runs.run_folder import Run
from transxnet.utils.errors import UserError
from transxnet.utils.progress import PLAIN

FILES = ("config.json", "model.json", "model.safetensors", "results.json", "metrics.csv")
"""What is uploaded next to the model card and the options. The report stays here, since it shows validation images."""


def push(run: str | Path, repo: str, *, public: bool = False, console: Console | None = None) -> str:
    """Upload a finished run to a model repository of the Hugging Face Hub.

    The repository is created if it does not exist. Log in first with ``hf auth login``, or set HF_TOKEN.

    Args:
        run: run folder.
        repo: name of the repository, as OWNER/NAME.
        public: let everybody see a new repository; by default it is private.
        console: console to print to; by default standard output.

    Returns:
        The address of the commit.

    Raises:
        UserError: the run is not finished, the name is invalid, or the Hub refuses the upload or cannot be reached.
    """
    opened, console = Run.open(run), console or Console()
    config = opened.read_config()
    contents: dict[str, Path | bytes] = {
        "README.md": model_card(opened, repo).encode(),
        "config.yaml": config.replace(data=Path(config.data).name).to_yaml().encode(),  # the folder is private
        **{name: opened.path / name for name in FILES if (opened.path / name).is_file()},
    }
    operations = [CommitOperationAdd(name, content) for name, content in contents.items()]
    api = HfApi(library_name="transxnet")
    try:
        api.create_repo(repo, private=not public, exist_ok=True)
        commit = api.create_commit(repo, operations, commit_message=f"Upload {opened.path.resolve().name}")
    except HFValidationError as error:
        raise UserError(f"{repo!r} is not the name of a repository. Accepted: OWNER/NAME.") from error
    except LocalTokenNotFoundError as error:
        raise UserError("no token for the Hugging Face Hub was found. Log in first: hf auth login") from error
    except Exception as error:  # of the HTTP library, which differs between versions of huggingface_hub
        raise UserError(f"cannot upload to {repo}: {error}. Check the name and the login: hf auth whoami") from error
    console.print(f"uploaded    {', '.join(contents)}\nrepository  {commit.commit_url}", **PLAIN)
    return str(commit.commit_url)
