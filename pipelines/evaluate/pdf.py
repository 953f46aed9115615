"""The report as PDF, for printing and filing: the same words, tables and figures as report.html, read from it.

Only what our own template writes is understood: headings, paragraphs, lists, tables, inline SVG and PNG pictures. The
same HTML gives the same bytes.
"""

from __future__ import annotations

import base64
import io
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from lxml import etree, html
from reportlab.graphics.shapes import Drawing
from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.platypus import Flowable, Image, KeepTogether, Paragraph, SimpleDocTemplate, Spacer, Table, TableStyle
from svglib.fonts import register_font
from svglib.svglib import svg2rlg

from pipelines.contract import atomic

MARGIN = 16 * mm
WIDTH = A4[0] - 2 * MARGIN
FONT, BOLD = "DejaVuSans", "DejaVuSans-Bold"
INK, SOFT, LINE = colors.HexColor("#16201f"), colors.HexColor("#4c5a59"), colors.HexColor("#c9cdc8")
SIZES = {"h1": 17, "h2": 13, "h3": 9.5, "answer": 12, "soft": 8, "banner": 8, "cell": 7}
PAPER = {  # the print colours of report.css
    "ground": "#ffffff",
    "surface": "#ffffff",
    "line": "#c9cdc8",
    "ink": "#16201f",
    "soft": "#4c5a59",
    "faint": "#6d7a78",
    "light": "#0b6f83",
    "good": "#23743a",
    "attention": "#8a5a00",
    "bad": "#b3372a",
    "rad-dino": "#0072b2",
    "mi2": "#b35900",
    "baseline": "#5f6b6a",
}
SVG_STYLE = (
    f"text {{ fill: {PAPER['ink']}; font-family: {FONT}; font-size: 12px }} "
    f".tick {{ fill: {PAPER['soft']}; font-size: 11px }} .group, .strong {{ font-weight: bold }} "
    f".grid {{ stroke: {PAPER['line']} }} "
    f".mark-line {{ stroke: {PAPER['soft']}; stroke-dasharray: 3 3 }} .reach, .dot {{ stroke-width: 2 }}"
)


def write(path: Path, page: str) -> None:
    """Write the PDF of a report's HTML atomically."""
    _register()
    with atomic(path) as temporary:
        document = SimpleDocTemplate(
            str(temporary),
            pagesize=A4,
            leftMargin=MARGIN,
            rightMargin=MARGIN,
            topMargin=MARGIN,
            bottomMargin=MARGIN,
            title=html.fromstring(page).findtext(".//title"),
            invariant=1,
        )
        document.build(story(page), onFirstPage=_number, onLaterPages=_number)


def story(page: str) -> list[Flowable]:
    """The flowables of a report's HTML, in order."""
    return _flow(html.fromstring(page).find(".//main"))


def _flow(parent: Any) -> list[Flowable]:
    parts: list[Flowable] = []
    for element in parent.iterchildren(tag=etree.Element):
        if element.tag in ("p", "h1", "h2", "h3", "figcaption", "blockquote", "pre", "summary"):
            parts.append(_paragraph(element))
        elif element.tag in ("ul", "ol"):
            parts += [Paragraph(f"•  {_inline(item)}", _style("p", left=10)) for item in element.iter("li")]
        elif element.tag == "table":
            parts += [*(_paragraph(c, "soft") for c in element.iter("caption")), _table(element), Spacer(1, 6)]
        elif element.tag == "svg":
            parts.append(_svg(element))
        elif element.tag == "img":
            parts += _image(element)
        elif element.tag == "figure":
            # A heading never stands alone at the foot of a page.
            heading = [parts.pop()] if parts and parts[-1].getKeepWithNext() else []
            parts.append(KeepTogether([*heading, *_flow(element), Spacer(1, 6)]))
        elif element.tag not in ("style", "script"):
            parts += _flow(element) or ([_paragraph(element)] if element.text_content().strip() else [])
    return parts


def _paragraph(element: Any, kind: str = "") -> Paragraph:
    names = (element.get("class") or "").split()
    kind = kind or next((n for n in names if n in SIZES), "soft" if element.tag == "figcaption" else element.tag)
    return Paragraph(_inline(element), _style(kind))


def _style(kind: str, left: float = 0) -> ParagraphStyle:
    size = SIZES.get(kind, 9)
    heading = kind in ("h1", "h2", "h3")
    return ParagraphStyle(
        kind,
        fontName=BOLD if heading else FONT,
        fontSize=size,
        leading=size * 1.4,
        textColor=SOFT if kind == "soft" else colors.HexColor(PAPER["attention"]) if kind == "banner" else INK,
        spaceBefore=size if heading else 0,
        spaceAfter=size * 0.5,
        leftIndent=left,
        keepWithNext=heading,
    )


