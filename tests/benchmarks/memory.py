"""Peak memory of a fit above the imported library and X, beside one float32 copy of X.

    python tests/benchmarks/memory.py [--rows 200000] [--features 200] [--file-gb 0]

With --file-gb, also one epoch on a memory-mapped file of that size: anonymous memory only.
"""

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np


def memory():
    """Return (resident, anonymous) bytes of this process."""
    fields = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return tuple(1024 * int(fields[key].split()[0]) for key in ("VmRSS", "RssAnon"))


def peak_of(function):
    """Run a function; return how far resident and anonymous memory rose above their start."""
    start, peak, done = memory(), [0, 0], threading.Event()

    def watch():
        while not done.is_set():
            for i, now in enumerate(memory()):
                peak[i] = max(peak[i], now - start[i])
            time.sleep(0.005)

    watcher = threading.Thread(target=watch)
    watcher.start()
    function()
    done.set()
    watcher.join()
    return peak


def fit(X):
    """Fit one epoch."""
    from skvae import VAETransformer

    VAETransformer(8, max_iter=1, random_state=0).fit(X)


def child(kind, rows, features, path):
    """Measure one case in a process of its own, after a small fit that loads all libraries."""
    fit(np.random.default_rng(0).normal(size=(2000, 5)).astype(np.float32))
    if kind == "file":
        X = np.memmap(path, np.float32, "r").reshape(-1, features)
        anonymous = peak_of(lambda: fit(X))[1]
        print(f"{'file of ' + str(X.nbytes >> 30) + ' GB':>16} anonymous {anonymous / 1e6:8.0f} MB")
        return
    dtype, order = kind.split("-")
    X = np.empty((rows, features), dtype, order)
    for part in range(0, rows, 10_000):
        X[part : part + 10_000] = np.random.default_rng(part).normal(size=X[part : part + 10_000].shape)
    resident = peak_of(lambda: fit(X))[0]
    copy = 4 * rows * features
    print(
        f"{kind:>16} {resident / 1e6:8.0f} MB; one float32 copy {copy / 1e6:.0f} MB; "
        f"limit {1.3 * copy / 1e6 + 300:.0f} MB"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--features", type=int, default=200)
    parser.add_argument("--file-gb", type=float, default=0)
    parser.add_argument("--child", nargs=2)
    options = parser.parse_args()
    if options.child:
        child(options.child[0], options.rows, options.features, options.child[1])
        sys.exit()
    size = ["--rows", str(options.rows), "--features", str(options.features)]
    for kind in ("float64-C", "float64-F", "float32-C", "float32-F"):
        subprocess.run([sys.executable, __file__, *size, "--child", kind, ""], check=True)
    if options.file_gb:
        with tempfile.NamedTemporaryFile(dir=".") as file:
            block = np.random.default_rng(0).normal(size=(1 << 14, options.features)).astype(np.float32)
            while file.tell() < options.file_gb * 2**30:
                block[:, 0] += 1
                file.write(block.tobytes())
            file.flush()
            subprocess.run([sys.executable, __file__, *size, "--child", "file", file.name], check=True)
