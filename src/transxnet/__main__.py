"""``python -m transxnet``, which ``torchrun`` needs."""

import sys

from transxnet.cli import main

sys.exit(main())
