"""Pages to put an issue together, look at it as readers will, approve it and watch it go."""

from __future__ import annotations

from collections.abc import Callable

import flask
from flask.typing import ResponseReturnValue
from sqlalchemy.orm import Session

from service import db, errors, i18n
from service.delivery import rounds
from service.i18n import N_
from service.issues import approval, assembly, editions, models, overview, previews, rota, test_sends
from service.issues.models import IssueState
from service.newsroom import items
from service.newsroom.models import ItemState
from service.web import following, headers, mailbox, session, stats, view

blueprint = flask.Blueprint("issues", __name__, url_prefix=session.ROOM + "/issues")


@blueprint.get("/<int:issue_id>")
def show(issue_id: int) -> ResponseReturnValue:
    return _page(issue_id)


@blueprint.get("/<int:issue_id>/progress")
def follow(issue_id: int) -> str:
    """What changes on the page while the round goes out. `books=no` spares counting them (service/web/following.py)."""
    reading, counted = db.reading(), flask.request.args.get("books") != "no"
    issue = models.find(session=reading, issue_id=issue_id)
    seen = following.of(session=reading, now=session.now(), issue=issue, counted=counted)
    return flask.render_template("newsroom/progress.html", issue=issue, **seen)


@blueprint.get("/<int:issue_id>/preview/<any(nl,en):language>.<any(html,txt):kind>")
def preview(issue_id: int, language: str, kind: str) -> ResponseReturnValue:
    """The edition just as it will be sent; its personal links lead nowhere."""
    reading = db.reading()
    issue = models.find(session=reading, issue_id=issue_id)
    mail = previews.of(session=reading, issue=issue, language=language)
    if mail is None:
        raise errors.NotFound("This issue has no items yet.")
    if kind == "txt":
        plain = {"Content-Type": "text/plain; charset=utf-8", "Content-Security-Policy": headers.POLICY_IS_MAIL}
        return mail.text, plain
    head, tag, rest = mail.html.partition("<head>")
    return head + tag + mailbox.BESIDE + rest, {"Content-Security-Policy": headers.POLICY_IS_MAIL}


@blueprint.post("/<int:issue_id>/test")
def test(issue_id: int) -> ResponseReturnValue:
    language, editor_id = flask.request.form.get("edition", "nl"), session.editor().id

    def deed(work: Session) -> None:
        test_sends.request(session=work, now=session.now(), issue_id=issue_id, editor_id=editor_id, language=language)

    said = N_("A test mail is on its way to %(email)s.")
    return _do(issue_id, deed, said, anchor="mail", edition=language, email=session.editor().email)


@blueprint.post("/<int:issue_id>/assemble")
def assemble(issue_id: int) -> ResponseReturnValue:
    top_up = flask.request.form.get("top_up") == "yes"

    def deed(work: Session) -> None:
        assembly.assemble(session=work, now=session.now(), issue_id=issue_id, top_up=top_up)

    return _do(issue_id, deed, "")


@blueprint.post("/<int:issue_id>/order")
def order(issue_id: int) -> ResponseReturnValue:
    """`item` moves one place `up` or `down` in the order `stood` that the editor saw."""
    form = flask.request.form
    stood = [int(part) for part in form.get("stood", "").split() if part.isdecimal() and len(part) < 10]
    wanted = list(stood)
    item_id = form.get("item", 0, type=int)
    if item_id in stood:
        place = stood.index(item_id)
        other = place - 1 if form.get("to") == "up" else place + 1
        if 0 <= other < len(stood):
            wanted[place], wanted[other] = stood[other], stood[place]

    def deed(work: Session) -> None:
        assembly.reorder(session=work, now=session.now(), issue_id=issue_id, seen=stood, item_ids=wanted)

    return _do(issue_id, deed, "", anchor="items")


@blueprint.post("/<int:issue_id>/drop")
def drop(issue_id: int) -> ResponseReturnValue:
    item_id = flask.request.form.get("item", 0, type=int)

    def deed(work: Session) -> None:
        assembly.drop(session=work, now=session.now(), issue_id=issue_id, item_id=item_id)

    return _do(issue_id, deed, N_("The item waits for the next issue of its theme."), anchor="items")


@blueprint.post("/<int:issue_id>/approve")
def approve(issue_id: int) -> ResponseReturnValue:
    seen, editor_id = flask.request.form.get("seen", ""), session.editor().id

    def deed(work: Session) -> None:
        _sure("approve")
        approval.approve(session=work, now=session.now(), issue_id=issue_id, editor_id=editor_id, seen=seen)

    return _do(issue_id, deed, N_("The issue is approved."))


