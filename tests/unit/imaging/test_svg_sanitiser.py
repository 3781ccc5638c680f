"""What a sanitised drawing keeps, and that nothing of it runs or loads."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from orchestrator.errors import Damaged, NotAnImage, TooLarge
from orchestrator.imaging.formats import svg_sanitiser
from orchestrator.imaging.formats.svg_sanitiser import sanitise
from orchestrator.imaging.pool import ImagingPool
from tests.golden.comparison import a_recipe, decode

_HEAD = (
    '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    ' xmlns:h="http://www.w3.org/1999/xhtml" viewBox="0 0 10 10" width="10" height="10">'
)
_JS = "javascript:alert(1)"

HOSTILE = {
    "script": "<script>alert(1)</script>",
    "script with a reference": '<script xlink:href="http://evil.example/a.js"/>',
    "script of a prefix": '<x:script xmlns:x="http://www.w3.org/2000/svg">alert(1)</x:script>',
    "script of HTML": "<h:script>alert(1)</h:script>",
    "script in what is allowed": "<defs><g><desc><script>alert(1)</script></desc></g></defs>",
    "script in what is removed": "<metadata><script>alert(1)</script></metadata>",
    "script in CDATA of a style": "<style><![CDATA[</style><script>alert(1)</script>]]></style>",
    "element in a style": "<style>a{}<script>alert(1)</script></style>",
    "event handler": '<rect onload="alert(1)" width="3" height="3"/>',
    "event handler in capitals": '<rect ONLOAD="alert(1)" OnClick="alert(1)"/>',
    "event handler of a prefix": '<rect h:onload="alert(1)"/>',
    "XML event": '<handler xmlns="http://www.w3.org/2001/xml-events">alert(1)</handler>',
    "listener": '<listener event="click" handler="#x"/>',
    "link": f'<a href="{_JS}"><rect width="1" height="1"/></a>',
    "link of xlink": f'<a xlink:href="{_JS}"><rect width="1" height="1"/></a>',
    "link with a line break": '<a xlink:href="java&#10;script:alert(1)"><rect/></a>',
    "link with leading controls": '<a href="&#9; javascript:alert(1)"><rect/></a>',
    "link to data": '<a href="data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg=="/>',
    "link elsewhere": '<a href="https://evil.example/"><rect/></a>',
    "animated link": f'<a><set attributeName="href" to="{_JS}"/></a>',
    "animated link of xlink": f'<a><animate attributeName="xlink:href" values="{_JS}"/></a>',
    "animated handler": '<animate attributeName="onload" to="alert(1)"/>',
    "foreignObject": '<foreignObject><h:iframe src="x"/></foreignObject>',
    "HTML": '<h:iframe src="javascript:alert(1)"/><h:body onload="alert(1)"/>',
    "embedded document": '<iframe xmlns="http://www.w3.org/1999/xhtml" srcdoc="x"/>',
    "image elsewhere": '<image href="http://evil.example/x.png"/>',
    "image of the same host": '<image href="/active/other.svg"/><image href="x.png"/>',
    "image of the machine": '<image xlink:href="file:///etc/passwd"/>',
    "image without a scheme": '<image href="//evil.example/x.png"/>',
    "drawing in an image": '<image href="data:image/svg+xml;base64,PHN2Zy8+"/>',
    "used from elsewhere": '<use href="http://evil.example/x.svg#a"/>',
    "used from data": '<use xlink:href="data:image/svg+xml,%3Csvg/%3E#x"/>',
    "filter that loads": '<filter id="f"><feImage href="http://evil.example/x"/></filter>',
    "import": "<style>@import url(http://evil.example/a.css);</style>",
    "import of a string": "<style>@import 'http://evil.example/a.css';</style>",
    "escaped import": "<style>@\\69mport url(http://evil.example/a.css);</style>",
    "font": "<style>@font-face{font-family:x;src:url(http://evil.example/f)}</style>",
    "address in a style": "<style>rect{fill:url(http://evil.example/x#a)}</style>",
    "quoted address in a style": "<style>rect{fill:url('http://evil.example/x')}</style>",
    "escaped address in a style": "<style>rect{fill:u\\72l(http://evil.example/x)}</style>",
    "image set in a style": "<style>a{background:image-set('http://evil.example/x' 1x)}</style>",
    "address in a media rule": "<style>@media all{a{fill:url(//evil.example)}}</style>",
    "address in a property": "<style>a{--x:url(//evil.example);fill:var(--x)}</style>",
    "style attribute": '<rect style="fill:url(http://evil.example/x);background:url(javascript:1)"/>',
    "expression": '<rect style="width:expression(alert(1))"/>',
    "behaviour": '<rect style="behavior:url(#x);-moz-binding:url(#y)"/>',
    "address in an attribute": '<rect fill="url(http://evil.example/x#a)" mask="url(x.svg#m)"/>',
    "escaped address in an attribute": '<rect fill="u\\72l(http://evil.example/x)"/>',
    "cursor": '<rect cursor="url(http://evil.example/c.cur)"/>',
    "processing instruction": '<?xml-stylesheet href="http://evil.example/a.xsl"?>',
    "comment for old browsers": "<!--[if IE]><script>alert(1)</script><![endif]-->",
    "base": '<g xml:base="http://evil.example/"><use href="#a"/></g>',
}  # fmt: skip
_FORBIDDEN = re.compile(
    r"evil|text/html|script|alert|/etc/passwd|\son\w+\s*=|foreignobject|iframe|svg\+xml|@import|@font|"
    r"expression|behavior|binding|base=|//|x\.png|x\.svg|other|handler|listener|<\?|<!",
    re.IGNORECASE,
)
_NAMESPACES = ' xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'


@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_that_runs_or_loads_is_kept(name: str) -> None:
    kept = sanitise(f"{_HEAD}{HOSTILE[name]}<circle r='4'/></svg>".encode()).decode()
    text = kept.replace(_NAMESPACES, "")
    # A style is text; what would be markup in it is escaped.
    assert _FORBIDDEN.search(re.sub(r"&lt;.*?&gt;", "", text)) is None, text
    assert '<circle r="4"></circle></svg>' in text


HEADS = {
    "external entity": (
        '<!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
        "<text>a&x;b</text>",
        "<text>ab</text>",
    ),
    "external entity in an attribute list": (
        '<!DOCTYPE svg [<!ATTLIST rect onload CDATA "alert(1)">]>',
        "<rect/>",
        "<rect></rect>",
    ),
    "parameter entity": (
        '<!DOCTYPE svg [<!ENTITY % p SYSTEM "http://evil.example/p.dtd"> %p;]>',
        "<rect/>",
        "<rect></rect>",
    ),
    "document type elsewhere": (
        '<!DOCTYPE svg SYSTEM "http://evil.example/x.dtd">',
        "<text>a&x;b</text>",
        "<text>ab</text>",
    ),
    "markup in an entity": (
        '<!DOCTYPE svg [<!ENTITY b "<script>alert(1)</script>">]>',
        "<text>&b;</text>",
        "<text></text>",
    ),
}


@pytest.mark.parametrize("name", HEADS)
def test_entities_are_expanded_and_never_loaded(name: str) -> None:
    head, body, expected = HEADS[name]
    kept = sanitise(f"{head}{_HEAD}{body}</svg>".encode()).decode()
    assert kept.endswith(f"{expected}</svg>")
    assert "DOCTYPE" not in kept


def _nested_entities(levels: int) -> bytes:
    entities = "".join(
        f'<!ENTITY e{n} "{f"&e{n - 1};" * 10 if n else "ten bytes."}">' for n in range(levels)
    )
    return f"<!DOCTYPE svg [{entities}]>{_HEAD}<text>&e{levels - 1};</text></svg>".encode()


REFUSED = {
    "expanding entities": (_nested_entities(9), (TooLarge, Damaged)),
    "entity that contains itself": (
        f'<!DOCTYPE svg [<!ENTITY a "&a;">]>{_HEAD}<text>&a;</text></svg>'.encode(),
        Damaged,
    ),
    "deep nesting": (f"{_HEAD}{'<g>' * 100_000}{'</g>' * 100_000}</svg>".encode(), TooLarge),
    "deep nesting of what is removed": (
        f"{_HEAD}{'<h:p>' * 100_000}{'</h:p>' * 100_000}</svg>".encode(),
        TooLarge,
    ),
    "too many elements": (f"{_HEAD}{'<g/>' * 500_001}</svg>".encode(), TooLarge),
    "nested style": (f"{_HEAD}<style>{'@media all{' * 5000}</style></svg>".encode(), Damaged),
    "long style": (f"{_HEAD}<style>{'a{} ' * 300_000}</style></svg>".encode(), TooLarge),
    "second file behind it": (f"{_HEAD}</svg><script>alert(1)</script>".encode(), Damaged),
    "not whole": (f"{_HEAD}<rect".encode(), Damaged),
    "unknown encoding": (f'<?xml version="1.0" encoding="UTF-7"?>{_HEAD}</svg>'.encode(), Damaged),
    "HTML": (b"<html><svg xmlns='http://www.w3.org/2000/svg'/></html>", NotAnImage),
    "no namespace": (b"<svg><script>alert(1)</script></svg>", NotAnImage),
}  # fmt: skip


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", REFUSED)
def test_a_drawing_that_is_broken_or_too_large_is_refused(name: str) -> None:
    body, error = REFUSED[name]
    with pytest.raises(error):
        sanitise(body)


def test_style_parts_that_load_nothing_are_kept() -> None:
    style = (
        "@media print { .a { fill: red } } .b, rect:not(.c) > g { fill: url(#paint);"
        " stroke: rgb(1, 2, 3); transform: rotate(45deg) } @import 'x';"
    )
    kept = sanitise(f"{_HEAD}<style>{style}</style></svg>".encode()).decode()
    assert "@media print {.a {fill: red}}" in kept
    assert ".b, rect:not(.c) &gt; g {fill: url(#paint); stroke: rgb(1, 2, 3);" in kept
    assert "import" not in kept


def test_a_picture_in_the_drawing_and_references_within_it_are_kept() -> None:
    body = (
        '<image href="data:image/png;base64,iVBORw0KGgo="/><use xlink:href="#mark"/>'
        '<rect fill="url(#paint)" filter="url(#f)"/><a href="#mark"/>'
    )
    kept = sanitise(f"{_HEAD}{body}</svg>".encode()).decode()
    for part in ('href="data:image/png;base64,iVBORw0KGgo="', 'xlink:href="#mark"', "url(#f)"):
        assert part in kept
    assert ElementTree.fromstring(kept).tag == "{http://www.w3.org/2000/svg}svg"


_DRAWING = """<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd" [
  <!ENTITY ns_svg "http://www.w3.org/2000/svg"> <!ENTITY blue "fill:#2040c0">
]>
<svg xmlns="&ns_svg;" xmlns:xlink="http://www.w3.org/1999/xlink" width="80" height="60"
  xmlns:inkscape="http://www.inkscape.org/namespaces/inkscape" inkscape:version="1.2">
  <inkscape:namedview inkscape:zoom="2"/><metadata>somewhere</metadata>
  <defs><linearGradient id="g"><stop offset="0" stop-color="#fff"/>
    <stop offset="1" style="stop-color:#c02020"/></linearGradient>
    <clipPath id="c"><circle cx="40" cy="30" r="25"/></clipPath>
    <path id="p" d="M0,0 10,0 5,9z"/></defs>
  <style>.s { stroke: #20a040; stroke-width: 3 }</style>
  <rect width="80" height="60" fill="url(#g)"/>
  <g clip-path="url(#c)" inkscape:label="layer"><rect class="s" x="20" y="10" width="30" height="30"
    style="&blue;"/></g>
  <use xlink:href="#p" x="60" y="5" transform="rotate(10 60 5)"/>
  <text x="5" y="50" font-size="14"><tspan>A</tspan><tspan fill="red">B</tspan> c</text>
</svg>"""


@pytest.mark.parametrize("is_compressed", [False, True], ids=["plain", "compressed"])
async def test_a_sanitised_drawing_looks_as_before(
    pool: ImagingPool, tmp_path: Path, is_compressed: bool
) -> None:
    original, sanitised = tmp_path / "original.svg", tmp_path / "sanitised.svg"
    body = _DRAWING.encode()
    original.write_bytes(gzip.compress(body) if is_compressed else body)
    sanitised.write_bytes(await pool.sanitise_svg(original))
    assert b"somewhere" not in sanitised.read_bytes()
    rendered = []
    for path in (original, sanitised):
        facts = await pool.probe(path)
        rendered.append(decode(await pool.render(a_recipe(path, facts))))
    assert (rendered[0] == rendered[1]).all()


async def test_the_pool_bounds_a_drawing_that_unpacks_to_very_much(
    pool: ImagingPool, tmp_path: Path
) -> None:
    path = tmp_path / "bomb.svgz"
    path.write_bytes(gzip.compress(f"{_HEAD}{' ' * 100_000_000}</svg>".encode()))
    with pytest.raises(TooLarge):
        await pool.sanitise_svg(path)


def test_the_longest_drawing_with_many_elements_is_bounded_in_memory() -> None:
    body = f"{_HEAD}{'<g/>' * (svg_sanitiser.MAX_ELEMENTS - 2)}</svg>".encode()
    assert len(sanitise(body)) < 4 * len(body)