def _inline(element: Any) -> str:
    """Text as reportlab's markup: bold kept, what is marked underlined, links as their words."""
    said = escape(element.text or "")
    for child in element.iterchildren(tag=etree.Element):
        inner = _inline(child)
        if child.tag in ("strong", "b"):
            inner = f'<font name="{BOLD}">{inner}</font>'
        elif child.tag == "mark":
            inner = f"<u>{inner}</u>"
        said += ("<br/>" if child.tag == "br" else inner) + escape(child.tail or "")
    return re.sub(r"[ \n]+", " ", said).strip(" ") if element.tag not in ("span", "mark") else said


def _table(element: Any) -> Table:
    rows: list[list[Any]] = []
    styles: list[tuple[Any, ...]] = [
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LINEBELOW", (0, 0), (-1, -1), 0.4, LINE),
        ("LEFTPADDING", (0, 0), (-1, -1), 0),
        ("RIGHTPADDING", (0, 0), (-1, -1), 6),
    ]
    heads = 0
    for row in element.iter("tr"):
        cells: list[Any] = []
        head = row.getparent().tag == "thead"
        heads += head
        strong = bool({"macro", "group"} & set((row.get("class") or "").split()))
        for cell in row.iterchildren("th", "td"):
            span = int(cell.get("colspan", 1))
            cells += [_cell(cell, head, strong), *[""] * (span - 1)]
            if span > 1:
                styles.append(("SPAN", (len(cells) - span, len(rows)), (len(cells) - 1, len(rows))))
        rows.append(cells)
    columns = max(map(len, rows))
    rows = [row + [""] * (columns - len(row)) for row in rows]
    return Table(rows, colWidths=_widths(element, columns), repeatRows=heads, style=TableStyle(styles))


def _cell(cell: Any, head: bool, strong: bool) -> Paragraph:
    right = "num" in (cell.get("class") or "").split()
    style = ParagraphStyle(
        "cell",
        fontName=BOLD if strong else FONT,
        fontSize=SIZES["cell"],
        leading=SIZES["cell"] * 1.3,
        textColor=SOFT if head else INK,
        alignment=2 if right else 0,
        splitLongWords=True,
    )
    words = _inline(cell)
    mark = {"better": "▲ ", "worse": "▼ "}.get(words, "") if cell.find(".//span[@class]") is not None else ""
    return Paragraph(mark + words, style)


def _widths(element: Any, columns: int) -> list[float]:
    """Shares of the page by the longest text of each column, none narrower than a short number."""
    longest = [4.0] * columns
    for row in element.iter("tr"):
        cells = list(row.iterchildren("th", "td"))
        if len(cells) == columns:
            longest = [max(n, min(len(c.text_content().strip()), 26)) for n, c in zip(longest, cells, strict=True)]
    return [WIDTH * n / sum(longest) for n in longest]


def _svg(element: Any) -> Flowable:
    """An inline figure, its CSS variables and classes as the printed page has them, as wide as the page."""
    source = etree.tostring(element, encoding="unicode", with_tail=False)
    source = re.sub(r"var\(--([\w-]+)\)", lambda m: PAPER.get(m[1], PAPER["ink"]), source)
    if "xmlns=" not in source:
        source = source.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)
    source = source.replace("viewbox=", "viewBox=")
    _, _, width, height = re.search(r'viewBox="([^"]+)"', source)[1].split()  # type: ignore[index]
    source = source.replace("<svg", f'<svg width="{width}" height="{height}"', 1)
    source = re.sub(r"(<svg[^>]*>)", rf"\1<style>{SVG_STYLE}</style>", source, count=1)
    drawing = svg2rlg(io.BytesIO(source.encode()))
    assert isinstance(drawing, Drawing)  # noqa: S101 - our own figures are whole
    scale = WIDTH / drawing.width
    drawing.scale(scale, scale)
    drawing.width, drawing.height = WIDTH, drawing.height * scale
    return drawing


def _image(element: Any) -> list[Flowable]:
    source = element.get("src") or ""
    if not source.startswith("data:image/"):
        return []
    picture = Image(io.BytesIO(base64.b64decode(source.split(",", 1)[1])))
    scale = min(1.0, WIDTH / picture.imageWidth, 90 * mm / picture.imageHeight)
    picture.drawWidth, picture.drawHeight = picture.imageWidth * scale, picture.imageHeight * scale
    return [picture]


def _number(canvas: Any, document: Any) -> None:
    canvas.setFont(FONT, 7)
    canvas.setFillColor(SOFT)
    canvas.drawRightString(A4[0] - MARGIN, 8 * mm, f"page {document.page}")


def _register() -> None:
    """DejaVu, which has every character of the report and comes with matplotlib."""
    spec = find_spec("matplotlib")
    folder = Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf"  # type: ignore[union-attr, arg-type]
    for name in (FONT, BOLD):
        if name not in pdfmetrics.getRegisteredFontNames():
            pdfmetrics.registerFont(TTFont(name, str(folder / f"{name}.ttf")))
    register_font(FONT, str(folder / f"{FONT}.ttf"), "normal", "normal")
    register_font(FONT, str(folder / f"{BOLD}.ttf"), "bold", "normal", BOLD)
