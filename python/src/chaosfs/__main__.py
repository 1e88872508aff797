"""``python -m chaosfs`` is the command ``chaosfs``."""

import os
import sys

from ._process import binary

if __name__ == "__main__":
    os.execv(binary(), ["chaosfs", *sys.argv[1:]])
