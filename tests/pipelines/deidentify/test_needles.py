"""Own values are found again however they are written: divided, transliterated, in another language or charset."""

from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.deidentify.identities import Identities
from pipelines.deidentify.needles import Needles
from pipelines.deidentify.spellings import CHARSETS

SEPARATORS = st.sampled_from(["", "-", " ", ".", "/", "_", " - "])


def of(**identities: str) -> Needles:
    return Needles(Identities(**{kind: frozenset({value}) for kind, value in identities.items()}))


@settings(deadline=None)  # the first call loads the vocabulary
@given(st.from_regex(r"[A-Z]{2,4}[0-9]{5,9}", fullmatch=True), st.data())
def test_an_identifier_is_found_however_it_is_divided(value: str, data: st.DataObject) -> None:
    needles = of(ids=value)
    at = sorted(data.draw(st.sets(st.integers(1, len(value) - 1), max_size=3)))
    pieces = [value[a:b] for a, b in zip([0, *at], [*at, len(value)], strict=True)]
    written = pieces[0] + "".join(data.draw(SEPARATORS) + piece for piece in pieces[1:])
    assert needles.in_text(f"see {written.lower()}, again") == "value"
    assert Needles(Identities(ids=frozenset({written}))).in_text(f"no. {value}") == "value"


@settings(deadline=None)  # the first call loads the vocabulary
@given(st.integers(100_000, 10**9), st.integers(0, 4), st.sampled_from(["", "MRN", "pid-", "K "]))
def test_the_number_of_an_identifier_is_found_without_prefix_and_zeros(number: int, zeros: int, prefix: str) -> None:
    needles = of(ids=f"{prefix}{'0' * zeros}{number}")
    for written in (str(number), f"0{number}", f"MRN{number}", f"#{number}."):
        assert needles.in_text(f"bed {written} x") == "value"
        assert needles.in_bytes(f"bed {written} x".encode("utf-16-le"))
    assert needles.in_text(f"bed 1{number} x") is None
    assert needles.in_text(f"0.{number}") is None


def test_a_short_number_is_found_with_its_zeros() -> None:
    assert of(ids="00012345").in_text("no. 00012345") == "value"
    assert of(ids="00012345").in_text("12345") is None


@settings(deadline=None)  # the first call loads the vocabulary
@given(st.from_regex(r"[2-9][0-9]{9}", fullmatch=True), SEPARATORS, st.sampled_from(["", "+1 ", "1-"]))
def test_a_telephone_is_found_in_any_layout(digits: str, between: str, country: str) -> None:
    needles = of(phones=f"+1 ({digits[:3]}) {digits[3:6]}-{digits[6:]}")
    written = f"{country}{digits[:3]}{between}{digits[3:6]}{between}{digits[6:]}"
    assert needles.in_text(f"call {written} now") == "value"


@pytest.mark.parametrize(
    ("source", "written"),
    [
        ("Müller^Jürgen", "Mueller Juergen"), ("Müller^Jürgen", "MULLER, JURGEN"),
        ("Mueller^Juergen", "Müller, Jürgen"),
        ("Ødegård^Bjørn", "Bjoern Oedegaard"), ("Ødegård^Bjørn", "Odegard, Bjorn"), ("Peña^Íñigo", "inigo pena"),
        ("Groß^Ännchen", "Aennchen Gross"), ("Łuczak^Żaneta", "Zaneta Luczak"), ("Yağcı^Işıl", "Isil Yagci"),
        ("Кузнецова^Юлия", "Kuznetsova Yuliya"), ("Кузнецова^Юлия", "Kuznetsova, Iuliia"),
        ("Кузнецова^Юлия", "Julija Kuznecova"), ("Щербаков^Жан", "Shcherbakov Zhan"),
        ("Шевченко^Ганна", "Schewtschenko"),
        ("Παπαδοπούλου^Χρύσα", "Chrysa Papadopoulou"), ("Δημητρίου^Ηλίας", "Dimitriou Ilias"),
        ("Kuznetsova^Yuliya", "Кузнецова Юлия"), ("Papadopoulou^Chrysa", "Παπαδοπούλου Χρύσα"),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "山田太郎"), ("Yamada^Tarou=山田^太郎=やまだ^たろう", "TAROU YAMADA"),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "やまだ たろう"), ("Hong^Gildong=洪^吉洞=홍^길동", "홍길동"),
    ],
)  # fmt: skip
def test_a_name_is_found_in_another_spelling(source: str, written: str) -> None:
    assert of(names=source).in_text(f"seen: {written}.") in ("name", "value")


@pytest.mark.parametrize(
    "name", ["Müllerschön^Anja", "Кузнецовская^Юлия", "Παπαδοπούλου^Χρύσα", "山田^太郎", "王^小东", "홍^길동"]
)
def test_a_name_is_found_in_the_bytes_of_every_charset_that_can_write_it(name: str) -> None:
    needles, able = of(names=name), 0
    for charset in CHARSETS:
        try:
            data = name.replace("^", " ").encode(charset)
        except UnicodeEncodeError:
            continue
        able += 1
        assert needles.in_bytes(b"\x10\0LO" + data + b"\x10\0"), charset
    assert able >= 4


DAY = date(1987, 3, 9)


@pytest.mark.parametrize(
    "written",
    [
        "1987-03-09", "19870309", "1987/3/9", "09.03.1987", "9.3.87", "03/09/1987", "3/9/87", "9 March 1987",
        "March 9th, 1987", "9. März 1987", "9 mars 1987", "9 de marzo de 1987", "9 maart 1987", "9 marca 1987",
        "9 mars 1987", "9 марта 1987", "1987年3月9日", "09MAR1987", "09-Mar-87", "1987.03.09 10:42", "19870309104233",
    ],
)  # fmt: skip
def test_a_date_is_found_in_another_spelling(written: str) -> None:
    needles = Needles(Identities(dates=frozenset({DAY})))
    assert needles.in_text(f"exam of {written}, repeated") == "date"
