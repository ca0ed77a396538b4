from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service import errors, throttle
from service.newsroom import editors, sessions
from service.newsroom.models import Editor, EditorSession, EditorState, Notice, NoticeKind, Role
from tests.make import NOW

PASSWORD = "zeven gele fietsen"
NETWORK = "192.0.2.0/24"


def _editor(session: Session, email: str = "Anneke@Gemeente.example", role: Role = Role.ADMIN) -> Editor:
    return editors.add(session=session, now=NOW, email=email, name="Anneke de Vries", role=role, password=PASSWORD)


def _sign_in(session: Session, email: str = "anneke@gemeente.example", password: str = PASSWORD) -> str:
    return sessions.sign_in(session=session, now=NOW, email=email, password=password, network=NETWORK)


def test_an_address_has_one_editor_whatever_its_capitals(session: Session) -> None:
    assert _editor(session).email == "anneke@gemeente.example"
    with pytest.raises(errors.Refused) as refused:
        _editor(session, "ANNEKE@gemeente.example")
    assert refused.value.field == "email"


@pytest.mark.parametrize("email", ["", "anneke", "a@b@c.nl", "a\r\nb@c.nl", "a" * 300 + "@gemeente.nl", "a\x00@c.nl"])
def test_a_bad_address_is_refused(session: Session, email: str) -> None:
    with pytest.raises(errors.Refused) as refused:
        _editor(session, email)
    assert refused.value.field == "email"


def test_an_invitation_is_mailed_and_works_once(session: Session) -> None:
    editor = editors.invite(
        session=session, now=NOW, email="joris@gemeente.example", name="Joris", role=Role.WRITER, language="nl"
    )
    notice = session.scalars(select(Notice)).one()
    assert (notice.kind, notice.editor_id, notice.due_at) == (NoticeKind.INVITATION, editor.id, NOW)
    version = editor.password_version
    editors.accept(session=session, now=NOW, editor_id=editor.id, version=version, password=PASSWORD)
    assert editor.state is EditorState.ACTIVE
    assert _sign_in(session, "joris@gemeente.example")
    with pytest.raises(errors.LinkRefused):
        editors.accept(session=session, now=NOW, editor_id=editor.id, version=version, password="heel iets anders nu")


def test_an_invitation_grows_too_old_and_a_new_one_replaces_it(session: Session) -> None:
    def invite() -> Editor:
        return editors.invite(
            session=session, now=NOW, email="joris@gemeente.example", name="Joris", role=Role.WRITER, language="en"
        )

    first = invite()
    old = first.password_version
    with pytest.raises(errors.LinkRefused, match="too old"):
        editors.invited(session=session, now=NOW + timedelta(days=7, seconds=1), editor_id=first.id, version=old)
    second = invite()
    assert second.id == first.id
    with pytest.raises(errors.LinkRefused, match="newer"):
        editors.invited(session=session, now=NOW, editor_id=first.id, version=old)
    assert editors.invited(session=session, now=NOW, editor_id=first.id, version=second.password_version)


def test_who_is_active_is_not_invited_again(session: Session) -> None:
    _editor(session)
    with pytest.raises(errors.Refused):
        editors.invite(
            session=session, now=NOW, email="anneke@gemeente.example", name="Anneke", role=Role.WRITER, language="nl"
        )


def test_who_forgot_the_password_gets_a_new_invitation(session: Session) -> None:
    anneke = _editor(session)
    token = _sign_in(session)
    with pytest.raises(errors.Conflict, match="last admin"):
        editors.reinvite(session=session, now=NOW, editor_id=anneke.id)
    _editor(session, "joris@gemeente.example")
    editors.reinvite(session=session, now=NOW, editor_id=anneke.id)
    assert sessions.find(session=session, now=NOW, token=token) is None
    with pytest.raises(errors.Refused):
        _sign_in(session)
    assert session.scalars(select(Notice.kind)).all() == [NoticeKind.INVITATION]
    version = anneke.password_version
    editors.reinvite(session=session, now=NOW, editor_id=anneke.id)
    with pytest.raises(errors.LinkRefused, match="newer"):
        editors.invited(session=session, now=NOW, editor_id=anneke.id, version=version)
    new = "acht rode steppen"
    editors.accept(session=session, now=NOW, editor_id=anneke.id, version=anneke.password_version, password=new)
    assert _sign_in(session, password=new)
    editors.leave(session=session, now=NOW, editor_id=anneke.id)
    with pytest.raises(errors.Conflict, match="has left"):
        editors.reinvite(session=session, now=NOW, editor_id=anneke.id)


def test_the_operator_sets_a_password_and_that_ends_the_sessions(session: Session) -> None:
    _editor(session)
    token, new = _sign_in(session), "acht rode steppen"

    def reset(email: str = "anneke@gemeente.example", password: str = new) -> Editor:
        return editors.reset_password(session=session, now=NOW, email=email, password=password)

    assert reset(" Anneke@gemeente.example").name == "Anneke de Vries"
    assert sessions.find(session=session, now=NOW, token=token) is None
    with pytest.raises(errors.Refused):
        _sign_in(session)
    assert _sign_in(session, password=new)
    with pytest.raises(errors.Refused, match="at least 12"):
        reset(password="kort")
    with pytest.raises(errors.NotFound):
        reset("niemand@gemeente.example")
    invited = editors.invite(
        session=session, now=NOW, email="joris@gemeente.example", name="Joris", role=Role.ADMIN, language="nl"
    )
    assert reset("joris@gemeente.example").state is EditorState.ACTIVE
    editors.leave(session=session, now=NOW, editor_id=invited.id)
    with pytest.raises(errors.NotFound):
        reset("joris@gemeente.example")


