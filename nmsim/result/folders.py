"""How do files reach their folder whole: everything is written beside it, then renamed.

A folder is there with all its files or it is not there, whatever is killed when. Nothing of a time of day is written.
"""

from __future__ import annotations

import re
import shutil
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from nmsim.errors import InputError

_DRAFT = re.compile(r"\.[0-9a-f]{64}\.[0-9a-f]{32}(\.old)?")


def place_folder(directory: Path, name: str, files: Mapping[str, bytes]) -> Path:
    """Write `files` (name -> content) as the folder `directory`/`name`, replacing one that is there, and return it.

    InputError where the place cannot be written; then nothing of the folder is left behind.
    """
    place, temporary = directory / name, directory / f".{name}.{uuid.uuid4().hex}"
    try:
        temporary.mkdir(parents=True)
        for file, content in files.items():
            (temporary / file).write_bytes(content)
        _put_in_place(temporary, place, next(iter(files)))
    except OSError as error:
        raise cannot_write(directory, error) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return place


def place_file(file: Path, content: bytes) -> None:
    """Write one file under a temporary name, then rename it; InputError where that fails."""
    draft = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
    try:
        draft.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(content)
        draft.replace(file)
    except OSError as error:
        raise cannot_write(file.parent, error) from None
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def sweep_up_drafts(directory: Path) -> None:
    """Remove what a killed writer left: folders under temporary names. Only for who is alone in `directory`."""
    for folder in directory.iterdir():
        if _DRAFT.fullmatch(folder.name):
            shutil.rmtree(folder, ignore_errors=True)


def cannot_write(directory: Path, error: OSError) -> InputError:
    """The sentence for a folder that refuses what is written to it."""
    return InputError(f"cannot write results here ({error.strerror or error})", file=directory, fix="choose another folder with --out")


def _put_in_place(temporary: Path, place: Path, sign: str) -> None:
    """Rename to the final name; what stood there is moved aside first and then deleted.

    Two writers may finish the same folder at once. Theirs has the same content, so whoever comes second lets the first
    stand; `sign` is a file that a whole folder has.
    """
    aside = temporary.with_name(temporary.name + ".old")
    if place.exists():
        place.rename(aside)
    try:
        temporary.rename(place)
    except OSError:
        if not (place / sign).is_file():
            if aside.exists():
                aside.rename(place)
            raise
    shutil.rmtree(aside, ignore_errors=True)
