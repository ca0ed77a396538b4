from __future__ import annotations

import email
import email.policy
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service import wire

UNSUBSCRIBE = "https://news.example.nl/unsubscribe/1234567-12.Q7Fq0gxk_P_7RXyW4ZCPLPYbORePIvN4RhzLlx8Q6Jc"
PREFERENCES = "https://news.example.nl/preferences/1234567.zEVR4ncyhMP_DM44f01Mv-IXZIDEZeZyEs_eR9BKMGE"
LEAVE_TO = "bounces+u1234567-12-0123456789abcdef0123@news.example.nl"
MESSAGE_ID = "<i12.0123456789abcdef0123456789abcdef@nieuws.example.nl>"
HEADERS = {
    "From": "Vinkje <nieuws@example.nl>",
    "Date": "Tue, 24 Nov 2026 09:00:00 +0000",
    "List-Id": wire.mailbox("Coöperatie en “nieuwe energie” in de buurt", "energie.list-id.example.nl"),
    "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
}

# Pieces that break encoders: marks within and between lines, every kind of line end, dots, trailing blanks,
# characters of two to four octets around the 76th column.
LONG = ["x" * 74, "x" * 75, "x" * 76, "x" * 77, "ë" * 40]
ENDS = ["\n", "\r\n", "\r", "\n.\n", " \n", "\t\n", "\x0b", "\x0c", "\x85", "\u2028"]
ODD = ["..", " ", "\t", "ë", "👩\u200d👧", "=", "=_vinkje", "--=_vinkje", "From ", "\x00"]
# What the encoder itself puts where the bodies come. Nothing that an editor types may be taken for it.
SPOTS = [wire.TEXT_SPOT, wire.HTML_SPOT, f"{wire.TEXT_SPOT}\n{wire.HTML_SPOT}"]
letters = st.characters(codec="utf-8")
snippets = st.one_of(
    st.sampled_from([wire.UNSUBSCRIBE, wire.PREFERENCES, *LONG, *ENDS, *ODD, *SPOTS]), st.text(letters, max_size=12)
)
bodies = st.lists(snippets, max_size=20).map("".join)
words = st.lists(st.one_of(st.sampled_from(SPOTS), st.text(letters, max_size=40)), max_size=4).map("".join)


# Dots at any place, so that one comes first after a soft line break; and links that quoted-printable escapes,
# that hold a mark, or of which a mark could come about. Ours are like the first.
links = st.one_of(
    st.text("ab.", max_size=160).map(lambda tail: f"https://a.example/{tail}"),
    st.sampled_from([UNSUBSCRIBE, PREFERENCES, "https://[::1]:8000/unsubscribe/1-2.x", "preferences"]),
    st.text("a.=@: ë", min_size=1, max_size=160),
    st.sampled_from([wire.UNSUBSCRIBE, wire.PREFERENCES, f"https://a.example/{wire.PREFERENCES}"]),
)


def list_id(theme: str) -> dict[str, str]:
    return {"List-Id": wire.mailbox(theme, "energie.list-id.example.nl")}


def by_library(
    subject: str,
    html: str,
    text: str,
    *,
    to: str = "saskia@gemeente.example",
    theme: str = "Energie",
    unsubscribe: str = UNSUBSCRIBE,
    preferences: str = PREFERENCES,
    leave_to: str = "",
) -> bytes:
    headers = {**wire.personal(to, MESSAGE_ID, unsubscribe, leave_to), "Subject": wire.phrase(subject), **HEADERS}
    headers.update(list_id(theme))
    links = {"unsubscribe": unsubscribe, "preferences": preferences}
    return wire.write(headers, text=wire.fill(text, **links), html=wire.fill(html, **links))


def by_pieces(
    subject: str,
    html: str,
    text: str,
    *,
    to: str = "saskia@gemeente.example",
    theme: str = "Energie",
    leave_to: str = "",
) -> bytes:
    pieces = wire.cut(subject, html, text, headers={**HEADERS, **list_id(theme)})
    own = {"unsubscribe": UNSUBSCRIBE, "preferences": PREFERENCES, "leave_to": leave_to}
    return pieces.fill(to=to, message_id=MESSAGE_ID, **own)


