"""Several reports of one study: which holds, in which order addenda follow, and when nobody can say."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.deidentify.identities import Identities, Quarantine
from pipelines.deidentify.reports.intake.assemble import assemble
from pipelines.deidentify.reports.intake.report import SourceReport, Status


def report(
    text: str, status: Status = Status.UNKNOWN, written: str = "", source: str = "s1", who: str = ""
) -> SourceReport:
    identities = Identities(names=frozenset({who} - {""}))
    return SourceReport(source, "A1", "7", "", date(2019, 3, 7), text, identities, status=status, written=written)


def test_a_final_report_takes_the_place_of_a_preliminary_one():
    made = assemble(
        [report("Preliminary.", Status.PRELIMINARY, "2019030712"), report("Final.", Status.FINAL, "2019030710")]
    )
    assert made.report.text == "Final." and [r.text for r in made.replaced] == ["Preliminary."]


def test_a_correction_takes_the_place_of_what_was_final_and_the_last_one_holds():
    made = assemble([
        report("Third.", Status.CORRECTED, "20190309"),
        report("First.", Status.FINAL, "20190310"),
        report("Second.", Status.CORRECTED, "20190308"),
    ])  # fmt: skip
    assert made.report.text == "Third."


def test_addenda_follow_in_the_order_they_were_written_and_once():
    later, earlier = report("Later.", Status.ADDENDUM, "20190309"), report("Earlier.", Status.ADDENDUM, "20190308")
    made = assemble([later, report("Body.", Status.FINAL, "20190307"), earlier, later])
    assert made.report.text == "Body.\n\nADDENDUM: Earlier.\n\nADDENDUM: Later."


def test_an_addendum_that_repeats_the_report_is_not_joined_twice():
    made = assemble([report("Body.", written="1"), report("Body.\nADDENDUM: x", Status.ADDENDUM, "2")])
    assert made.report.text == "Body.\nADDENDUM: x"


def test_a_text_that_begins_with_addendum_is_one_whatever_its_status_says():
    made = assemble(
        [report("ADDENDUM: seen by two.", Status.FINAL, "20190308"), report("Body.", Status.FINAL, "20190307")]
    )
    assert made.report.text == "Body.\n\nADDENDUM: seen by two."


def test_identities_are_those_of_all_also_of_what_was_replaced():
    made = assemble([report("A.", Status.PRELIMINARY, who="Doe^Jane"), report("B.", Status.FINAL, who="Roe^Jo")])
    assert made.report.identities.names == {"Doe^Jane", "Roe^Jo"}


def test_what_was_withdrawn_is_gone():
    with pytest.raises(Quarantine) as verdict:
        assemble([report("Wrong patient.", Status.FINAL, "1"), report("Wrong patient.", Status.WITHDRAWN, "2")])
    assert verdict.value.reason == "withdrawn"
    made = assemble([
        report("Wrong.", Status.FINAL, "20190301"),
        report("Canceled.", Status.WITHDRAWN, "20190302"),
        report("Right.", Status.FINAL, "20190303"),
    ])  # fmt: skip
    assert made.report.text == "Right."


@pytest.mark.parametrize(
    "reports",
    [
        [report("One."), report("Another.")],
        [report("One.", Status.FINAL, "20190301"), report("Another.", Status.FINAL, "20190301")],
        [report("One.", Status.FINAL), report("Another.", Status.FINAL, "20190301")],
        [report("More.", Status.ADDENDUM)],
    ],
)
def test_when_nobody_can_say_which_holds_none_is_used(reports):
    with pytest.raises(Quarantine) as verdict:
        assemble(reports)
    assert verdict.value.reason == "ambiguous"


@given(st.permutations([
    report("Body.", Status.FINAL, "20190307"), report("Body, mended.", Status.CORRECTED, "20190308", "s2"),
    report("One more.", Status.ADDENDUM, "20190309", "s3"), report("Early.", Status.PRELIMINARY, "20190306", "s4"),
]))  # fmt: skip
def test_the_order_in_which_they_came_changes_nothing(reports):
    assert assemble(reports).report.text == "Body, mended.\n\nADDENDUM: One more."
