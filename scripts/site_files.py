"""Hooks of mkdocs.yml: the site also has the files beside `docs` that its pages link to.

In the repository a page links to `../config/nginx.conf`; on the site `config` is a folder of the
site. So the files become files of the site, and the links lose one `../`.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
OTHERS = ("LICENSE",)
_LINK = re.compile(r"(\]\()([^)#:\s]+)")


def on_config(config: Any) -> Any:
    """Add the decision records to the navigation."""
    records = sorted((ROOT / "docs" / "adr").glob("*.md"))
    config.nav[-1]["Inside"].append({"Decisions": [f"adr/{path.name}" for path in records]})
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages and files beside `docs` that pages link to."""
    outside = {*PAGES, *OTHERS}
    for file in files.documentation_pages():
        outside |= {path for path in _targets(file.src_uri, file.content_string) if path}
    for path in sorted(outside):
        files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn links to files beside `docs` into links to their copies on the site."""
    uri = page.file.src_uri
    if uri in PAGES:
        return re.sub(r"\]\(docs/", "](", markdown)
    return _LINK.sub(lambda match: match[1] + _on_site(uri, match[2]), markdown)


def _targets(uri: str, markdown: str) -> list[str]:
    """The files beside `docs` that a page links to."""
    return [_outside(uri, match[2]) for match in _LINK.finditer(markdown)]


def _outside(uri: str, target: str) -> str:
    """The path of a file beside `docs` from the root of the repository; "" for other targets."""
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(uri), target))
    is_outside = target.startswith("../") and not path.startswith("docs/")
    return path if is_outside and (ROOT / path).is_file() else ""


def _on_site(uri: str, target: str) -> str:
    return target.removeprefix("../") if _outside(uri, target) else target
