"""`python -m pipelines.evaluate FOLDER`: results, result and report of a finished evaluation, from its scores again."""

import json
import sys
from pathlib import Path

from pipelines.contract import BadInput, write_atomic
from pipelines.evaluate.judge import judge


def main(argv: list[str]) -> int:
    """0, or 2 with one sentence where the folder holds no evaluation."""
    if len(argv) != 1:
        print("usage: python -m pipelines.evaluate FOLDER", file=sys.stderr)  # noqa: T201
        return 2
    root = Path(argv[0])
    try:
        result = judge(root)
    except BadInput as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 2
    write_atomic(root / "result.json", json.dumps(result, ensure_ascii=False, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
