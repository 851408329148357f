"""`datagen push OUT TO`: a dataset becomes a repository on the Hugging Face Hub, or a new version of it.

Files are uploaded first, a few at a time, and become visible by one commit at the end, with what an earlier
version had and this one has not deleted in it: nobody ever loads a mixture of two versions. What has been
uploaded is stored by its content, so running an interrupted push again sends only what is missing.
(`upload_large_folder` is gone from huggingface_hub 2; its `upload_folder` makes several commits.)
Addresses of object stores are for `publish.store`.
"""

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datagen.errors import UsageError
from datagen.inspect.dataset import FOLDERS
from datagen.publish.card import EMBEDDED
from datagen.publish.licences import NONE, Grants, read_grants
from datagen.publish.staging import stage, staging_folder
from datagen.publish.store import push_to_store
from datagen.remote import is_remote, reason, without_keys

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_AT_ONCE = 32
"""Files uploaded between two marks of progress."""
_OURS = (*(f"{folder}/" for folder in (*FOLDERS, EMBEDDED, "preview")),)
"""Folders of the repository in which a push deletes what is not in the dataset any more."""


def parser() -> argparse.ArgumentParser:
    """The command's grammar and help."""
    p = argparse.ArgumentParser(
        prog="datagen push",
        description="Publish a dataset on the Hugging Face Hub (the token is read from HF_TOKEN), or put it "
        "into an object store (keys are found where the store's library looks for them). Of videos without "
        "a licence, times alone are published; a licence that is not known to be open must be named.",
        epilog="Exit status: 0 done; 1 the upload failed, the same command goes on with it; 2 wrong usage, "
        "or a licence does not allow it.",
    )
    p.add_argument("out", metavar="OUT", type=Path, help="the folder of a dataset")
    p.add_argument(
        "to",
        metavar="TO",
        help="owner/name, a repository of the Hub, made if it does not exist; or the address of a folder in "
        "a store, such as s3://bucket/folder",
    )
    p.add_argument("--private", action="store_true", help="only you and your organisation can see it")
    p.add_argument(
        "--frames",
        choices=("none", "embedded", "preview"),
        default="none",
        help="none (default); preview: a few dialogues with frames; embedded: SFT rows with frames too",
    )
    p.add_argument(
        "--licence-ok",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME",
        help=f"licences under which you may publish frames and text; {NONE} for videos that name none",
    )
    p.add_argument(
        "--timestamps",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME",
        help="licences of whose videos times alone are published",
    )
    return p


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    args = parser().parse_args(argv)
    token = "" if is_remote(args.to) else os.environ.get("HF_TOKEN", "").strip()
    try:
        _check_target(args.to, token, args.private)
        grants = read_grants(args.out, args.licence_ok, args.timestamps)
        files = stage(args.out, args.frames, grants)
        for line in _plan_lines(files, grants):
            print(line)
        url = without_keys(args.to)
        if is_remote(args.to):
            push_to_store(files, args.to)
        else:
            url = push(files, args.to, args.private, token)
        shutil.rmtree(staging_folder(args.out))
    except UsageError as error:
        print(f"datagen: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("datagen: push: interrupted. The same command goes on with it.", file=sys.stderr)
        return 130
    except Exception as error:
        # The Hub's client raises the errors of its HTTP library, of its own and plain ones alike.
        why = " ".join(str(error).replace(token, "***").split())[:500] if token else reason(error)
        print(
            f"datagen: push: {why or type(error).__name__}\nThe same command goes on with it.",
            file=sys.stderr,
        )
        return 1
    print(f"Published: {url}")
    return 0


def push(files: dict[str, Path], repo_id: str, private: bool, token: str) -> str:
    """Upload files (path in the repository to path on disk) and show them by one commit; returns its address.

    Raises UsageError where a repository that should be private is public, and whatever the Hub's client
    raises where the Hub cannot be reached or declines.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
    from huggingface_hub.utils.tqdm import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()
    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"), token=token)
    api.create_repo(repo_id, repo_type="dataset", private=private or None, exist_ok=True)
    if private and not api.repo_info(repo_id, repo_type="dataset").private:
        raise UsageError(f"--private: {repo_id} exists and is public; make it private first, or take another")
    adding = [CommitOperationAdd(name, path) for name, path in sorted(files.items())]
    _upload(api, repo_id, adding)
    there = api.list_repo_files(repo_id, repo_type="dataset")
    stale = sorted(name for name in there if name.startswith(_OURS) and name not in files)
    deleting = [CommitOperationDelete(name) for name in stale]
    commit = api.create_commit(
        repo_id, [*deleting, *adding], commit_message="Publish the dataset", repo_type="dataset"
    )
    return str(commit.commit_url)


def _check_target(to: str, token: str, private: bool) -> None:
    if is_remote(to):
        if private:
            raise UsageError("--private: is of the Hub; who may read a bucket is set in the store itself")
        return
    if not token:
        raise UsageError("HF_TOKEN: is not set; export a token that may write (hf.co/settings/tokens)")
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    try:
        validate_repo_id(to)
    except HFValidationError as error:
        raise UsageError(f"TO: {' '.join(str(error).split())[:200]}") from None


def _upload(api: "HfApi", repo_id: str, adding: Sequence[Any]) -> None:
    total = sum(operation.upload_info.size for operation in adding)
    done = 0
    for first in range(0, len(adding), _AT_ONCE):
        some = adding[first : first + _AT_ONCE]
        api.preupload_lfs_files(repo_id, some, repo_type="dataset", free_memory=False)
        done += sum(operation.upload_info.size for operation in some)
        print(
            f"uploaded {first + len(some)} of {len(adding)} files, {done / 1e6:.1f} of {total / 1e6:.1f} MB"
        )


def _plan_lines(files: dict[str, Path], grants: Grants) -> list[str]:
    size = sum(path.stat().st_size for path in files.values())
    lines = [f"{len(files)} files, {size / 1e6:.1f} MB, of {sum(t.videos for t in grants.terms)} videos"]
    if grants.withheld:
        lines.append(
            f"Of {grants.withheld} videos times alone are published, as their licence is not known to allow "
            "more: no texts, no frames, no SFT or RL rows (--licence-ok NAME publishes them)."
        )
    return lines


if __name__ == "__main__":
    sys.exit(main())
