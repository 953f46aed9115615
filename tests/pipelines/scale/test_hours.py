"""What runs take, from the speed that one of them reported."""

import json

import pytest

from pipelines.scale.hours import Speed, duration, measured, words


def test_the_speed_is_the_median_of_what_was_reported_after_the_first_steps(tmp_path):
    lines = [{"kind": "log", "message": "x"}]
    lines += [
        {"kind": "metric", "step": n, "values": {"images_per_second": r}} for n, r in enumerate([1, 2, 10, 30, 12])
    ]
    lines += [{"kind": "metric", "step": 9, "values": {"knn_auroc": 0.5}}]
    path = tmp_path / "events.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)) + '\n{"kind": "met')
    assert measured(path, "CPU", 0) == Speed("CPU", 0, 12)
    path.write_text(json.dumps(lines[1]))
    assert measured(path, "CPU", 0).images_per_second == 1, "one reading is better than none"
    path.write_text("")
    assert measured(path, "CPU", 0) is None


def test_a_cost_counts_every_gpu_and_says_so_in_words():
    speed = Speed("NVIDIA H100", 4, 1000)
    cost = speed.cost(7_200_000, 3)
    assert (cost["hours_each"], cost["hours"], cost["gpu_hours"]) == (2, 6, pytest.approx(24))
    assert words(cost) == "3 runs of 2.0 hours each on 4 x NVIDIA H100, 24.0 GPU hours"
    assert words(Speed("CPU", 0, 10).cost(360, 1)) == "one run of 36 s on a CPU"
    assert words(Speed("NVIDIA H100", 1, 1).cost(5400, 1)) == "one run of 1.5 hours on NVIDIA H100, 1.5 GPU hours"
    assert [duration(h) for h in (0.001, 0.5, 2000)] == ["4 s", "30.0 minutes", "2,000.0 hours"]


def test_a_speed_is_read_where_a_result_has_one():
    said = {"device": "CPU", "gpus": 0, "images_per_second": 2.5}
    assert Speed.read({"speed": said}) == Speed("CPU", 0, 2.5)
    assert Speed.read({"speed": None}) is Speed.read({}) is Speed.read(None) is None
