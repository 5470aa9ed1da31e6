"""A process that stands in for a training: ``python fake_training.py JOB`` writes only the report."""

import json
import os
import signal
import sys
import time
from pathlib import Path

out, options = json.loads(sys.argv[1])
if options["model"] == "nan":
    print("epoch 1\n\nerror: the loss became NaN. Use --lr 0.1.")
    sys.exit(1)
if options["model"] == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
Path(out).mkdir(exist_ok=True)
if options["model"] == "slow":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    Path(out, "pid").write_text(str(os.getpid()))
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        Path(out, "config.yaml").touch()
        sys.exit(130)
names = ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")
Path(out, "report.html").write_text(json.dumps({name: os.environ.get(name) for name in names}))
