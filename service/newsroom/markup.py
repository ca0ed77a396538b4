"""An item's Markdown, as HTML that is safe in a mail and as text for reading.

HTML that an editor types stays visible as text; pictures, and headings above the item's own, aren't for mails.
"""

from __future__ import annotations

import re
import textwrap
from functools import lru_cache
from urllib.parse import unquote

import nh3
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markdown_it.tree import SyntaxTreeNode

from service import errors

DEEPEST = 50  # far above what anybody reads, far below what hurts a parser (requirements 1.4)
LONGEST = 20_000
WIDTH = 72
LINK = re.compile(r"https?://|mailto:", re.IGNORECASE)  # a mail has no page that the rest could start from
TAGS = {"p", "br", "strong", "em", "a", "ul", "ol", "li", "blockquote", "h3", "code", "pre", "hr"}


def check(markdown: str) -> None:
    """Raises Refused on field "body" for what can't be mailed."""
    _refuse_unfit(_parse(markdown))


def to_html(markdown: str) -> str:
    """Raises Refused like `check`."""
    tokens = _parse(markdown)
    _refuse_unfit(tokens)
    for token in tokens:
        if token.type.startswith("heading"):
            token.tag = "h3"  # the item's title is an h2
    parser = _parser()
    return _clean(parser.renderer.render(tokens, parser.options, {})).strip()


def to_text(markdown: str) -> str:
    """Lines of WIDTH at most, whole web addresses excepted. Raises Refused like `check`."""
    tokens = _parse(markdown)
    _refuse_unfit(tokens)
    return _blocks(SyntaxTreeNode(tokens).children, WIDTH)


@lru_cache(maxsize=1)
def _parser() -> MarkdownIt:
    # One level more than we take: the parser drops what is deeper without a word.
    return MarkdownIt("commonmark", {"html": False, "maxNesting": DEEPEST + 2})


def _parse(markdown: str) -> list[Token]:
    if len(markdown) > LONGEST:
        raise errors.Refused("body", "The text is too long: %(most)s characters at most.", most=LONGEST)
    return _parser().parse(markdown)


def _refuse_unfit(tokens: list[Token], depth: int = 0) -> None:
    for token in tokens:
        depth += token.nesting
        if depth >= DEEPEST:
            raise errors.Refused("body", "Lists or quotations lie too deep in each other.")
        if token.type == "image":
            raise errors.Refused("body", "Pictures can’t be in a mail. Link to the page that shows it.")
        if token.type == "link_open" and not LINK.match(str(token.attrs.get("href", ""))):
            raise errors.Refused("body", "A link needs a whole web address, as in https://example.nl/page.")
        _refuse_unfit(token.children or [], depth)


def _clean(html: str) -> str:
    return nh3.clean(
        html,
        tags=TAGS,
        attributes={"a": {"href"}, "ol": {"start"}},
        url_schemes={"http", "https", "mailto"},
        link_rel=None,
    )


def _blocks(nodes: list[SyntaxTreeNode], width: int, between: str = "\n\n") -> str:
    return between.join(block for block in (_block(node, width) for node in nodes) if block)


def _block(node: SyntaxTreeNode, width: int) -> str:
    match node.type:
        case "paragraph" | "heading":
            return _wrapped(_inline(node.children), width)
        case "bullet_list":
            return _list(node, ["- "] * len(node.children), width)
        case "ordered_list":
            first = int(node.attrs.get("start", 1))
            return _list(node, [f"{first + place}. " for place in range(len(node.children))], width)
        case "blockquote":
            return textwrap.indent(_blocks(node.children, _narrower(width, 2)), "> ", lambda line: True)
        case "fence" | "code_block":
            return textwrap.indent(node.content.rstrip("\n"), "    ")
        case "hr":
            return "* * *"
        case _:
            return _blocks(node.children, width)


def _list(node: SyntaxTreeNode, signs: list[str], width: int) -> str:
    entries = []
    for sign, entry in zip(signs, node.children, strict=True):
        body = _blocks(entry.children, _narrower(width, len(sign)), "\n" if _tight(entry) else "\n\n")
        entries.append(sign + textwrap.indent(body, " " * len(sign))[len(sign) :])
    return ("\n" if all(map(_tight, node.children)) else "\n\n").join(entries)


def _tight(entry: SyntaxTreeNode) -> bool:
    return any(child.hidden for child in entry.children)


def _narrower(width: int, by: int) -> int:
    return max(width - by, 20)


def _wrapped(text: str, width: int) -> str:
    lines = text.split("\n")
    return "\n".join(textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False) for line in lines)


def _inline(nodes: list[SyntaxTreeNode]) -> str:
    return "".join(_span(node) for node in nodes)


def _span(node: SyntaxTreeNode) -> str:
    match node.type:
        case "text" | "code_inline":
            return node.content
        case "softbreak":
            return " "
        case "hardbreak":
            return "\n"
        case "link":
            return _link(_inline(node.children), str(node.attrs["href"]))
        case _:
            return _inline(node.children)


def _link(text: str, href: str) -> str:
    bare = href.removeprefix("mailto:")
    return bare if unquote(bare) == unquote(text.removeprefix("mailto:")) else f"{text} ({bare})"
