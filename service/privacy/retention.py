"""How long we keep what: the one table. The privacy page shows it word for word, and a job applies it every night.

A period is the constant of where it is decided; here it gets its words. A line whose `apply` is None goes with others,
or names nobody. Each line has a test that moves the clock (tests/integration/test_retention.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy.orm import Session

from service import db, folder, i18n, throttle
from service.i18n import N_
from service.newsroom import sessions
from service.privacy import caught, folding, forgetting
from service.subscribers import confirmation


@dataclass(frozen=True)
class Line:
    """`long` has %(span)s for `keep`, or %(count)s. `often`: each tick applies it too, not only the night.
    `trial`: only where mails are caught instead of sent, or were.
    """

    key: str
    what: str
    long: str
    why: str
    keep: timedelta | None = None
    apply: Callable[..., int] | None = field(default=None, repr=False)
    often: bool = False
    trial: bool = False


class Row(NamedTuple):
    """A line in one language."""

    what: str
    long: str
    why: str


TABLE = (
    Line(
        "readers",
        N_(
            "Your e-mail address, your language and your themes. And the record of your permission: for which theme "
            "you gave it or took it back, when, how, and which text you saw."
        ),
        N_("As long as you have a theme, and %(span)s after you left the last one. Then only totals are left."),
        N_(
            "Without your address we can’t send the newsletter. And the law asks us to show that we had your "
            "permission (GDPR, article 7)."
        ),
        keep=forgetting.EVIDENCE,
        apply=forgetting.readers,
    ),
    Line(
        "forms",
        N_("What you filled in on the sign-up form, and the part of your internet address that names your network."),
        N_("Mostly a few seconds, %(span)s at most."),
        N_("Until our system has taken the form."),
        keep=confirmation.LIFE,
        apply=forgetting.forms,
        often=True,
    ),
    Line(
        "unconfirmed",
        N_("A sign-up that nobody confirmed."),
        N_("%(span)s."),
        N_("Perhaps somebody else typed your address. If you read nothing of ours before, your address goes too."),
        keep=confirmation.LIFE,
        apply=confirmation.expire,
        often=True,
    ),
    Line(
        "confirmed",
        N_("That you pressed the button in the mail that asked you to confirm."),
        N_("%(span)s after you signed up."),
        N_("If you press it again, we can say that it worked."),
        keep=confirmation.KEEP_CONFIRMED,
        apply=confirmation.expire,
        often=True,
    ),
    Line(
        "attempts",
        N_("When you send a form: a scrambled mark of your e-mail address and one of your network."),
        N_("%(span)s."),
        N_("With it we stop people who fill others’ mailboxes or guess passwords."),
        keep=throttle.KEEP,
        apply=throttle.expire,
        often=True,
    ),
    Line(
        "letters",
        N_("That you asked for your data or another address, or changed themes, and whom we mailed about that."),
        N_("%(span)s."),
        N_("To mail you the link or the notice. And to know that a mail to your old address came back late."),
        keep=forgetting.LETTERS,
        apply=forgetting.letters,
    ),
    Line(
        "deliveries",
        N_("Whether your provider’s mail server took our mail. Not whether you opened it."),
        N_(
            "%(span)s after the issue was sent or cancelled. Then only totals are left. If an issue stands still for "
            "%(span)s, we cancel it."
        ),
        N_("So that nobody is missed, nobody gets an issue twice, and we stop mailing addresses that don’t work."),
        keep=folding.KEEP,
        apply=folding.deliveries,
    ),
    Line(
        "reports",
        N_("That a mail to you came back, or that you reported it as spam."),
        N_(
            "%(span)s after the issue was sent or cancelled. Then only totals are left. If an issue stands still for "
            "%(span)s, we cancel it."
        ),
        N_("So that we stop mailing you when that happens."),
        keep=folding.KEEP,
        apply=folding.reports,
    ),
    Line(
        "dead_addresses",
        N_("A scrambled mark of an address that doesn’t work any more."),
        N_("%(span)s after the mail came back."),
        N_("No newsletter goes to that address then."),
        keep=forgetting.DEAD_ADDRESS,
        apply=forgetting.dead_addresses,
    ),
    Line(
        "refusals",
        N_("A scrambled mark of your address, if you reported our mail as spam or told us never to mail you again."),
        N_("Until you want our mail again: by signing up anew, or by writing to us if you said “never again”."),
        N_("Without it we couldn’t keep to your “no”."),
    ),
    Line(
        "erasures",
        N_("A scrambled mark of your address, if you had your data erased or moved to another address."),
        N_("%(span)s."),
        N_("If we must put back a backup, we erase you again."),
        keep=forgetting.ERASURES,
        apply=forgetting.erasures,
    ),
    Line(
        "leavings",
        N_("A scrambled mark of your address and a theme together, if you don’t get that theme any more."),
        N_("%(span)s after you left it."),
        N_("If we must put back a backup, you are out of that theme again."),
        keep=forgetting.ERASURES,
    ),
    Line(
        "backups",
        N_("Backups: copies of our database."),
        N_("%(span)s at most. We throw them away ourselves."),
        N_("To go on after a fault or an attack."),
        keep=forgetting.ERASURES,
    ),
    Line(
        "totals",
        N_("Totals: how many readers an issue, a theme or a week had."),
        N_("They stay."),
        N_("They name nobody."),
    ),
    Line(
        "report_counts",
        N_("How many automatic or unreadable mails we got in a day."),
        N_("%(span)s."),
        N_("They name nobody. A sudden change tells us that something is wrong."),
        keep=forgetting.REPORT_COUNTS,
        apply=forgetting.report_counts,
    ),
    Line(
        "logs",
        N_("Log files of our programs."),
        N_("Nothing of you to delete: no e-mail address, and of an internet address only the network’s part."),
        N_("To find faults."),
    ),
    Line(
        "editors",
        N_("Of our editors: name, e-mail address, language, role and a scrambled password."),
        N_("As long as they may write here, and %(span)s after. What they wrote stays, without their name."),
        N_("To let them in, and to know who approved what."),
        keep=forgetting.EDITORS,
        apply=forgetting.editors,
    ),
    Line(
        "invitations",
        N_("Of somebody who was invited as an editor and never came: name, e-mail address, language and role."),
        N_("%(span)s after the invitation."),
        N_("To let them in when they come."),
        keep=forgetting.INVITATIONS,
        apply=forgetting.invitations,
    ),
    Line(
        "sessions",
        N_("When an editor signed in, and was last seen."),
        N_("%(span)s after signing in."),
        N_("To know the browser again, and to be able to sign it out."),
        keep=sessions.LIFE,
        apply=forgetting.editor_sessions,
    ),
    Line(
        "notices",
        N_("That we mailed an editor."),
        N_("%(span)s."),
        N_("To try again when the mail server is away."),
        keep=forgetting.NOTICES,
        apply=forgetting.notices,
    ),
    Line(
        "caught",
        N_("While this service is tried out, mails aren’t sent, but kept on this machine."),
        N_("%(span)s, and never more than the newest %(count)s."),
        N_("To look at them."),
        keep=caught.KEEP,
        apply=caught.expire,
        trial=True,
    ),
)


def shown(*, trial: bool) -> list[Line]:
    return [line for line in TABLE if trial or not line.trial]


def row(*, line: Line, language: str) -> Row:
    span = i18n.span(language, line.keep) if line.keep else ""
    long = i18n.gettext(language, line.long, span=span, count=folder.MAILS)
    return Row(i18n.gettext(language, line.what), long, i18n.gettext(language, line.why))


def apply(*, session: Session, now: datetime, line: Line) -> int:
    """One step: a thousand rows at most. Gives how many went; 0 when nothing is left to do."""
    went = line.apply(session=session, now=now) if line.apply else 0
    if went:
        db.scrub(session)
    return went


def apply_often(*, session: Session, now: datetime) -> None:
    """For the tick, a step of each."""
    for line in {line.apply: line for line in TABLE if line.often}.values():
        apply(session=session, now=now, line=line)
