"""SVG: what is recognised, what is read, and that nothing outside the file is loaded."""

from __future__ import annotations

import gzip
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import numpy as np
import pytest

from orchestrator.errors import Damaged, NotAnImage, TooLarge, Unprocessable
from orchestrator.imaging.formats import svg_text
from orchestrator.imaging.formats.file_type import HEAD_BYTES, sniff_file
from orchestrator.imaging.pool import ImagingPool
from tests.golden.comparison import a_recipe, decode
from tests.support import pictures
from tests.support.http_server import respond, run_http_server
from tests.support.patience import patience

_NS = 'xmlns="http://www.w3.org/2000/svg"'
_BODY = '<rect width="40" height="30" fill="#80c040"/><rect width="10" height="10" fill="#dc1e1e"/>'
_SVG = f'<svg {_NS} width="40" height="30">{_BODY}</svg>'
_ADOBE = """<?xml version="1.0" encoding="utf-8"?>
<!-- Generator: Adobe Illustrator 16.0.0 -->
<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/svg11.dtd" [
<!ENTITY ns_ai "http://ns.adobe.com/AdobeIllustrator/10.0/"> <!-- ]> -->
<!ENTITY quote 'a "]>" inside'>
]>
"""
_PREFIXED = _SVG.replace("<svg xmlns=", "<svg:svg xmlns:svg=").replace("</svg>", "</svg:svg>")
DRAWINGS = {
    "plain": _SVG.encode(),
    "internal subset with entities": (_ADOBE + _SVG).encode(),
    "entity used": (
        '<!DOCTYPE svg [<!ENTITY w "40">]>' + _SVG.replace('width="40"', 'width="&w;"')
    ).encode(),
    "long comment": f"<?xml version='1.0'?><!--{'licence ' * 8000}-->{_SVG}".encode(),
    "many comments": ("<!-- <svg> -->\n" * 500 + _SVG).encode(),
    "prefix": _PREFIXED.replace("<rect", "<svg:rect").encode(),
    "style sheet": f'<?xml version="1.0"?><?xml-stylesheet href="x.css"?>{_SVG}'.encode(),
    "white space": (" \r\n\t" * 2000 + _SVG).encode(),
    "byte order mark": b"\xef\xbb\xbf" + _SVG.encode(),
    "UTF-16": ('<?xml version="1.0" encoding="UTF-16"?>' + _SVG).encode("utf-16"),
    "UTF-16, big-endian": b"\xfe\xff" + _SVG.encode("utf-16-be"),
    "UTF-16 without a mark": f'<?xml version="1.0"?>{_SVG}'.encode("utf-16-le"),
    "Latin-1": f'<?xml version="1.0" encoding="ISO-8859-1"?><!-- \xe9 -->{_SVG}'.encode("latin-1"),
    "compressed": gzip.compress((_ADOBE + _SVG).encode()),
    "upper-case doctype": f"<!DOCTYPE SVG>{_SVG}".encode(),
}


@pytest.mark.parametrize("name", DRAWINGS)
async def test_a_drawing_is_recognised_and_rendered(
    pool: ImagingPool, tmp_path: Path, name: str
) -> None:
    path = tmp_path / "drawing"
    path.write_bytes(DRAWINGS[name])
    assert sniff_file(path) == "svg"
    facts = await pool.probe(path)
    assert facts.dimensions == (40, 30)
    actual = decode(await pool.render(a_recipe(path, facts)))[..., :3].astype(int)
    assert np.abs(actual[20, 30] - (0x80, 0xC0, 0x40)).max() <= 2
    assert np.abs(actual[5, 5] - (0xDC, 0x1E, 0x1E)).max() <= 2


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"<!DOCTYPE html><html><svg></svg></html>", id="html"),
        pytest.param(b"<!-- <svg> --><html></html>", id="html after a comment"),
        pytest.param(b'<?xml version="1.0"?><rss><svg/></rss>', id="other XML"),
        pytest.param(b"<!-- endless " * 50_000, id="endless comment"),
        pytest.param(b"<!DOCTYPE svg [" + b"<!ENTITY a 'b'>" * 50_000, id="endless subset"),
        pytest.param(b"<!DOCTYPE svg [" + b"\"'" * 200_000, id="quotes"),
        pytest.param(b"<?" * 200_000, id="instructions"),
        pytest.param(b" " * 1_000_000, id="blanks"),
        pytest.param(b"<svgx>", id="another name"),
        pytest.param(gzip.compress(b"hello"), id="compressed text"),
        pytest.param(b"\x1f\x8b" + b"\x00" * 100, id="no compressed data"),
        pytest.param(gzip.compress(bytes(50_000_000)), id="compressed zeros"),
        pytest.param(b"\xff\xfeh\x00i\x00", id="UTF-16 text"),
    ],
)
def test_other_text_is_no_picture_and_is_refused_quickly(tmp_path: Path, body: bytes) -> None:
    path = tmp_path / "text"
    path.write_bytes(body)
    started = time.process_time()
    with pytest.raises(NotAnImage):
        sniff_file(path)
    assert time.process_time() - started < 1


