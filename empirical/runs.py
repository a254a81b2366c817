"""The run folder: what was measured, kept as it is measured, continued after a kill.

``run.json`` says what runs where; ``records.jsonl`` gets one whole line a record, flushed to the
disk; a torn last line is dropped when the run is continued; the same key is never measured twice.
Other files are written beside their place and moved into it, so that none is ever half there.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import json
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from empirical.machine import description, versions
from empirical.records import Record
from theory.errors import InputError

#: what a run folder may hold before its run.json is there
_OWN = {".lock", "certificates", "plots", "records.csv", "records.jsonl", "report.html", "spectra"}


@dataclass(eq=False)
class Run:
    """An open run folder.

    Attributes:
        path: the folder.
        info: the contents of ``run.json``.
        torn: whether a torn last line was dropped when the folder was opened.
    """

    path: Path
    info: dict[str, Any]
    torn: bool = False
    _records: dict[str, Record] = field(default_factory=dict)
    _lines: IO[bytes] | None = None
    _lock: IO[str] | None = None

    @classmethod
    def open(cls, path: str | Path, command: str, seed: int, *, fresh: bool = False) -> Run:
        """Create the run folder, or continue the run that is in it.

        Args:
            path: the folder; made if it is not there.
            command: what is run, as text; a folder of another command is refused.
            seed: the seed; a folder with another seed is refused.
            fresh: forget the records that are there.

        Raises:
            InputError: the folder cannot be written, is in use, or holds something else.
        """
        path = Path(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            others = sorted(p.name for p in path.iterdir() if p.name not in _OWN)
            started = (path / "run.json").exists()
            if others and not started:
                raise InputError(
                    f"{path} holds {others[0]!r} and no run; choose an empty folder with --out"
                )
            lock = (path / ".lock").open("w")
            info = _info(command, seed)
            old = cls._claim(path, lock, info, fresh)
            run = cls(path, old or info, _lock=lock)
            if old is None:
                (path / "records.jsonl").unlink(missing_ok=True)
                run._write_info()
            else:
                run._read()
            run._lines = (path / "records.jsonl").open("ab")
        except OSError as error:
            raise _refused(path, error) from error
        return run

    @staticmethod
    def _claim(
        path: Path, lock: IO[str], info: dict[str, Any], fresh: bool
    ) -> dict[str, Any] | None:
        """Take the lock; the old run's info if it is to be continued, None for a new run."""
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"another process is writing to {path}; choose another --out") from (
                error
            )
        if fresh or not (path / "run.json").exists():
            return None
        old = read_info(path)
        for what in ("command", "seed"):
            if old.get(what) != info[what]:
                raise InputError(
                    f"{path} holds a run with {what} {old.get(what)!r}, this one has "
                    f"{info[what]!r}; choose another --out, or give --fresh to replace it"
                )
        for package, now in info["versions"].items():
            before = old.get("versions", {}).get(package)
            if before != now:
                raise InputError(
                    f"{path} was measured with {package} {before}, here is {now}; "
                    "choose another --out, or give --fresh to replace it"
                )
        return old

    def _read(self) -> None:
        """Load the records; cut a torn last line off the file."""
        file = self.path / "records.jsonl"
        data = file.read_bytes() if file.exists() else b""
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            self.torn = True
            with file.open("r+b") as handle:
                handle.truncate(len(whole))
        for record in parse_lines(whole.decode(errors="replace"), file):
            self._records[record.key] = record

    def has(self, key: str) -> bool:
        """Whether a record with this key is in the folder."""
        return key in self._records

    def append(self, record: Record) -> None:
        """Write one record as a whole line and flush it to the disk; a known key is ignored.

        Raises:
            InputError: there is no space, or the folder went away.
        """
        if record.key in self._records:
            return
        if self._lines is None:
            raise InputError(f"the run in {self.path} is closed")
        try:
            self._lines.write((record.to_json() + "\n").encode())
            self._lines.flush()
            os.fsync(self._lines.fileno())
        except OSError as error:
            raise _refused(self.path, error) from error
        self._records[record.key] = record

    def extend(self, records: Iterable[Record]) -> None:
        """Append each record."""
        for record in records:
            self.append(record)

    def records(self) -> tuple[Record, ...]:
        """All records in the order they were written."""
        return tuple(self._records.values())

    def write(self, name: str, text: str) -> Path:
        """Write a text file of the folder, whole or not at all.

        Raises:
            InputError: there is no space, or the folder cannot be written.
        """
        return write_whole(self.path, name, text.encode())

    def write_array(self, name: str, values: np.ndarray) -> Path:
        """Write an array as ``.npy``, whole or not at all.

        Raises:
            InputError: there is no space, or the folder cannot be written.
        """
        buffer = io.BytesIO()
        np.save(buffer, values, allow_pickle=False)
        return write_whole(self.path, name, buffer.getvalue())

    def _write_info(self) -> None:
        self.write("run.json", json.dumps(self.info, indent=1) + "\n")

    def finish(self, **facts: Any) -> None:
        """Add facts (status, seconds, peak memory, ...) and the time to ``run.json``."""
        self.info |= {"finished": _now(), **facts}
        self._write_info()

    def close(self) -> None:
        """Close the files and give the lock back."""
        for handle in (self._lines, self._lock):
            if handle is not None:
                handle.close()
        self._lines = self._lock = None

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def write_whole(folder: Path, name: str, data: bytes) -> Path:
    """Write a file of a folder, whole or not at all.

    Raises:
        InputError: there is no space, or the folder cannot be written.
    """
    target = folder / name
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        os.replace(temporary, target)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise _refused(folder, error) from error
    return target


def read_info(path: str | Path) -> dict[str, Any]:
    """The contents of a folder's ``run.json``.

    Raises:
        InputError: there is none, or it is damaged.
    """
    file = Path(path) / "run.json"
    try:
        info = json.loads(file.read_text())
    except FileNotFoundError as error:
        raise InputError(f"{path} is no run folder: it has no run.json") from error
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {file}: {error}") from error
    if not isinstance(info, dict):
        raise InputError(f"{file} is not a JSON object")
    return info


def read_records(path: str | Path) -> tuple[Record, ...]:
    """The records of a run folder, without opening it for writing; a torn last line is ignored.

    Raises:
        InputError: the folder is no run folder, or a line other than the last is damaged.
    """
    read_info(path)
    file = Path(path) / "records.jsonl"
    text = file.read_text(errors="replace") if file.exists() else ""
    whole = text[: text.rfind("\n") + 1]
    return tuple({record.key: record for record in parse_lines(whole, file)}.values())


def parse_lines(text: str, file: Path) -> list[Record]:
    """Records from lines.

    Raises:
        InputError: a line is damaged; the message has its number.
    """
    records = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            records.append(Record.from_json(line))
        except InputError as error:
            raise InputError(f"{file}, line {number}: {error}") from error
    return records


def _info(command: str, seed: int) -> dict[str, Any]:
    return {
        "command": command,
        "seed": seed,
        "versions": versions(),
        "machine": description(),
        "started": _now(),
    }


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _refused(path: Path, error: OSError) -> InputError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return InputError(f"no space left for {path}; free some or choose another --out")
    return InputError(
        f"cannot write to {path} ({error.strerror or error}); choose another folder with --out"
    )
