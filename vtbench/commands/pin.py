"""`vtbench pin`: look up an entry's commit and digests on the hub, or take the digests of local files,
and write them into its YAML file, where its comments, order and everything else stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import yaml

from vtbench.base.errors import (
    CellFailed,
    RegistryError,
    UnknownName,
    WeightsError,
    WeightsMissing,
)
from vtbench.base.files import sha256_file, write_atomic
from vtbench.commands.complaints import complain
from vtbench.commands.options import registry_option, weights_option
from vtbench.registry.entries import Entry, load_registry
from vtbench.registry.sources import HubWeights, LocalWeights, PageWeights
from vtbench.weights.downloads import fetch_hub_file, hub_endpoint, hub_errors
from vtbench.weights.entries import WeightFiles, find_official, find_weights
from vtbench.weights.metrics import catalogue_path, metric_weights


@dataclass(frozen=True)
class PinTarget:
    """What is to be pinned. within: the keys that lead to its weights in the YAML file `path`. entry:
    the tokenizer whose weights they are, if they are one's."""

    name: str
    weights: HubWeights | None
    path: Path
    within: tuple[str, ...]
    entry: Entry | None = None


def choose_pins(names: Sequence[str], registries: Sequence[Path]) -> list[PinTarget]:
    """Return the named tokenizers and entries of the metrics' catalogue. Raises UnknownName."""
    registry, catalogue = load_registry(registries), metric_weights()
    subjects = []
    for name in dict.fromkeys(names):
        if name in catalogue:
            weights, path, within = catalogue[name].weights, catalogue_path(), (name, "weights")
            subjects.append(PinTarget(name, _of_hub(weights), path, within))
        elif name in registry or name in registry.unreleased:
            entry = registry[name]
            published = _of_hub(entry.weights)
            subjects.append(PinTarget(name, published, entry.path, ("weights",), entry))
        else:
            raise UnknownName("tokenizer", name, [*registry, *catalogue])
    return subjects


def _of_hub(weights: object) -> HubWeights | None:
    return weights if isinstance(weights, HubWeights) else None


def pin_entry(subject: PinTarget, *, update: bool) -> str:
    """Pin one subject in its file and return what was done, in a line. update: take the commit of the
    main branch even where one is pinned. Raises WeightsMissing, RegistryError, OutputError."""
    weights = subject.weights
    if weights is None:
        return f"{subject.name}: nothing to pin, its weights are not on the hub"
    if weights.revision is not None and weights.sha256 is not None and not update:
        return f"{subject.name}: pinned already to {weights.revision[:12]}; --update looks again"
    if update:
        weights = weights.model_copy(update={"revision": None})
    revision, hashes = look_up(subject.name, weights)
    write_pin(subject.path, subject.within, revision, hashes)
    return f"{subject.name}: {revision[:12]}, {len(hashes)} files, in {subject.path}"


def pin_local(subject: PinTarget, folder: Path) -> str:
    """Pin the digests of files on this machine and return what was done, in a line.

    The files must be all that the entry names: those of the hub, those of a page, or the authors'
    own (`official`). A revision stays as it is: a file does not say of which commit it is. Raises
    WeightsMissing for a file that is not there, RegistryError where the entry names none, and as
    `build_tokenizer` for files of another tokenizer: what is pinned has been loaded once.
    """
    if subject.entry is None or subject.entry.weights is None:
        raise RegistryError(
            f"{subject.name}: only weights of a tokenizer are pinned from local files"
        )
    weights = subject.entry.weights
    found = find_weights(subject.entry, folder)
    assert found is not None
    _try(subject.entry, found)
    names = [file.name for file in found.files]
    hashes = dict(found.digests)
    values: list[tuple[tuple[str, ...], str, Any]]
    if find_official(subject.entry, found) is not None:
        values = [((*subject.within, "official"), "files", {name: hashes[name] for name in names})]
    elif isinstance(weights, HubWeights) and set(hashes) == set(weights.files):
        values = [(subject.within, "sha256", hashes)]
    elif isinstance(weights, PageWeights) and set(hashes) == {weights.file, *weights.beside}:
        values = [(subject.within, "sha256", hashes.pop(weights.file))]
        values += [(subject.within, "beside", hashes)] if hashes else []
    elif isinstance(weights, LocalWeights) and len(hashes) == 1:
        values = [(subject.within, "sha256", next(iter(hashes.values())))]
    else:
        raise WeightsMissing(
            f"{subject.name}: {', '.join(sorted(names))} of {folder} are not what the entry names"
        )
    write_values(subject.path, values)
    return f"{subject.name}: {len(names)} files of {found.path}, in {subject.path}"


def _try(entry: Entry, found: WeightFiles) -> None:
    """Build the tokenizer with the files, whatever digests are pinned now."""
    from vtbench.commands.progress import silence_libraries
    from vtbench.runs.own_weights import unpin
    from vtbench.tokenizers import build_tokenizer

    silence_libraries()
    build_tokenizer(unpin(entry), device="cpu", weights=found)