def test_the_root_element_must_begin_in_the_bytes_that_are_searched(tmp_path: Path) -> None:
    path = tmp_path / "late.svg"
    path.write_bytes(b"<!--" + b" " * (HEAD_BYTES + svg_text.HEAD_BYTES) + b"-->" + _SVG.encode())
    with pytest.raises(NotAnImage):
        sniff_file(path)


def _many_laughs(levels: int = 9) -> str:
    entities = ['<!ENTITY e0 "ha">']
    entities += [f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, levels + 1)]
    return (
        f"<!DOCTYPE svg [{''.join(entities)}]>"
        f'<svg {_NS} width="40" height="30"><text y="20">&e{levels};</text></svg>'
    )


async def test_entities_are_not_expanded_without_bound(pool: ImagingPool, tmp_path: Path) -> None:
    path = tmp_path / "laughs.svg"
    path.write_text(_many_laughs())
    started = time.monotonic()
    try:
        facts = await pool.probe(path)
        await pool.render(a_recipe(path, facts))
    except Unprocessable:
        pass
    assert time.monotonic() - started < 10 * patience()


async def test_a_compressed_drawing_that_grows_beyond_the_limit_is_refused(
    pool: ImagingPool, tmp_path: Path
) -> None:
    path = tmp_path / "bomb.svgz"
    body = _SVG.encode()[:-6] + b" " * (svg_text.MAX_BYTES + 100) + b"</svg>"
    path.write_bytes(gzip.compress(body))
    assert path.stat().st_size < 100_000
    with pytest.raises(TooLarge):
        await pool.probe(path)
    path.write_bytes(gzip.compress(_SVG.encode())[:-20])
    with pytest.raises(Damaged):
        await pool.probe(path)


_REFERENCES = {
    "external entity": '<!DOCTYPE svg [<!ENTITY x SYSTEM "{url}">]>'
    '<svg {ns} width="40" height="30"><rect width="40" height="30" fill="white"/>'
    '<text y="20">&x;</text></svg>',
    "external subset": '<!DOCTYPE svg SYSTEM "{url}">' + _SVG.replace(_NS, "{ns}"),
    "parameter entity": '<!DOCTYPE svg [<!ENTITY % p SYSTEM "{url}"> %p;]>'
    + _SVG.replace(_NS, "{ns}"),
    "image": '<svg {ns} width="40" height="30"><rect width="40" height="30" fill="white"/>'
    '<image width="40" height="30" href="{url}"/></svg>',
    "xlink image": '<svg {ns} xmlns:xlink="http://www.w3.org/1999/xlink" width="40" height="30">'
    '<rect width="40" height="30" fill="white"/>'
    '<image width="40" height="30" xlink:href="{url}"/></svg>',
    "use": '<svg {ns} xmlns:xlink="http://www.w3.org/1999/xlink" width="40" height="30">'
    '<rect width="40" height="30" fill="white"/><use xlink:href="{url}#a"/></svg>',
    "import": '<svg {ns} width="40" height="30"><style>@import url("{url}");</style>'
    '<rect width="40" height="30" fill="white"/></svg>',
    "style sheet": '<?xml-stylesheet type="text/css" href="{url}"?>'
    '<svg {ns} width="40" height="30"><rect width="40" height="30" fill="white"/></svg>',
    "XInclude": '<svg {ns} xmlns:xi="http://www.w3.org/2001/XInclude" width="40" height="30">'
    '<rect width="40" height="30" fill="white"/><text y="20">'
    '<xi:include href="{url}" parse="text"/></text></svg>',
    "filter image": '<svg {ns} width="40" height="30"><filter id="f"><feImage href="{url}"/>'
    '</filter><rect width="40" height="30" fill="white"/>'
    '<rect width="40" height="30" filter="url(#f)"/></svg>',
}


@pytest.mark.parametrize("name", _REFERENCES)
async def test_nothing_outside_the_drawing_is_loaded(
    pool: ImagingPool, tmp_path: Path, name: str
) -> None:
    secret = pictures.png(tmp_path / "secret.png", 40, 30)
    picture = secret.read_bytes()
    requested: list[str] = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        requested.append(request.path)
        respond(request, "image/png", picture)

    path = tmp_path / "a.svg"
    with run_http_server(answer) as port:
        address = f"http://127.0.0.1:{port}/leak.png"
        for url in (address, secret.as_uri(), str(secret), "secret.png"):
            path.write_text(_REFERENCES[name].replace("{url}", url).replace("{ns}", _NS))
            try:
                facts = await pool.probe(path)
                actual = decode(await pool.render(a_recipe(path, facts, format="jpg")))
            except Unprocessable:
                continue
            if "white" in _REFERENCES[name]:
                assert actual.min() > 250
    assert requested == []
