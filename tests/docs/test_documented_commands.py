"""The other pages: their commands run, the targets they name exist, their links lead somewhere."""

import json
import re

from tests.conftest import ROOT
from tests.docs.pages import bash, blocks, environment


def test_the_page_on_policies(tmp_path):
    """The policy file of the page is valid, its commands run, and every setting it may have is on the page."""
    from pipelines.deidentify.policy import Options
    from tests.dicoms import as_bytes, instance

    (policy,) = blocks("deidentification.md", "toml")
    (tmp_path / "my-policy.toml").write_text(policy)
    (tmp_path / "aliases.csv").write_text("old,current\nA1,A2\n")
    (tmp_path / "opt-out.txt").write_text("B1\n")
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "a").write_bytes(as_bytes(instance()))
    done = bash("\n".join(blocks("deidentification.md", "sh")), tmp_path, environment(tmp_path))
    assert done.returncode == 0, done.stderr[-1500:]
    assert "is valid" in done.stdout and json.loads((tmp_path / "basic.json").read_text())["options.dates"] == "remove"
    assert (tmp_path / "out" / "result.json").exists()
    page = (ROOT / "docs" / "deidentification.md").read_text()
    assert all(f"`options.{name}`" in page for name in Options.model_fields)


def test_readme_names_only_targets_that_exist():
    text = (ROOT / "README.md").read_text() + (ROOT / "docs" / "operations.md").read_text()
    targets = set(re.findall(r"make ([a-z][a-z-]+)", text))
    makefile = (ROOT / "Makefile").read_text()
    assert {"demo", "test", "up"} <= targets
    assert all(re.search(rf"^{t}:", makefile, re.MULTILINE) for t in targets), targets


def test_links_between_documents_lead_somewhere():
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
