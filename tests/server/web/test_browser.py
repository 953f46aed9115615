"""The web UI in a real browser: sign-in, the live curve, no error on the console, nothing asked of another host."""

import shutil
import socket
import threading
import time

import pytest
import uvicorn
from playwright.sync_api import sync_playwright

from server.app import create_app
from server.jobs import finish
from server.store.models import Cohort, Job, LabelRun
from tests.server.web.conftest import PASSWORD

pytestmark = pytest.mark.browser
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]


@pytest.fixture(scope="module")
def address(furnished):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    settings = furnished.state.settings.model_copy(update={"port": port})
    server = uvicorn.Server(uvicorn.Config(create_app(settings), port=port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.05)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(10)


def _chromium(p):
    path = next((found for n in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(n))), None)
    return p.chromium.launch(executable_path=path, args=FLAGS)


def test_a_person_signs_in_and_sees_the_loss_curve_drawn(address):
    said, asked = [], []
    with sync_playwright() as p:
        browser = _chromium(p)
        page = browser.new_page()
        page.on("console", lambda m: said.append(m.text) if m.type == "error" else None)
        page.on("request", lambda r: asked.append(r.url))
        page.goto(f"{address}/runs/a00000000002")
        page.fill("input[name=name]", "everyone")
        page.fill("input[name=password]", PASSWORD)
        page.click("button.primary")
        page.wait_for_url("**/runs/a00000000002")
        page.goto(f"{address}/runs/a00000000001")
        page.wait_for_selector(".uplot canvas")
        page.goto(f"{address}/jobs/f00000000001")
        assert page.eval_on_selector("[data-share]", "bar => bar.style.width") == "75%"
        browser.close()
    assert said == []
    assert [u for u in asked if not u.startswith(address)] == []


def test_a_researcher_labels_an_export_and_builds_a_cohort_with_the_labels(address, furnished):
    with sync_playwright() as p:
        browser = _chromium(p)
        page = browser.new_page()
        page.goto(f"{address}/exports/e00000000003")
        page.fill("input[name=name]", "researcher")
        page.fill("input[name=password]", PASSWORD)
        page.click("button.primary")
        page.click("main >> text=Label >> nth=0")
        page.fill("input[name=name]", "Walked")
        page.click("button.primary")
        page.wait_for_selector("h1:has-text('Walked')")
        run = page.url.rsplit("/", 1)[-1]
        _finish(furnished, run)
        page.reload()
        assert "Pleural Effusion" in page.inner_text("#comparison")
        page.click("text=Build a cohort")
        assert page.is_checked(f"input[name=labels][value='{run}']")
        page.fill("input[name=name]", "Walked cohort")
        page.fill("input[name=label_sources]", "rules, site")
        page.click("button.primary")
        page.wait_for_selector("h1:has-text('Walked cohort')")
        with furnished.state.database.reading() as session:
            cohort = session.get_one(Cohort, page.url.rsplit("/", 1)[-1])
            assert (cohort.spec["labels"], cohort.spec["label_sources"]) == ([run], ["rules", "site"])
        browser.close()


def test_a_researcher_starts_a_study_and_sees_its_grid(address, furnished, tmp_path):
    with furnished.state.database.session() as session:
        counts = {"splits": {"train": {"images": 2000}}}
        cohort = session.get_one(Cohort, "c00000000002")
        cohort.result = (cohort.result or {}) | {"counts": counts}
    with sync_playwright() as p:
        browser = _chromium(p)
        page = browser.new_page(viewport={"width": 1280, "height": 1100})
        page.goto(f"{address}/studies/new")
        page.fill("input[name=name]", "researcher")
        page.fill("input[name=password]", PASSWORD)
        page.click("button.primary")
        page.wait_for_selector("h1:has-text('Start a scaling study')")
        page.fill("input[name=name]", "Walked study")
        page.check("input[name=encoders][value='mi2-tiny']")
        page.check("input[name=encoders][value='rad-dino-tiny']")
        page.fill("input[name=sizes]", "500, 1000")
        page.fill("input[name=seeds]", "0, 1")
        page.screenshot(path=tmp_path / "form.png", full_page=True)
        page.click("button.primary")
        page.wait_for_selector("h1:has-text('Walked study')")
        assert page.locator("a[href^='/runs/'] .mark").count() == 12, "three sizes, two seeds, two encoders"
        page.screenshot(path=tmp_path / "grid.png", full_page=True)
        page.click("text=Cancel the study")
        page.wait_for_selector("text=Resume what stopped")
        page.goto(f"{address}/studies/500000000002")
        page.wait_for_selector(".uplot canvas")
        page.screenshot(path=tmp_path / "study.png", full_page=True)
        browser.close()


def _finish(app, run):
    """What a worker does at the end of a label job, with the result of one that is ready already."""
    with app.state.database.session() as session:
        job = session.query(Job).filter_by(resource_kind="label", resource_id=run).one()
        job.state = "succeeded"
        result = session.get_one(LabelRun, "100000000002").result
        finish.apply(session, job, result, app.state.settings.root)


def test_a_click_on_an_image_moves_the_ring_and_the_maps(address, tmp_path):
    with sync_playwright() as p:
        browser = _chromium(p)
        page = browser.new_page(viewport={"width": 1280, "height": 1100})
        page.goto(f"{address}/similarities/600000000002?image=9")
        page.fill("input[name=name]", "researcher")
        page.fill("input[name=password]", PASSWORD)
        page.click("button.primary")
        page.goto(f"{address}/similarities/600000000002?image=9")
        page.click("input[type=image]", position={"x": 300, "y": 250})
        page.wait_for_url("**at.x=300*")
        ring = page.locator(".ring")
        assert (ring.get_attribute("cx"), ring.get_attribute("cy")) == ("300.00", "250.00")
        assert page.locator(".patch:not(.under)").first.get_attribute("x") == "240.00"
        assert page.locator(".maps image").count() == 2
        page.screenshot(path=tmp_path / "maps.png", full_page=True)
        browser.close()
