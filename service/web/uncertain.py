"""The page of mails in doubt, where a chief says what becomes of each.

It is the one page of the newsroom with readers' addresses: whoever looks a mail up at the relay, or asks the reader,
must know whose it is. So it is for chiefs, shows only those in doubt, and an erased reader has no name on it.
"""

from __future__ import annotations

import flask
from flask.typing import ResponseReturnValue

from service import db, errors, i18n, settings
from service.delivery import uncertain
from service.delivery.uncertain import Word
from service.i18n import N_
from service.issues import models
from service.web import session, view

PATH = "/<int:issue_id>/uncertain"
SURE = PATH + "/<any(arrived,again,leave):word>"

blueprint = flask.Blueprint("uncertain", __name__, url_prefix=session.ROOM + "/issues")


@blueprint.get(PATH)
def listing(issue_id: int) -> str:
    return _page(issue_id)


@blueprint.post(PATH)
def settle(issue_id: int) -> ResponseReturnValue:
    """The ticked ones."""
    form = flask.request.form
    ticked = [int(part) for part in form.getlist("reader") if part.isdecimal() and len(part) < 10]
    try:
        with db.transaction() as work:
            count = uncertain.settle(
                session=work,
                now=session.now(),
                issue_id=issue_id,
                word=_word(form.get("word", "")),
                readers=ticked,
                editor_id=session.editor().id,
            )
    except (errors.Refused, errors.Conflict) as fault:
        field = fault.field if isinstance(fault, errors.Refused) else ""
        return _page(issue_id, [(field, session.say(fault))], ticked), session.status(fault)
    return _settled(issue_id, _word(form.get("word", "")), count)


@blueprint.get(SURE)
def ask_all(issue_id: int, word: str) -> ResponseReturnValue:
    reading = db.reading()
    issue = models.find(session=reading, issue_id=issue_id)
    count = uncertain.tally(session=reading, issue_id=issue_id).uncertain
    if not count:
        return flask.redirect(flask.url_for("uncertain.listing", issue_id=issue_id))
    heading, advice, button = _question(Word(word), count)
    week = view.translate("week %(week)s", week=int(issue.week[6:]))
    return flask.render_template(
        "newsroom/ask.html",
        heading=heading,
        advice=f"{issue.theme.name(view.language())}, {week}. {advice}",
        action=flask.url_for("uncertain.settle_all", issue_id=issue.id, word=word),
        more={"seen": count},
        button=button,
        back=flask.url_for("uncertain.listing", issue_id=issue.id),
    )


@blueprint.post(SURE)
def settle_all(issue_id: int, word: str) -> ResponseReturnValue:
    try:
        with db.transaction() as work:
            count = uncertain.settle_all(
                session=work,
                now=session.now(),
                issue_id=issue_id,
                word=Word(word),
                seen=flask.request.form.get("seen", 0, type=int),
                editor_id=session.editor().id,
            )
    except errors.Conflict as conflict:
        return _page(issue_id, [("", session.say(conflict))]), 409
    return _settled(issue_id, Word(word), count)


def _word(value: str) -> Word:
    if value not in list(Word):
        raise errors.Refused("reader", "Choose what becomes of these mails.")
    return Word(value)


def _question(word: Word, count: int) -> tuple[str, str, str]:
    """Heading, advice and button, when all are meant."""
    tongue = view.language()
    if word is Word.ARRIVED:
        return (
            i18n.ngettext(tongue, "Did this %(count)s mail arrive?", "Did these %(count)s mails arrive?", count),
            view.translate("Counted as accepted. Who didn’t get it after all, won’t get it any more."),
            view.translate("Yes, count as accepted"),
        )
    if word is Word.AGAIN:
        return (
            i18n.ngettext(tongue, "Send this %(count)s mail again?", "Send these %(count)s mails again?", count),
            view.translate("Who has it already, gets it twice. That can’t be taken back."),
            view.translate("Yes, send again"),
        )
    return (
        i18n.ngettext(tongue, "Leave this %(count)s mail as it is?", "Leave these %(count)s mails as they are?", count),
        view.translate("Counted as given up. Who didn’t get it, won’t get it any more."),
        view.translate("Yes, leave as it is"),
    )


SAID = {
    Word.ARRIVED: (N_("%(count)s mail is counted as accepted."), N_("%(count)s mails are counted as accepted.")),
    Word.AGAIN: (
        N_("%(count)s mail goes out again, unless its reader left meanwhile."),
        N_("%(count)s mails go out again, except to readers who left meanwhile."),
    ),
    Word.LEAVE: (N_("%(count)s mail is counted as given up."), N_("%(count)s mails are counted as given up.")),
}


def _settled(issue_id: int, word: Word, count: int) -> ResponseReturnValue:
    one, many = SAID[word]
    flask.flash(i18n.ngettext(view.language(), one, many, count))
    return flask.redirect(flask.url_for("uncertain.listing", issue_id=issue_id))


def _page(issue_id: int, problems: list[tuple[str, str]] | None = None, ticked: list[int] | None = None) -> str:
    reading = db.reading()
    issue = models.find(session=reading, issue_id=issue_id)
    after = max(0, min(flask.request.args.get("after", 0, type=int), 2**31 - 1))
    found = uncertain.listed(session=reading, issue_id=issue_id, after=after, limit=uncertain.PAGE + 1)
    return flask.render_template(
        "newsroom/uncertain.html",
        issue=issue,
        mails=found[: uncertain.PAGE],
        next=found[uncertain.PAGE - 1].subscriber_id if len(found) > uncertain.PAGE else None,
        after=after,
        tally=uncertain.tally(session=reading, issue_id=issue_id),
        resend=settings.current().uncertain == "resend",
        goes_out=issue.state in uncertain.STILL_GOES_OUT,
        ticked=ticked or [],
        errors=problems or [],
    )
