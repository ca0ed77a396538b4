"""Mails as they come back from other servers."""

from __future__ import annotations

BOUNCE = """\
Return-Path: <>
Delivered-To: {to}
From: MAILER-DAEMON@mx.gemeente.example (Mail Delivery System)
To: {to}
Subject: Undelivered Mail Returned to Sender
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="b"

--b
Content-Type: text/plain; charset=us-ascii

I'm sorry to have to inform you that your message could not be delivered.

--b
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.gemeente.example

Final-Recipient: rfc822; {about}
Action: {action}
Status: {status}
Diagnostic-Code: smtp; 550 {status} {said}

--b
Content-Type: text/rfc822-headers

{headers}
--b--
"""
COMPLAINT = """\
From: <feedback@provider.example>
To: <postmaster@vinkje.example>
Subject: FW: Nieuws
MIME-Version: 1.0
Content-Type: multipart/report; report-type=feedback-report; boundary="b"

--b
Content-Type: text/plain

This is an email abuse report.
--b
Content-Type: message/feedback-report

Feedback-Type: {kind}
User-Agent: Provider/1.0
Version: 1

--b
Content-Type: text/rfc822-headers

{headers}
--b--
"""
AWAY = """\
From: Saskia <saskia@gemeente.example>
To: {to}
Subject: Afwezig: Nieuws
Auto-Submitted: auto-replied

Ik ben er maandag weer.
"""
LEAVE = """\
From: Saskia <{by}>
To: {to}
Subject: unsubscribe

"""


def bounce(
    to: str,
    status: str = "5.1.1",
    *,
    action: str = "failed",
    about: str = "saskia@gemeente.example",
    said: str = "refused",
    headers: str = "Subject: Nieuws\n",
) -> bytes:
    return _wire(BOUNCE.format(to=to, status=status, action=action, about=about, said=said, headers=headers))


def complaint(headers: str, kind: str = "abuse") -> bytes:
    """The recipient is left out, as most providers do; what is known of it stands in the headers of our mail."""
    return _wire(COMPLAINT.format(headers=headers, kind=kind))


def away(to: str) -> bytes:
    return _wire(AWAY.format(to=to))


def leave(to: str, *, by: str = "saskia@gemeente.example") -> bytes:
    return _wire(LEAVE.format(to=to, by=by))


def _wire(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode()
