"""What tests of newsroom pages share: editors who sign in, and forms filled in as a browser would."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import flask
from werkzeug.test import TestResponse

from service import db
from service.newsroom import editors
from service.newsroom.models import Editor, Role
from tests.integration.conftest import Visitor
from tests.make import NOW

PASSWORD = "zeven gele fietsen"
TOKEN = re.compile(r'name="csrf_token" value="([^"]+)"')


def editor(role: Role = Role.CHIEF, email: str = "", name: str = "Carla Visser", language: str = "nl") -> Editor:
    with db.transaction() as session:
        made = editors.add(
            session=session,
            now=NOW,
            email=email or f"{role}@gemeente.example",
            name=name,
            role=role,
            password=PASSWORD,
            language=language,
        )
        session.flush()
        session.expunge(made)
    return made


class Desk:
    """A browser in the newsroom. `role` None: nobody has signed in yet."""

    def __init__(
        self, app: flask.Flask, role: Role | None = Role.CHIEF, *, email: str = "", language: str = "nl"
    ) -> None:
        self.client = Visitor(app, app.response_class, use_cookies=True)
        if role is not None:
            editor(role, email, language=language)
            signed_in = self.sign_in(email or f"{role}@gemeente.example")
            assert signed_in.status_code == 302, signed_in.text

    def open(self, method: str, address: str, **options: Any) -> TestResponse:
        return self.client.open(address, method=method, **options)

    def get(self, address: str, **options: Any) -> TestResponse:
        return self.open("GET", address, **options)

    def text(self, address: str) -> str:
        """The page's words and tags, with entities undone."""
        page = self.get(address)
        assert page.status_code == 200, page.text
        return unescape(page.text)

    def words(self, address: str) -> str:
        """Of the page, without tags."""
        return " ".join(re.sub(r"<[^>]*>", " ", self.text(address)).split())

    def post(
        self, address: str, form: dict[str, str] | None = None, *, seen: str = "/newsroom/account"
    ) -> TestResponse:
        """Send a form with the CSRF token that page `seen` holds."""
        found = TOKEN.search(self.get(seen).text)
        return self.open("POST", address, data={"csrf_token": found[1] if found else "", **(form or {})})

    def sign_in(self, email: str, password: str = PASSWORD, **form: str) -> TestResponse:
        return self.post("/newsroom/login", {"email": email, "password": password, **form}, seen="/newsroom/login")