def received(content: bytes) -> bytes:
    """What a server makes of it (RFC 5321 §4.5.2), strictly."""
    assert content.endswith(b"\r\n")
    lines = content.removesuffix(b"\r\n").split(b"\r\n")
    assert b"." not in lines
    assert not [line for line in lines if line.startswith(b".") and not line.startswith(b"..")]
    return b"".join(line[line.startswith(b".") :] + b"\r\n" for line in lines)


@settings(deadline=None)  # other tests may keep the processors busy
@given(subject=words, theme=words, html=bodies, text=bodies, leave_to=st.sampled_from(["", LEAVE_TO]))
def test_pieces_give_what_the_standard_library_gives(
    subject: str, theme: str, html: str, text: str, leave_to: str
) -> None:
    message = by_pieces(subject, html, text, theme=theme, leave_to=leave_to)
    assert message == by_library(subject, html, text, theme=theme, leave_to=leave_to)
    assert message.isascii()
    assert max(map(len, message.partition(b"\r\n\r\n")[2].split(b"\r\n"))) <= 76
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n", message)


@settings(deadline=None)  # other tests may keep the processors busy
@given(html=bodies, text=bodies, several=st.lists(st.tuples(links, links), min_size=1, max_size=4))
def test_each_reader_gets_the_same_by_either_way_whatever_the_links_look_like(
    html: str, text: str, several: list[tuple[str, str]]
) -> None:
    """One edition, several readers: what it keeps in mind of one must fit the next."""
    wire._cut.cache_clear()
    pieces = wire.cut("Nieuws", html, text, headers={**HEADERS, **list_id("Energie")})
    for unsubscribe, preferences in [*several, *several]:
        own = {"to": "zoë@gemeente.example", "unsubscribe": unsubscribe, "preferences": preferences}
        message = pieces.fill(message_id=MESSAGE_ID, **own)
        body = message.partition(b"\r\n\r\n")[2]
        # The library folds or refuses a List-Unsubscribe with a space in it; the body is the same.
        expected = by_library("Nieuws", html, text, **own)
        assert body == expected.partition(b"\r\n\r\n")[2]
        assert message.partition(b"\r\nSubject:")[0].decode().splitlines() == [
            "To: zoë@gemeente.example",
            f"Message-ID: {MESSAGE_ID}",
            f"List-Unsubscribe: <{unsubscribe}>",
        ]
        content, size = pieces.wire(message_id=MESSAGE_ID, **own)
        assert received(content) == message
        assert size == len(message)


@pytest.mark.parametrize("length", range(50, 80))
def test_a_link_whose_dot_comes_first_on_a_line_has_it_doubled(length: int) -> None:
    """A soft line break can come just before the dot of a token."""
    link = f"https://a.example/{'u' * length}.{'s' * 43}"
    text = f"{wire.UNSUBSCRIBE}\n..\n.{wire.PREFERENCES}\n{'x' * 75}.\n"
    pieces = wire.cut("Nieuws", text, text, headers=HEADERS)
    own = {"to": "a@example.nl", "message_id": MESSAGE_ID, "unsubscribe": link, "preferences": PREFERENCES}
    message = pieces.fill(**own)
    content, size = pieces.wire(**own)
    assert received(content) == message
    assert size == len(message)
    broken_before_its_dot = re.search(rb"=\r\n\.s", message) is not None
    assert broken_before_its_dot is (length == 75 - len("https://a.example/"))
    assert content.count(b"\r\n..") == message.count(b"\r\n.")