@blueprint.post("/<int:issue_id>/reopen")
def reopen(issue_id: int) -> ResponseReturnValue:
    return _move(issue_id, approval.reopen, N_("The approval is taken back. You can change the issue again."))


@blueprint.post("/<int:issue_id>/send")
def send(issue_id: int) -> ResponseReturnValue:
    return _move(issue_id, rounds.send_now, N_("The issue goes out now."), asked="send")


@blueprint.post("/<int:issue_id>/pause")
def pause(issue_id: int) -> ResponseReturnValue:
    return _move(issue_id, rounds.pause, N_("Sending is paused: it stops within a second."))


@blueprint.post("/<int:issue_id>/resume")
def resume(issue_id: int) -> ResponseReturnValue:
    return _move(issue_id, rounds.resume, N_("Sending goes on."))


@blueprint.post("/<int:issue_id>/cancel")
def cancel(issue_id: int) -> ResponseReturnValue:
    return _move(issue_id, rounds.cancel, N_("The issue is cancelled."), asked="cancel")


@blueprint.post("/<int:issue_id>/replan")
def replan(issue_id: int) -> ResponseReturnValue:
    typed = flask.request.form.get("send_at", "")

    def deed(work: Session) -> None:
        rota.replan(session=work, now=session.now(), issue_id=issue_id, send_at=rota.parse_local(typed))

    return _do(issue_id, deed, N_("The send hour is changed."), send_at=typed)


def _move(issue_id: int, move: Callable[..., object], said: str, *, asked: str = "") -> ResponseReturnValue:
    def deed(work: Session) -> None:
        if asked:
            _sure(asked)
        move(session=work, now=session.now(), issue_id=issue_id)

    return _do(issue_id, deed, said)


def _sure(deed: str) -> None:
    """What can't be taken back has a box to tick beside its button (requirements 6.2, ASVS 2.3.5)."""
    if flask.request.form.get("sure") != "yes":
        raise errors.Refused(f"sure-{deed}", "Tick the box first, to show that you are sure.")


def _do(
    issue_id: int,
    deed: Callable[[Session], object],
    said: str,
    *,
    anchor: str | None = None,
    edition: str | None = None,
    **typed: str,
) -> ResponseReturnValue:
    """One deed on an issue. When it can't be done, the page shows why and how the issue stands now."""
    try:
        with db.transaction() as work:
            deed(work)
    except (errors.Refused, errors.Conflict, errors.Throttled) as fault:
        field = fault.field if isinstance(fault, errors.Refused) else ""
        return _page(issue_id, [(field, session.say(fault))], typed), session.status(fault)
    if said:
        flask.flash(view.translate(said, **typed))
    return flask.redirect(flask.url_for("issues.show", issue_id=issue_id, _anchor=anchor, edition=edition))


def _page(
    issue_id: int, problems: list[tuple[str, str]] | None = None, typed: dict[str, str] | None = None
) -> flask.Response:
    reading = db.reading()
    issue = models.find(session=reading, issue_id=issue_id)
    shown = flask.render_template(
        "newsroom/issue.html",
        issue=issue,
        items=editions.of(session=reading, issue=issue),
        seen=editions.fingerprint(session=reading, issue=issue) if issue.state is IssueState.ASSEMBLED else "",
        **following.of(session=reading, now=session.now(), issue=issue, counted=True),
        **stats.of_issue(session=reading, issue=issue),
        readers=overview.readers(session=reading, theme_id=issue.theme_id),
        ready=items.some(
            session=reading, theme_id=issue.theme_id, state=ItemState.PUBLISHED, limit=assembly.MOST_ITEMS
        ),
        more=assembly.waiting(session=reading, issue=issue),
        edition=_edition(),
        subject=mail.subject if (mail := editions.shown(session=reading, issue=issue, language=_edition())) else "",
        shown="txt" if flask.request.args.get("kind") == "txt" else "html",
        most=assembly.MOST_ITEMS,
        early=issue.state in models.EARLY,
        over=rota.is_over(now=session.now(), week=issue.week),
        send_at=(typed or {}).get("send_at") or issue.send_at.astimezone(i18n.HERE).strftime("%Y-%m-%dT%H:%M"),
        now=session.now(),
        errors=problems or [],
    )
    response = flask.make_response(shown)
    response.headers["Content-Security-Policy"] = headers.POLICY_HOLDS_MAIL
    return response


def _edition() -> str:
    wanted = flask.request.args.get("edition", "")
    return wanted if wanted in i18n.LANGUAGES else session.editor().language
