"""Make the pictures in docs/images anew.

    python docs/make_images.py

The tutorial's are made by its own code, without `max_iter` as it says. Those of clothes and of MNIST are
what `examples/plot_clothes.py` and `examples/plot_generate_digits.py --mnist` left in examples/figures.
"""

import os
import re
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from PIL import Image

DOCS = Path(__file__).parent.resolve()
IMAGES = DOCS / "images"
FIGURES = DOCS.parent / "examples" / "figures"
LEFT = {"clothes_classes.png": ("clothes.png", 840), "generate_digits_classes.png": ("digits.png", 760)}
COLOURS = 32  # of a palette: enough for a map of ten classes


def shrink(source, target, width=None, colours=COLOURS):
    """Save a picture as a small file."""
    image = Image.open(source).convert("RGB")
    if width:
        image = image.resize((width, image.height * width // image.width), Image.Resampling.LANCZOS)
    image.quantize(colours, dither=Image.Dither.NONE).save(target, optimize=True)
    print(f"{target.name}: {target.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    os.chdir(IMAGES)
    plt.rcParams["savefig.dpi"] = 80
    code = re.findall(r"^```python\n(.*?)^```$", (DOCS / "tutorial.md").read_text(), re.MULTILINE | re.DOTALL)
    exec(re.sub(r"max_iter=\d+, ", "", "".join(code)), {"__name__": "__main__"})
    for name in set(re.findall(r"images/(\w+\.png)", (DOCS / "tutorial.md").read_text())) - {"clothes.png"}:
        shrink(IMAGES / name, IMAGES / name)
    for name, (target, width) in LEFT.items():
        if (FIGURES / name).exists():
            shrink(FIGURES / name, IMAGES / target, width, colours=16)
