"""The only module that downloads: what an entry or a metric needs, brought to where `find_weights`
and `find_metric_weights` look. `vtbench pin` also asks the hub for commits and digests.

A download that breaks off goes on where it stopped; a file appears under its name only when it is
whole and has the digest that is stated for it. HF_ENDPOINT, HF_HOME, HF_TOKEN, TORCH_HOME, and the
proxy variables are respected. Whatever goes wrong is one line of WeightsMissing or WeightsMismatch.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from vtbench.base.errors import OutputError, WeightsMismatch, WeightsMissing
from vtbench.base.files import sha256_file
from vtbench.base.locations import cache_dir, home_dir
from vtbench.base.version import __version__
from vtbench.registry.entries import Entry
from vtbench.registry.sources import HubWeights
from vtbench.weights.entries import WeightFiles, check_hashes, find_in_hub_cache, find_weights
from vtbench.weights.metrics import (
    MetricWeights,
    PublishedFile,
    UrlWeights,
    check_metric_weights,
    default_folder,
    find_metric_weights,
    md5_file,
)

Report = Callable[[str, int, int | None], None]
"""Called with a file's name, the bytes that are here, and the bytes that there will be, if known."""

HUB = "https://huggingface.co"
CHUNK = 1 << 20
TIMEOUT_S = 30.0
MAX_MEMBER_BYTES = 4 * 2**30
"""A file in a zip that claims to be larger is refused unread."""


def ignore(name: str, done: int, total: int | None) -> None:
    """A `Report` that says nothing."""


def fetch_weights(entry: Entry) -> WeightFiles:
    """Download a tokenizer's files into the hub's cache, if they are not there, and return them.

    Every file has the digest that the entry pins; a cached one that does not is fetched anew. Raises
    WeightsMissing when the hub cannot be reached or refuses, WeightsMismatch for other content.
    """
    if not isinstance(entry.weights, HubWeights):
        found = find_weights(entry)
        if found is None:
            raise WeightsMissing(f"{entry.name} has no weights to fetch")
        return found
    weights = entry.weights
    found = _fetch_from_hub(entry.name, weights)
    try:
        check_hashes(entry, found)
    except WeightsMismatch:
        found = _fetch_from_hub(entry.name, weights, again=True)
        check_hashes(entry, found)
    return found


def fetch_metric_weights(entry: MetricWeights, report: Report = ignore) -> WeightFiles:
    """Bring the files of an entry of the catalogue to where its metrics look, and return them.

    Every file has the digest that the catalogue states; one that is here and does not is fetched
    anew. Raises WeightsMissing (also for files that pip or the system's package manager brings) and
    WeightsMismatch.
    """
    with contextlib.suppress(WeightsMissing, WeightsMismatch):
        found = find_metric_weights(entry.key)
        check_metric_weights(entry.key, found)
        return found
    if isinstance(entry.weights, UrlWeights):
        folder = default_folder(entry)
        if home_dir() is None and folder.is_relative_to(cache_dir()):
            raise WeightsMissing(
                f"{entry.key}: this user has no home folder to keep it in: set HOME or XDG_CACHE_HOME"
            )
        for file in entry.weights.files:
            if not _is_published(folder / file.name, file):
                _fetch_file(entry.key, file, folder, report)
    elif isinstance(entry.weights, HubWeights):
        found = _fetch_from_hub(entry.key, entry.weights)
        try:
            check_metric_weights(entry.key, found)
        except WeightsMismatch:
            _fetch_from_hub(entry.key, entry.weights, again=True)
    else:
        raise WeightsMissing(f"{entry.key} is not fetched: run `{entry.command}`")
    found = find_metric_weights(entry.key)
    check_metric_weights(entry.key, found)
    return found


def _is_published(path: Path, file: PublishedFile) -> bool:
    if not path.is_file():
        return False
    if file.md5 is not None and md5_file(path) != file.md5:
        return False
    return file.sha256 in (None, sha256_file(path))


def _fetch_file(key: str, file: PublishedFile, folder: Path, report: Report) -> None:
    """Bring one file into the folder, under its name only when it is whole and the published one."""
    part = folder / f".{file.name}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # A mirror of the hub stands for it in addresses, too.
        url = file.url.replace(HUB, hub_endpoint(), 1) if file.url.startswith(HUB) else file.url
        download(url, part, name=file.name, report=report)
        if file.member is not None:
            packed, part = part, folder / f".{file.name}.unpacked"
            _unpack(packed, file.member, part)
            packed.unlink()
        if not _is_published(part, file):
            found = sha256_file(part)
            # The next attempt would resume from the wrong bytes.
            part.unlink()
            stated = file.sha256 or f"MD5 {file.md5}"
            raise WeightsMismatch(
                f"{key}: what {file.url} gives has sha256 {found[:12]}…, not {stated[:12]}…; nothing "
                "was kept"
            )
        part.replace(folder / file.name)
    except OSError as error:
        raise OutputError(f"cannot write {folder / file.name}: {error.strerror or error}") from None


