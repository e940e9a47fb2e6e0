"""Write the amazon-scientific data as RecBole's atomic files, by the package's source ``sequences``.

    python benchmarks/amazon_scientific.py --source /path/to/amazon-scientific --out /path/to/datasets

The folder may have any name; the data set is always called ``amazon-scientific``, as the results here know it.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that no installation is needed

from recbole_perpeft.__main__ import main  # noqa: E402

NAME = "amazon-scientific"

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    values = parser.parse_args()
    sys.exit(main(["prepare", "sequences", str(values.source), "--out", str(values.out), "--name", NAME]))
