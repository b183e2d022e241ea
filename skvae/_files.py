"""Files that are either as they were or new and whole."""

import os
import secrets
from contextlib import suppress


def write_file(path: str | os.PathLike[str], *chunks: bytes | memoryview) -> None:
    """Write a file of some chunks of bytes; whatever interrupts it leaves the old one as it was.

    The bytes go to a new file beside it, which takes the name over once they are on the disk.
    A link keeps pointing where it does.
    """
    path = os.path.realpath(path)
    beside = os.path.join(os.path.dirname(path), f".skvae-{secrets.token_hex(8)}.tmp")
    try:
        with open(beside, "xb") as file:  # a file that exists is nobody's to write to
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(beside)
        raise
