"""What is not collected with scikit-learn below 1.9, which has no callbacks."""

from importlib.util import find_spec
from pathlib import Path

sklearn = Path(find_spec("sklearn").origin)  # not imported yet: tests/conftest.py has settings for that
collect_ignore = []
if not sklearn.with_name("callback").is_dir():
    collect_ignore += ["skvae/callbacks.py", "tests/test_callbacks.py"]