def test_an_edition_is_encoded_once_for_links_of_one_shape() -> None:
    pieces = wire.cut("Nieuws", wire.UNSUBSCRIBE, wire.PREFERENCES, headers={**HEADERS, "Feedback-ID": "once"})
    for number in range(1000, 1100):
        unsubscribe, preferences = UNSUBSCRIBE.replace("1234567", f"{number}"), f"https://a.example/{number}.x"
        pieces.wire(to="a@example.nl", message_id=MESSAGE_ID, unsubscribe=unsubscribe, preferences=preferences)
    assert len(pieces._known) == 1
    for length in range(2 * wire.SHAPES):
        for scheme in ("http", "https"):
            unsubscribe, preferences = f"{scheme}://{'a' * length}", f"{scheme}://a.example"
            pieces.wire(to="a@example.nl", message_id=MESSAGE_ID, unsubscribe=unsubscribe, preferences=preferences)
    assert len(pieces._known) == wire.SHAPES, "and doesn't grow without end"


@pytest.mark.parametrize("spot", SPOTS)
@pytest.mark.parametrize("place", ["subject", "theme", "html", "text"])
def test_a_word_that_is_a_spot_of_the_encoder_stays_a_word(place: str, spot: str) -> None:
    """As an item's title can be: it stands in the subject of its issue, before every body."""
    given = {
        "subject": "Nieuws",
        "theme": "Energie",
        "html": "<p>Eén</p>",
        "text": "Eén",
        place: f"Over {spot} en meer",
    }
    message = by_pieces(given["subject"], given["html"], given["text"], theme=given["theme"])
    assert message == by_library(given["subject"], given["html"], given["text"], theme=given["theme"])
    read = email.message_from_bytes(message, policy=email.policy.default)
    shown = {
        kind: str(part.get_content()).splitlines() for kind in ("plain", "html") if (part := read.get_body((kind,)))
    }
    assert shown == {"plain": given["text"].splitlines(), "html": given["html"].splitlines()}


@settings(deadline=None)  # other tests may keep the processors busy
@given(html=bodies, text=bodies)
def test_bodies_arrive_as_they_were(html: str, text: str) -> None:
    read = email.message_from_bytes(by_pieces("Nieuws", html, text), policy=email.policy.default)
    for kind, body in (("plain", text), ("html", html)):
        part = read.get_body((kind,))
        assert part is not None
        sent = part.get_payload(decode=True)
        assert isinstance(sent, bytes)
        lines = wire.fill(body, unsubscribe=UNSUBSCRIBE, preferences=PREFERENCES).encode().splitlines()
        assert sent.splitlines() == (lines or [b""])


def test_a_reader_outside_ascii_stands_raw_in_to_and_the_rest_stays_encoded() -> None:
    message = by_pieces("Coöperatie", "<p>é</p>", "é", to="zoë@gemeente.example")
    assert message == by_library("Coöperatie", "<p>é</p>", "é", to="zoë@gemeente.example")
    head = message.partition(b"\r\n\r\n")[0]
    assert "To: zoë@gemeente.example\r\n".encode() in head
    assert head.replace("zoë".encode(), b"zoe").isascii()


def test_list_unsubscribe_reaches_the_wire_unfolded_and_unencoded() -> None:
    url = f"https://{'a' * 60}.example.nl/unsubscribe/{'1' * 100}.{'b' * 43}"
    pieces = wire.cut("Nieuws", "", "", headers=HEADERS)
    message = pieces.fill(to="a@example.nl", message_id=MESSAGE_ID, unsubscribe=url, preferences=PREFERENCES)
    assert message.count(f"\r\nList-Unsubscribe: <{url}>\r\n".encode()) == 1
    assert message.lower().count(b"\r\nlist-unsubscribe:") == 1
    assert message.count(b"\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n") == 1


@pytest.mark.parametrize("base", ["https://a.nl", f"https://{'a' * 60}.example.nl"])
def test_leaving_by_mail_comes_after_leaving_by_link_and_is_not_broken(base: str) -> None:
    """RFC 8058 §3.1: one HTTPS link; others may follow. RFC 2369 §2: in angle brackets, with a comma between."""
    own = {"unsubscribe": f"{base}/unsubscribe/1-1.{'s' * 43}", "leave_to": LEAVE_TO}
    pieces = wire.cut("Nieuws", "", "", headers=HEADERS)
    message = pieces.fill(to="a@b.nl", message_id=MESSAGE_ID, preferences=PREFERENCES, **own)
    line = f"List-Unsubscribe: <{own['unsubscribe']}>,\r\n <mailto:{LEAVE_TO}?subject=unsubscribe>\r\n"
    assert message.count(line.encode()) == 1
    content, size = pieces.wire(to="a@b.nl", message_id=MESSAGE_ID, preferences=PREFERENCES, **own)
    assert received(content) == message
    assert size == len(message)
    headers = {**wire.personal("a@b.nl", MESSAGE_ID, *own.values()), "Subject": "Nieuws", **HEADERS}
    assert message == wire.write(headers, text="", html="")