def look_up(name: str, weights: HubWeights) -> tuple[str, dict[str, str]]:
    """Return the commit and the sha256 of each of the entry's files at that commit.

    The commit is the entry's own where it has one, else that of the main branch. The hub states the
    sha256 of what it keeps as large files; the small others are downloaded and hashed. Raises
    WeightsMissing with the hub's reason, or for a file that the repository does not have.
    """
    from huggingface_hub import HfApi

    with hub_errors(f"{name}: {weights.repo} could not be looked up", weights):
        facts = HfApi(endpoint=hub_endpoint()).model_info(
            weights.repo, revision=weights.revision, files_metadata=True
        )
    revision = weights.revision or facts.sha
    if revision is None:
        raise WeightsMissing(f"{name}: the hub states no commit of {weights.repo}")
    stated = {file.rfilename: file for file in facts.siblings or []}
    hashes = {}
    for file in weights.files:
        path = f"{weights.subfolder}/{file}" if weights.subfolder else file
        if path not in stated:
            raise WeightsMissing(f"{name}: {weights.repo} has no {path} at {revision[:12]}")
        large = stated[path].lfs
        if large is not None:
            hashes[file] = large.sha256
        else:
            hashes[file] = sha256_file(fetch_hub_file(name, weights, file, revision=revision))
    return revision, hashes


def write_pin(path: Path, within: tuple[str, ...], revision: str, hashes: dict[str, str]) -> None:
    """Write `revision` and `sha256` into the mapping at `within`; raises as `write_values`."""
    write_values(path, [(within, "sha256", hashes), (within, "revision", revision)])


def write_values(path: Path, values: Sequence[tuple[tuple[str, ...], str, Any]]) -> None:
    """Write each value (keys from the root to a mapping, key in it, value) into a YAML file.

    Nothing else changes; a key that is not there is added after `repo`. Raises RegistryError for a
    file in which the mapping cannot be edited (it stands on one line), and when reading the result
    back gives anything but the new values.
    """
    text = before = path.read_text(encoding="utf-8")
    expected = yaml.safe_load(before)
    for within, key, value in values:
        text = _put(path, text, within, key, value)
        mapping = expected
        for name in within:
            mapping = mapping[name]
        mapping[key] = value
    if yaml.safe_load(text) != expected:
        place = ".".join(values[0][0])
        raise RegistryError(f"{path}: {place} cannot be edited in place; pin it by hand")
    write_atomic(path, text.encode())


def _put(path: Path, text: str, within: tuple[str, ...], key: str, value: Any) -> str:
    """Return the text with `key: value` in the block mapping at `within`."""
    mapping = yaml.compose(text, Loader=yaml.SafeLoader)
    for name in within:
        mapping = next((v for k, v in _pairs(path, mapping) if k.value == name), None)
    pairs = _pairs(path, mapping)
    column = pairs[0][0].start_mark.column
    if isinstance(value, str):
        written = f' "{value}"'  # quoted: a digest without letters would be read as a number
    else:
        indent = "\n" + " " * (column + 2)
        written = "".join(f'{indent}{name}: "{digest}"' for name, digest in value.items())
    old = next(((k, v) for k, v in pairs if k.value == key), None)
    if old is not None:
        start = old[0].end_mark.index + text[old[0].end_mark.index :].index(":") + 1
        return text[:start] + written + text[max(start, _end(old[1])) :]
    after = next((pair for pair in pairs if pair[0].value == "repo"), pairs[0])
    end = text.find("\n", _end(after[1]))
    end = len(text) if end < 0 else end
    return text[:end] + "\n" + " " * column + f"{key}:" + written + text[end:]


def _pairs(path: Path, node: yaml.Node | None) -> list[tuple[yaml.Node, yaml.Node]]:
    if not isinstance(node, yaml.MappingNode) or node.flow_style or not node.value:
        raise RegistryError(f"{path}: the weights' keys do not stand on lines of their own")
    return list(node.value)


def _end(node: yaml.Node) -> int:
    """Return where the last scalar of a value ends: a block's own end is past the lines after it."""
    if isinstance(node, yaml.MappingNode) and not node.flow_style and node.value:
        return _end(node.value[-1][1])
    if isinstance(node, yaml.SequenceNode) and not node.flow_style and node.value:
        return _end(node.value[-1])
    return node.end_mark.index


@click.command("pin")
@click.argument("names", nargs=-1, required=True, metavar="NAME ...")
@click.option("--update", is_flag=True, help="Replace existing pins by the current main branch.")
@weights_option
@registry_option
def pin_command(
    names: tuple[str, ...],
    update: bool,
    weights: tuple[str, ...],
    registries: tuple[Path, ...],
) -> None:
    """Look up revision and sha256 of weights on the hub and write them into the entry's YAML file.

    NAME is a tokenizer, or the weights of a metric as `vtbench doctor` lists them. With --weights,
    the sha256 is taken from the files given, which must be weights that the tokenizer loads.
    """
    from vtbench.runs.request import parse_weights

    given = parse_weights(weights, load_registry(registries))
    failed = 0
    subjects = choose_pins(names, registries)
    for subject in subjects:
        try:
            if subject.name in given:
                click.echo(pin_local(subject, given[subject.name]))
            else:
                click.echo(pin_entry(subject, update=update))
        except (WeightsError, CellFailed) as error:
            complain(str(error))
            failed += 1
    if failed:
        # As `run`: 2 where nothing could be done.
        raise click.exceptions.Exit(2 if failed == len(subjects) else 1)
