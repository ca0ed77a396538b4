"""Why we may keep it (GDPR art. 6(1)): the ground of each line of retention.py's table, as the privacy page names it.

Taking permission back ends what rests on that alone: that it was given must be shown later too (art. 7(1), 17(3)(b)).
"""

from __future__ import annotations

from service import i18n
from service.i18n import N_

PERMISSION = N_("your permission")  # art. 6(1)(a)
LAW = N_("the law")  # art. 6(1)(c), with 7(1) for evidence, and 12 for what a reader asks
INTEREST = N_("our interest")  # art. 6(1)(f); which one it is, the line's "why" says

OF: dict[str, tuple[str, ...]] = {
    "readers": (PERMISSION, LAW),
    "forms": (INTEREST,),  # perhaps somebody else typed the address: permission comes with the press of the button
    "unconfirmed": (INTEREST,),
    "confirmed": (INTEREST,),
    "attempts": (INTEREST,),
    "letters": (LAW, INTEREST),  # and that nobody changes your themes unseen
    "deliveries": (INTEREST,),
    "reports": (INTEREST,),
    "dead_addresses": (INTEREST,),
    "refusals": (INTEREST,),  # and the objection itself, art. 21(3)
    "erasures": (INTEREST,),
    "leavings": (INTEREST,),
    "backups": (INTEREST,),
    "totals": (),  # what names nobody needs none
    "report_counts": (),
    "logs": (),
    "editors": (INTEREST,),
    "invitations": (INTEREST,),
    "sessions": (INTEREST,),
    "notices": (INTEREST,),
    "caught": (INTEREST,),
}


def words(*, key: str, language: str) -> str:
    """Of the line with this key; empty where there's nothing about anybody."""
    said = [i18n.gettext(language, ground) for ground in OF[key]]
    if not said:
        return ""
    if len(said) == 1:
        return i18n.gettext(language, N_("Legal basis: %(ground)s."), ground=said[0])
    return i18n.gettext(language, N_("Legal basis: %(one)s and %(other)s."), one=said[0], other=said[1])
