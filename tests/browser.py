"""A browser without script: follows links, fills in the forms it finds, keeps cookies. HTTP only."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import urljoin

import httpx2

Values = dict[str, str | list[str]]


@dataclass
class Form:
    action: str
    method: str
    fields: list[tuple[str, str]] = field(default_factory=list)
    choices: dict[str, list[str]] = field(default_factory=dict)
    buttons: list[tuple[str, str, str]] = field(default_factory=list)  # name, value, words
    hidden: set[str] = field(default_factory=set)


class _Page(HTMLParser):
    """Forms with what a browser would send of them, links, and the readable text."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.links: list[tuple[str, str]] = []
        self.text: list[str] = []
        self._form: Form | None = None
        self._textarea: str | None = None
        self._select: str | None = None
        self._button: tuple[str, str] | None = None
        self._link: str | None = None
        self._words: list[str] = []
        self._silent = 0

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        has = {name: value or "" for name, value in attributes}
        if tag == "form":
            self._form = Form(action=has.get("action", ""), method=has.get("method", "get").lower())
            self.forms.append(self._form)
        elif tag == "a" and "href" in has:
            self._link, self._words = has["href"], []
        elif tag in ("script", "style"):
            self._silent += 1
        elif self._form is not None:
            self._field(tag, has, self._form)

    def _field(self, tag: str, has: dict[str, str], form: Form) -> None:
        name = has.get("name", "")
        if tag == "input":
            self._input(name, has, form)
        elif tag == "textarea":
            self._textarea, self._words = name, []
        elif tag == "select":
            self._select = name
        elif tag == "option" and self._select:
            form.choices.setdefault(self._select, []).append(has.get("value", ""))
            if "selected" in has:
                form.fields.append((self._select, has.get("value", "")))
        elif tag == "button":
            self._button, self._words = (name, has.get("value", "")), []

    def _input(self, name: str, has: dict[str, str], form: Form) -> None:
        kind, value = has.get("type", "text"), has.get("value", "")
        if kind in ("checkbox", "radio"):
            form.choices.setdefault(name, []).append(value or "on")
            if "checked" in has:
                form.fields.append((name, value or "on"))
        elif kind == "submit":
            form.buttons.append((name, value, value))
        elif name:
            form.fields.append((name, value))
            if kind == "hidden":
                form.hidden.add(name)

    def handle_data(self, data: str) -> None:
        self._words.append(data)
        if not self._silent:
            self.text.append(data)

    def handle_endtag(self, tag: str) -> None:
        words = " ".join("".join(self._words).split())
        if tag == "form":
            self._form = None
        elif tag in ("script", "style"):
            self._silent -= 1
        elif tag == "a" and self._link is not None:
            self.links.append((self._link, words))
            self._link = None
        elif tag == "textarea" and self._textarea is not None and self._form is not None:
            self._form.fields.append((self._textarea, "".join(self._words).lstrip("\n")))
            self._textarea = None
        elif tag == "select":
            self._select = None
        elif tag == "button" and self._button is not None and self._form is not None:
            self._form.buttons.append((*self._button, words))
            self._button = None


class Browser:
    """`visit` and `submit` follow redirects and keep the page they end at."""

    def __init__(self, base_url: str, *, network: str = "", language: str = "nl") -> None:
        headers = {"Accept-Language": language, "Accept": "text/html"}
        if network:
            headers["X-Forwarded-For"] = network
        self._client = httpx2.Client(
            base_url=base_url, headers=headers, follow_redirects=True, timeout=30, verify=False
        )  # plain HTTP: no certificates to load
        self.page = httpx2.Response(204)
        self._parsed = _Page()

    def close(self) -> None:
        self._client.close()

    def visit(self, address: str) -> Browser:
        return self._keep(self._client.get(address))

    def post(self, address: str, values: Values) -> Browser:
        return self._keep(self._client.post(address, data=values))

    def request(self, method: str, address: str) -> httpx2.Response:
        return self._client.request(method, address)

    @property
    def status(self) -> int:
        return self.page.status_code

    @property
    def text(self) -> str:
        return " ".join(" ".join(self._parsed.text).split())

    @property
    def forms(self) -> list[Form]:
        return self._parsed.forms

    @property
    def links(self) -> list[tuple[str, str]]:
        return self._parsed.links

    def form(self, action_ends: str) -> Form:
        """The first form whose action ends so."""
        for form in self.forms:
            if urljoin(str(self.page.url), form.action).split("?")[0].endswith(action_ends):
                return form
        raise AssertionError(f"no form to …{action_ends} on {self.page.url}: {[form.action for form in self.forms]}")

    def submit(
        self, action_ends: str, values: Values | None = None, *, press: tuple[str, str] | None = None
    ) -> Browser:
        """Fill in `values` over what the form holds and send it; `press` is a button's name and value."""
        form = self.form(action_ends)
        sent: dict[str, list[str]] = {}
        for name, value in form.fields:
            sent.setdefault(name, []).append(value)
        for name, given in (values or {}).items():
            sent[name] = given if isinstance(given, list) else [given]
        if press is not None:
            sent[press[0]] = [press[1]]
        address = urljoin(str(self.page.url), form.action)
        if form.method == "get":
            return self._keep(self._client.get(address, params=sent))
        return self._keep(self._client.post(address, data=sent))

    def _keep(self, response: httpx2.Response) -> Browser:
        self.page = response
        self._parsed = _Page()
        if "html" in response.headers.get("content-type", ""):
            self._parsed.feed(response.text)
        return self
