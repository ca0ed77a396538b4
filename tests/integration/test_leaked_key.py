"""SECRET_KEY got out: what it signed counts no more, and whom we may not mail is still known."""

from __future__ import annotations

import flask
import pytest
from sqlalchemy import select

from service import app as service_app
from service import db, errors, links, settings
from service.subscribers import addresses, erasures
from service.subscribers.models import Letter, SuppressionReason
from tests import make
from tests.integration.conftest import Visitor
from tests.integration.newsroom import Desk
from tests.make import NOW

NEW = "a new secret for tests, of more than 32 characters"
COMPLAINED, BLOCKED, ERASED = "klager@gemeente.example", "nooit@gemeente.example", "weg@gemeente.example"


@pytest.fixture
def leaked(app: flask.Flask) -> settings.Settings:
    """The settings of after it; those of before are in force until they are used."""
    old = settings.current()
    with db.transaction() as session:
        addresses.suppress(session=session, now=NOW, email_key=COMPLAINED, reason=SuppressionReason.COMPLAINT)
        addresses.suppress(session=session, now=NOW, email_key=BLOCKED, reason=SuppressionReason.BLOCKED)
        erasures.note(session=session, now=NOW, email_key=ERASED)
    return old.model_copy(update={"secret_key": NEW, "secret_keys_leaked": (old.secret_key,)})


def test_no_link_of_before_opens_anything(visitor: Visitor, leaked: settings.Settings) -> None:
    with db.transaction() as session:
        reader = make.reader(session, "saskia@gemeente.example", "innovatie")
        forged = [links.preferences(reader.id), links.unsubscribe(reader.id, 1)]
    paths = [link.removeprefix(settings.current().base_url) for link in forged]
    assert [visitor.get(path).status_code for path in paths] == [200, 200]
    back = settings.current().model_copy(update={"return_address": "bounces@vinkje.example"})
    settings.use(back)
    returns = links.return_path(1, 1)

    settings.use(leaked)
    assert [visitor.get(path).status_code for path in paths] == [404, 404]
    assert visitor.post(paths[1]).status_code == 404
    page = visitor.get(paths[1]).text
    assert "onze sleutels vervangen" in page
    assert "mailto:" in page
    assert "in tweeën" not in page, "nothing got lost"
    with pytest.raises(errors.LinkRefused):
        links.read_return(returns)


def test_who_has_the_key_can_read_a_readers_data_until_it_is_changed(
    visitor: Visitor, leaked: settings.Settings, doorbells: object
) -> None:
    """What docs/data-protection.md says of it: they have a letter mailed, and need not get it."""
    with db.transaction() as session:
        reader = make.reader(session, "saskia@gemeente.example", "innovatie")
        button = links.preferences(reader.id)
    base = settings.current().base_url
    visitor.post(button.removeprefix(base), data={"letter": "data"})
    with db.transaction() as session:
        forged = links.data(session.scalars(select(Letter.id)).one())
    assert "saskia@gemeente.example" in visitor.get(forged.removeprefix(base)).text
    settings.use(leaked)
    assert visitor.get(forged.removeprefix(base)).status_code == 404


def test_whoever_may_not_be_mailed_is_still_known(app: flask.Flask, leaked: settings.Settings) -> None:
    settings.use(leaked)
    with db.transaction() as session:
        everybody = (COMPLAINED, BLOCKED, "saskia@gemeente.example")
        assert addresses.suppressed(session=session, email_keys=everybody) == {COMPLAINED, BLOCKED}
        assert addresses.blocked(session=session, email_key=BLOCKED)
        assert erasures.known(session=session, email_keys=[ERASED, "saskia@gemeente.example"]) == {ERASED: NOW}
        # A mark that is made now is made with the new key.
        addresses.suppress(session=session, now=NOW, email_key="nieuw@x.example", reason=SuppressionReason.COMPLAINT)
    settings.use(leaked.model_copy(update={"secret_keys_leaked": ()}))
    with db.transaction() as session:
        assert addresses.suppressed(session=session, email_keys=[BLOCKED, "nieuw@x.example"]) == {"nieuw@x.example"}


def test_no_editors_session_of_before_counts(app: flask.Flask, leaked: settings.Settings) -> None:
    desk = Desk(app)
    cookie = desk.client.get_cookie("vinkje")
    assert cookie is not None
    assert desk.get("/newsroom/").status_code == 200
    only_older = leaked.model_copy(update={"secret_keys_previous": leaked.secret_keys_leaked, "secret_keys_leaked": ()})
    for chosen, status in ((only_older, 200), (leaked, 302)):
        settings.use(chosen)
        restarted = service_app.create_app()
        after = Visitor(restarted, restarted.response_class, use_cookies=True)
        after.set_cookie(cookie.key, cookie.value, path=cookie.path)
        assert after.get("/newsroom/").status_code == status
        with restarted.app_context():
            db.db.engine.dispose()
