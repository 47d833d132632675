"""Which replica profile does this word mean?

    llama-3-8b-h100-tp1     a built-in (replica_profiles/*.yaml)
    mine.yaml               a file with one profile, in the same form; `autoscaler profile fit` writes one
    grids/                  a folder with prefill.npz and decode.npz, fitted on the spot

A word with a slash, an ending or a folder behind it is a path; anything else has to be a built-in.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from autoscaler.core.profile import ReplicaProfile
from autoscaler.policy import replica_profile
from autoscaler.policy.fields import dotted, objections
from autoscaler.policy.marked_yaml import Marked, NotYaml, read
from autoscaler.policy.profiles import ProfileSpec
from autoscaler.refusal import Refusal

MAX_BYTES = 1 << 20
ENDINGS = frozenset({".yaml", ".yml"})


def find_profile(word: str) -> ReplicaProfile:
    """The profile of that name or path. Raises Refusal: one line per problem, with file, line, field, value and range."""
    path = Path(word)
    if path.suffix.lower() in ENDINGS:
        return profile_in(path).core()
    if is_path(word):
        # numpy costs 0.1 s and 16 MB; only grids need it
        from autoscaler.simulator.measurements import read_measurements  # noqa: PLC0415
        from autoscaler.simulator.profile_fit import fit_profile  # noqa: PLC0415

        return fit_profile(read_measurements(path), (path.name or "grids")[:63]).spec.core()
    return replica_profile(word)


def is_path(word: str, folder: Path = Path()) -> bool:
    """Whether this is no name of a built-in, but a path, seen from this folder."""
    return "/" in word or Path(word).suffix.lower() in ENDINGS or (folder / word).is_dir()


def profile_in(path: Path) -> ProfileSpec:
    """The one profile in a YAML file. Raises Refusal."""
    try:
        pages = list(read(_text(path)))
    except NotYaml as error:
        raise Refusal(f"{path}:{error.line}: {error}") from error
    if len(pages) != 1 or not isinstance(pages[0].value, dict) or len(pages[0].value) != 1:
        raise Refusal(
            f"{path}: not one profile under one name (NAME: {{prefillSeconds: ..., decodeSeconds: ..., kvTokens: ...}})"
        )
    return _profile(path, pages[0])


def _profile(path: Path, page: Marked) -> ProfileSpec:
    problems = [f"{path}:{line}: {dotted(where)}: written on line {before} already" for where, line, before in page.repeated]
    ((name, fields),) = page.value.items()
    try:
        spec = ProfileSpec.model_validate({**fields, "name": name} if isinstance(fields, dict) else fields)
    except ValidationError as error:
        for one in objections(error, ProfileSpec):
            where = (name, *one.path)
            problems.append(f"{path}:{page.line(where)}: {dotted(where)}: {one.text}")
    if problems:
        raise Refusal("\n".join(problems))
    return spec


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Refusal(f"{path}: not UTF-8 text") from None
    except (OSError, ValueError) as error:
        raise Refusal(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(data) > MAX_BYTES:
        raise Refusal(f"{path}: larger than {MAX_BYTES} bytes, which no profile is")
    return text
