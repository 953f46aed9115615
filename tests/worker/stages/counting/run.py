"""Counts with a checkpoint at every number, so that a resumed sum equals an undisturbed one."""

import json
import os
import signal
import subprocess
import time

from pipelines.contract import BadInput, Retry, RunFolder, write_atomic

CHILD = ["sh", "-c", "setsid sleep 600 & exec sleep 600"]


def run(spec, run: RunFolder) -> dict:
    if spec.deaf:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if spec.family:
        subprocess.Popen(CHILD, start_new_session=True)
    if spec.always == "bad_input":
        raise BadInput("The numbers are not to be had; give others.")
    if spec.always == "retry":
        raise Retry("The numbers are away.")
    checkpoint = run.root / "checkpoint.json"
    state = json.loads(checkpoint.read_text()) if checkpoint.exists() else {"n": 0, "sum": 0}
    with (run.root / "starts.txt").open("a") as f:
        f.write(f"{os.getpid()} {state['n']}\n")
    while state["n"] < spec.to:
        run.check_stop()
        state = {"n": state["n"] + 1, "sum": state["sum"] + state["n"] + 1}
        # Said before it is saved: killed in between, it is said twice and never not at all.
        run.metric(state["n"], total=float("nan") if spec.always == "nan" else state["sum"])
        run.progress(state["n"], spec.to, "counting")
        write_atomic(checkpoint, json.dumps(state))
        flag = run.root / "crashed"
        if spec.crash_at == state["n"] and not flag.exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(spec.pause)
    return {"sum": state["sum"], "practice": True}