def test_there_is_always_an_admin(session: Session) -> None:
    anneke = _editor(session)
    with pytest.raises(errors.Conflict):
        editors.leave(session=session, now=NOW, editor_id=anneke.id)
    with pytest.raises(errors.Conflict):
        editors.change_role(session=session, editor_id=anneke.id, role=Role.CHIEF)
    _editor(session, "joris@gemeente.example")
    assert editors.change_role(session=session, editor_id=anneke.id, role=Role.CHIEF).role is Role.CHIEF


def test_who_leaves_is_signed_out_and_stays_out(session: Session) -> None:
    anneke = _editor(session)
    _editor(session, "joris@gemeente.example")
    token = _sign_in(session)
    editors.leave(session=session, now=NOW, editor_id=anneke.id)
    assert sessions.find(session=session, now=NOW, token=token) is None
    with pytest.raises(errors.Refused):
        _sign_in(session)


def test_a_new_password_ends_the_other_sessions(session: Session) -> None:
    anneke = _editor(session)
    here, elsewhere = _sign_in(session), _sign_in(session)
    with pytest.raises(errors.Refused) as refused:
        editors.change_password(
            session=session, now=NOW, editor_id=anneke.id, current="iets", password="acht rode steps", token=here
        )
    assert refused.value.field == "current"
    editors.change_password(
        session=session, now=NOW, editor_id=anneke.id, current=PASSWORD, password="acht rode steppen", token=here
    )
    assert sessions.find(session=session, now=NOW, token=here) is not None
    assert sessions.find(session=session, now=NOW, token=elsewhere) is None
    with pytest.raises(errors.Refused):
        _sign_in(session)


def test_each_sign_in_has_its_own_token_and_the_database_only_its_hash(session: Session) -> None:
    _editor(session)
    first, second = _sign_in(session), _sign_in(session)
    assert first != second
    assert len(first) >= 43
    stored = session.scalars(select(EditorSession.token_hash)).all()
    assert len(stored) == 2
    assert first not in stored


@pytest.mark.parametrize(
    ("email", "password"),
    [
        ("anneke@gemeente.example", "niet het wachtwoord"),
        ("niemand@gemeente.example", PASSWORD),
        ("niemand@gemeente.example", "nobody has this password"),
        ("a\x00b", PASSWORD),
        ("", ""),
        ("joris@gemeente.example", ""),
    ],
)
def test_every_wrong_pair_gets_one_answer(session: Session, email: str, password: str) -> None:
    _editor(session)
    editors.invite(session=session, now=NOW, email="joris@gemeente.example", name="J", role=Role.WRITER, language="nl")
    with pytest.raises(errors.Refused, match="This address and password don’t belong together"):
        _sign_in(session, email, password)


def test_a_session_ends_when_idle_and_after_a_week(session: Session) -> None:
    _editor(session)
    token = _sign_in(session)

    def there(after: timedelta) -> bool:
        return sessions.find(session=session, now=NOW + after, token=token) is not None

    assert there(timedelta(hours=11, minutes=59))
    assert not there(timedelta(hours=12))
    for hours in range(6, 24 * 7, 6):
        sessions.touch(session=session, now=NOW + timedelta(hours=hours), token=token)
    assert there(timedelta(days=6, hours=23))
    sessions.touch(session=session, now=NOW + timedelta(days=6, hours=23), token=token)
    assert not there(timedelta(days=7))


def test_being_there_is_noted_every_few_minutes_only(session: Session) -> None:
    _editor(session)
    token = _sign_in(session)
    sessions.touch(session=session, now=NOW + timedelta(minutes=4), token=token)
    assert session.scalars(select(EditorSession.seen_at)).one() == NOW
    sessions.touch(session=session, now=NOW + timedelta(minutes=6), token=token)
    assert session.scalars(select(EditorSession.seen_at)).one() == NOW + timedelta(minutes=6)


def test_signing_out_ends_the_session_on_the_server(session: Session) -> None:
    _editor(session)
    token = _sign_in(session)
    sessions.sign_out(session=session, now=NOW, token=token)
    assert sessions.find(session=session, now=NOW, token=token) is None
    sessions.touch(session=session, now=NOW + timedelta(hours=1), token=token)
    assert sessions.find(session=session, now=NOW, token=token) is None


def test_the_sixth_try_waits_and_a_stranger_elsewhere_does_not_lock_the_owner_out(session: Session) -> None:
    _editor(session)

    def knock(network: str = NETWORK, after: timedelta = timedelta()) -> None:
        sessions.knock(session=session, now=NOW + after, email="Anneke@gemeente.example ", network=network)

    for _ in range(5):
        knock()
    with pytest.raises(errors.Throttled) as throttled:
        knock()
    assert throttled.value.seconds == 900
    knock("198.51.100.0/24")
    knock(after=timedelta(minutes=16))


def test_a_good_sign_in_forgets_the_tries_before_it(session: Session) -> None:
    _editor(session)
    for _ in range(12):
        sessions.knock(session=session, now=NOW, email="anneke@gemeente.example", network=NETWORK)
        _sign_in(session)
    kept = session.execute(select(throttle.Attempt.kind, func.count()).group_by(throttle.Attempt.kind)).all()
    assert [tuple(row) for row in kept] == [("login_network", 12)]


def test_one_network_can_not_try_address_after_address(session: Session) -> None:
    for number in range(30):
        sessions.knock(session=session, now=NOW, email=f"{number}@gemeente.example", network=NETWORK)
    with pytest.raises(errors.Throttled):
        sessions.knock(session=session, now=NOW, email="30@gemeente.example", network=NETWORK)
