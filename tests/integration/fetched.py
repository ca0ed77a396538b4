"""What a browser or a mail program fetches by itself for a page, read from its HTML and CSS (requirements 3.3)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

# Attributes that are fetched without a click. `href` of <a> and `action` of <form> wait for one.
SOURCES = {
    "audio": ("src",),
    "body": ("background",),
    "embed": ("src",),
    "frame": ("src",),
    "iframe": ("src",),
    "image": ("href", "xlink:href"),
    "img": ("src", "srcset", "lowsrc"),
    "input": ("src",),
    "link": ("href", "imagesrcset"),
    "object": ("data", "codebase"),
    "script": ("src",),
    "source": ("src", "srcset"),
    "table": ("background",),
    "td": ("background",),
    "track": ("src",),
    "use": ("href", "xlink:href"),
    "v:fill": ("src",),
    "v:image": ("src",),
    "video": ("src", "poster"),
}
ONLY_NAMED = {"alternate", "author", "canonical", "help", "license", "next", "prev", "search"}  # a link's rel
IN_CSS = re.compile(r"""url\(\s*['"]?([^'")]+)|@import\s+['"]([^'"]+)|image-set\(\s*['"]([^'"]+)""", re.IGNORECASE)


@dataclass
class Fetched:
    """Addresses as they are written, by what they are for."""

    styles: list[str] = field(default_factory=list)
    scripts: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)

    @property
    def all(self) -> list[str]:
        return self.styles + self.scripts + self.other


def of_css(sheet: str) -> list[str]:
    bare = re.sub(r"/\*.*?\*/", "", sheet, flags=re.DOTALL)
    return [next(filter(None, found)) for found in IN_CSS.findall(bare)]


def of_html(page: str) -> Fetched:
    reader = _Reader()
    reader.feed(page)
    reader.close()
    return reader.fetched


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.fetched = Fetched()
        self._in_style = False

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        has = {name: value or "" for name, value in attributes}
        self._in_style = tag == "style"
        self.fetched.other += of_css(has.get("style", ""))
        if tag == "meta" and has.get("http-equiv", "").lower() == "refresh":
            self.fetched.other.append(has.get("content", "").rpartition("=")[2])
        if tag == "a" and "ping" in has:
            self.fetched.other += has["ping"].split()
        rel = set(has.get("rel", "").lower().split())
        if tag == "link" and rel and rel <= ONLY_NAMED:
            return
        for name in SOURCES.get(tag, ()):
            if name in has:
                self._kind(tag, rel).extend(_addresses(name, has[name]))

    def handle_endtag(self, tag: str) -> None:
        self._in_style = self._in_style and tag != "style"

    def handle_data(self, data: str) -> None:
        if self._in_style:
            self.fetched.other += of_css(data)

    def handle_comment(self, data: str) -> None:
        """Outlook reads what stands in its conditional comments."""
        if data.lstrip().startswith("[if"):
            inside = of_html(re.sub(r"^\s*\[if[^\]]*\]>|<!\[endif\]$", "", data))
            self.fetched.other += inside.all

    def _kind(self, tag: str, rel: set[str]) -> list[str]:
        if tag == "script":
            return self.fetched.scripts
        return self.fetched.styles if "stylesheet" in rel else self.fetched.other


def _addresses(attribute: str, value: str) -> list[str]:
    if attribute.endswith("srcset"):
        return [part.split()[0] for part in value.split(",") if part.strip()]
    return [value.strip()]