def test_long_words_in_headers_are_folded_between_encoded_words() -> None:
    head = by_pieces("Überraschung " * 12, "", "").partition(b"\r\n\r\n")[0].decode()
    assert max(map(len, head.replace(f"List-Unsubscribe: <{UNSUBSCRIBE}>", "").split("\r\n"))) <= 76
    read = email.message_from_string(head, policy=email.policy.default)
    assert read["Subject"] == ("Überraschung " * 12).strip()
    assert read["List-Id"].endswith("<energie.list-id.example.nl>")


def test_an_address_of_254_characters_is_not_broken() -> None:
    longest = f"{'l' * 64}@{'.'.join(['d' * 60] * 3)}.example"
    assert f"To: {longest}\r\n".encode() in by_pieces("Nieuws", "", "", to=longest)


@pytest.mark.parametrize("to", ["a@example.nl\r\nBcc: b@example.nl", "a@example.nl\n", "a\x00@example.nl"])
def test_an_address_with_a_line_break_is_refused(to: str) -> None:
    with pytest.raises(ValueError, match="control characters"):
        by_pieces("Nieuws", "", "", to=to)


def test_an_emoji_made_of_several_stays_whole_in_a_subject() -> None:
    read = email.message_from_bytes(by_pieces("Thuis 👩\u200d👧", "", ""), policy=email.policy.default)
    assert read["Subject"] == "Thuis 👩\u200d👧"


def test_a_line_break_in_a_subject_becomes_a_space() -> None:
    assert b"\r\nSubject: Nieuws Bcc: b@example.nl\r\n" in by_pieces("Nieuws\r\nBcc: b@example.nl", "", "")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Vinkje", "Vinkje <a@b.nl>"),
        ("Jansen, Piet", '"Jansen, Piet" <a@b.nl>'),
        ('De "Krant"', '"De \\"Krant\\"" <a@b.nl>'),
        ("", "a@b.nl"),
        ("Zoë", "=?utf-8?q?Zo=C3=AB?= <a@b.nl>"),
        ("=?utf-8?q?x?=", "=?utf-8?b?PT91dGYtOD9xP3g/PQ==?= <a@b.nl>"),
    ],
)
def test_a_name_is_quoted_or_encoded_when_it_must_be(name: str, shown: str) -> None:
    assert wire.mailbox(name, "a@b.nl") == shown
    read = email.message_from_string(f"To: {shown}\n\n", policy=email.policy.default)
    assert read["to"].addresses[0].display_name == name


@settings(deadline=None)  # other tests may keep the processors busy
@given(
    st.lists(st.sampled_from([wire.UNSUBSCRIBE, wire.PREFERENCES, *"@vinkje-unsubscribe"]), max_size=30).map("".join)
)
def test_no_mark_survives_in_an_editors_words(words: str) -> None:
    clean = wire.without_marks(words)
    assert wire.UNSUBSCRIBE not in clean
    assert wire.PREFERENCES not in clean


@settings(deadline=None)  # other tests may keep the processors busy
@given(st.integers(0, 19), st.integers(0, 19))
def test_a_mark_cut_in_two_by_another_does_not_close_up(outer: int, inner: int) -> None:
    words = wire.UNSUBSCRIBE[:outer] + wire.UNSUBSCRIBE + wire.UNSUBSCRIBE[outer:]
    words = words[:inner] + wire.PREFERENCES + words[inner:]
    assert wire.UNSUBSCRIBE not in wire.without_marks(words)
