"""Files that are either as they were or new and whole."""

import errno
import os
import secrets
import stat
from contextlib import suppress


def write_file(path: str | os.PathLike[str], *chunks: bytes | memoryview) -> None:
    """Write a file of some chunks of bytes; whatever interrupts it leaves the old one as it was.

    The bytes go to a new file beside it, which takes the name over once they are on the disk.
    A link keeps pointing where it does, who may read a file stays as it was, and a device or pipe is
    written to.
    """
    path = os.path.realpath(path)
    if os.path.exists(path) and not os.path.isfile(path):
        with open(path, "wb") as file:
            file.writelines(chunks)
        return
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), folder)
    mode = stat.S_IMODE(os.stat(path).st_mode) if os.path.exists(path) else None
    beside = os.path.join(folder, f".skvae-{secrets.token_hex(8)}.tmp")

    def create(name: str, flags: int) -> int:
        return os.open(name, flags, 0o666 if mode is None else 0o600)

    try:
        with open(beside, "xb", opener=create) as file:  # a file that exists is nobody's to write to
            file.writelines(chunks)
            file.flush()
            os.fsync(file.fileno())
        if mode is not None:
            os.chmod(beside, mode)
        os.replace(beside, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(beside)
        raise