def download(url: str, target: Path, *, name: str, report: Report = ignore) -> None:
    """Write what an address gives to `target`, going on from what is there already.

    Raises WeightsMissing when the address cannot be reached, refuses, or stops before the length it
    announced (what came is kept for the next attempt), OutputError when the disk has no room.
    """
    here = target.stat().st_size if target.is_file() else 0
    headers = {"User-Agent": f"vtbench/{__version__}"}
    if here:
        headers["Range"] = f"bytes={here}-"
    try:
        with urlopen(Request(url, headers=headers), timeout=TIMEOUT_S) as answer:
            if answer.status != 206:  # the server sends the whole file
                here = 0
            length = answer.headers.get("Content-Length")
            total = here + int(length) if length and length.isdecimal() else None
            if total is not None and total - here > (free := shutil.disk_usage(target.parent).free):
                raise OutputError(
                    f"{name}: {total - here} bytes to come, {free} free on the disk of {target.parent}"
                )
            with target.open("ab" if here else "wb") as file:
                while chunk := answer.read(CHUNK):
                    file.write(chunk)
                    here += len(chunk)
                    report(name, here, total)
    except HTTPError as error:
        if error.code == 416 and here:  # all of it was there; the digest decides
            return
        raise WeightsMissing(f"{name}: {url} answers {error.code} {error.reason}") from None
    except URLError as error:
        raise WeightsMissing(f"{name}: {url} cannot be reached: {error.reason}") from None
    except (TimeoutError, ConnectionError, HTTPException) as error:
        raise WeightsMissing(f"{name}: {_broken(url, here, None)} ({error})") from None
    if total is not None and here < total:
        raise WeightsMissing(f"{name}: {_broken(url, here, total)}")


def _broken(url: str, here: int, total: int | None) -> str:
    of = f" of {total}" if total is not None else ""
    return f"{url} broke off after {here}{of} bytes; the same command goes on from there"


def _unpack(packed: Path, member: str, target: Path) -> None:
    try:
        with zipfile.ZipFile(packed) as archive:
            info = archive.getinfo(member)
            if info.file_size > MAX_MEMBER_BYTES:
                raise WeightsMismatch(f"{packed.name}: {member} would be {info.file_size} bytes")
            with archive.open(info) as source, target.open("wb") as file:
                shutil.copyfileobj(source, file, CHUNK)
    except (zipfile.BadZipFile, KeyError) as error:
        packed.unlink()
        raise WeightsMismatch(f"{packed.name}: no zip that holds {member}: {error}") from None


def hub_endpoint() -> str:
    """Return the hub's address: HF_ENDPOINT, or huggingface.co."""
    return os.environ.get("HF_ENDPOINT", HUB).rstrip("/")


def _fetch_from_hub(name: str, weights: HubWeights, *, again: bool = False) -> WeightFiles:
    """Bring a repository's files into the hub's cache; again: also those that are there."""
    for file in weights.files:
        fetch_hub_file(name, weights, file, revision=weights.revision, again=again)
    return find_in_hub_cache(name, weights)


def fetch_hub_file(
    name: str, weights: HubWeights, file: str, *, revision: str | None, again: bool = False
) -> Path:
    """Return one file of a repository, downloaded into the hub's cache if it is not there.

    Raises WeightsMissing with the hub's reason in one line.
    """
    from huggingface_hub import hf_hub_download

    with hub_errors(f"{name}: {weights.repo}/{file} could not be fetched", weights):
        path = hf_hub_download(
            weights.repo,
            file,
            subfolder=weights.subfolder,
            revision=revision,
            endpoint=hub_endpoint(),
            force_download=again,
        )
        return Path(path)


@contextlib.contextmanager
def hub_errors(what: str, weights: HubWeights) -> Iterator[None]:
    """Turn whatever the hub's client raises into one WeightsMissing: `what`, and the reason."""
    try:
        yield
    except Exception as error:  # its HTTP client changes between its releases, and what that raises
        raise WeightsMissing(f"{what}: {_hub_reason(error, weights)}") from None


def _hub_reason(error: BaseException, weights: HubWeights) -> str:
    from huggingface_hub import errors

    cause = error
    if isinstance(error, errors.LocalEntryNotFoundError | ValueError) and error.__cause__:
        cause = error.__cause__  # these speak of the cache; this is why the hub was no help
    status = getattr(getattr(cause, "response", None), "status_code", None)
    page = f"{hub_endpoint()}/{weights.repo}"
    if isinstance(cause, errors.OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set"
    if isinstance(cause, errors.GatedRepoError) or status in (401, 403):
        return (
            f"the hub refuses ({status}): accept the licence at {page}, then `hf auth login` or set "
            "HF_TOKEN, and fetch again"
        )
    if isinstance(cause, errors.RevisionNotFoundError):
        return f"{page} has no revision {weights.revision}"
    if isinstance(cause, errors.RepositoryNotFoundError):
        return f"{page} does not exist, or is private"
    if status == 404:
        return f"{page} has no such file"
    return (str(cause).strip() or type(cause).__name__).splitlines()[0]
