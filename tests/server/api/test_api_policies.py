"""A site's own policies are taken by name from the folder of policies, and from nowhere else."""

from pathlib import Path

import pytest

from pipelines.deidentify.policy import FOLDER, load_policy
from server.client import ApiError
from tests.server.house import House

TEXT = (FOLDER / "policies" / "longitudinal-research.toml").read_text()


def test_a_sites_own_policy_is_installed_by_putting_it_into_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "policies"
    folder.mkdir()
    (folder / "ours.toml").write_text(TEXT + 'house = "lists.toml"\n')
    (folder / "lists.toml").write_text('hospitals = ["Vellbrook"]\n')
    (folder / "basic.toml").write_text(TEXT)
    house = House(tmp_path, policies=folder)
    client = house.client()
    site = client.create_site("Main", policy="ours")
    export = client.register(site.id, house.export_folder(), "spring")
    assert export.policy == "ours"
    told = house.job(client.deidentify(export.id).id).spec["policy"]
    assert load_policy(told).reports.house.hospitals == ("Vellbrook",)
    second = house.export_folder("second")
    for name in ("lists", "../policies/ours", str(folder / "ours.toml")):
        with pytest.raises(ApiError, match=r"choose one of basic, longitudinal-research, ours\."):
            client.register(site.id, second, "x", policy=name)
    other = client.register(site.id, second, "summer", policy="basic")
    assert house.job(client.deidentify(other.id).id).spec["policy"] == "basic"  # the preset, not the file of its name
    house.close()
