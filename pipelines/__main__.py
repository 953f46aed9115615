"""`python -m pipelines STAGE SPEC.json RUN_DIR`."""

import sys

from pipelines.contract import main

sys.exit(main(sys.argv[1:]))
