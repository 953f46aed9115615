"""A site's own policies are taken by name from the folder of policies, and from nowhere else."""

import re
from pathlib import Path

import pytest

from pipelines.deidentify.policy import FOLDER, load_policy
from server.access import Role
from server.client import ApiError
from server.store.models import Export, Site
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


def test_forms_offer_what_is_installed_and_take_the_choice(tmp_path: Path) -> None:
    folder = tmp_path / "policies"
    folder.mkdir()
    (folder / "ours.toml").write_text(TEXT)
    house = House(tmp_path, policies=folder)
    page = house.http(*Role)
    page.headers |= {"Accept": "text/html", "Origin": house.settings.url}
    page.post("/sites", data={"name": "Main", "policy": "ours"})
    with house.db.reading() as session:
        site = session.query(Site).one()
    assert site.policy == "ours"
    form = page.get("/exports/new").text
    assert chosen(form) == "the site&#39;s" and all(f">{name}</option>" in form for name in ("basic", "ours"))
    data = {"site": site.id, "name": "spring", "path": str(house.export_folder())}
    again = page.post("/exports", data=data | {"policy": "basic", "retain_until": "soon"})
    assert again.status_code == 422 and chosen(again.text) == "basic"
    shown = page.post("/exports", data=data)
    assert chosen(shown.text) == "ours"
    page.post(f"{shown.url.path}/deidentify", data={"policy": "basic"})
    with house.db.reading() as session:
        assert session.query(Export).one().policy == "basic"
    house.close()


def test_a_policy_that_is_gone_is_never_replaced_silently(tmp_path: Path) -> None:
    folder = tmp_path / "policies"
    folder.mkdir()
    (folder / "ours.toml").write_text(TEXT)
    house = House(tmp_path, policies=folder)
    client = house.client()
    export = client.register(client.create_site("Main").id, house.export_folder(), "spring", policy="ours")
    (folder / "ours.toml").unlink()
    page = house.http(*Role)
    page.headers |= {"Accept": "text/html", "Origin": house.settings.url}
    assert chosen(page.get(f"/exports/{export.id}").text) == "ours (no longer installed)"
    refused = page.post(f"/exports/{export.id}/deidentify", data={"policy": "ours"})
    assert refused.status_code == 422 and "choose one of basic, longitudinal-research." in refused.text
    house.close()


def chosen(page: str) -> str:
    """What the list of policies of a page stands on."""
    options = re.search(r'<select name="policy">(.*?)</select>', page, re.S)
    assert options
    marked = re.search(r"<option [^>]*selected[^>]*>(.*?)</option>", options[1])
    return (marked or re.search(r"<option[^>]*>(.*?)</option>", options[1]))[1]
