"""``python -m transxnet``, for launchers that start modules."""

import sys

from transxnet.cli import main

sys.exit(main())
