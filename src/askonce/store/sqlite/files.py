"""The files of this process, one for each path, and what a fork does to them."""

from __future__ import annotations

import weakref

from askonce.runtime.forks import around_forks
from askonce.store.sqlite.file import (
    File,
    registering,
)

_files: weakref.WeakValueDictionary[str, File] = weakref.WeakValueDictionary()


def file_at(path: str) -> File:
    """The File of an absolute path, one in a process."""

    def found() -> File:
        file = _files.get(path)
        if file is None:
            file = _files[path] = File(path)
        return file

    return registering.nested(found)


def _before_fork() -> None:
    for file in list(_files.values()):
        file.pause()


def _after_in_parent() -> None:
    for file in list(_files.values()):
        file.resume()


def _after_in_child() -> None:
    for file in list(_files.values()):
        file.start_over()


around_forks(before=_before_fork, in_parent=_after_in_parent, in_child=_after_in_child)
