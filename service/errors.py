"""Every expected failure, on one page. The code is stable: log lines and their alerts are found by it
(service/web/access.py). The HTTP status is chosen at the door.

VinkjeError
├── SettingsRefused      the environment holds a value we can't start with
├── Refused              input that can't be taken; says which field and why
├── NotFound             no such theme, item, issue, editor
├── NotAllowed           the editor's role doesn't reach this far
├── Conflict             the thing is in another state than the caller thought
├── LinkRefused          a signed link that is tampered with, cut off, or meant for another door
├── Throttled            too many tries; carries the seconds to wait
└── FenceLost            another worker took this batch; what we hold must not be recorded
"""

from __future__ import annotations


class VinkjeError(Exception):
    """`message` is an English msgid; the door translates it and fills in `params`."""

    code = "error"

    def __init__(self, message: str, **params: object) -> None:
        super().__init__(message % params if params else message)
        self.message = message
        self.params = params


class SettingsRefused(VinkjeError):
    code = "settings_refused"


class Refused(VinkjeError):
    """`field` is the form field or option at fault, or "" when it's the whole."""

    code = "refused"

    def __init__(self, field: str, message: str, **params: object) -> None:
        super().__init__(message, **params)
        self.field = field


class NotFound(VinkjeError):
    code = "not_found"


class NotAllowed(VinkjeError):
    code = "not_allowed"


class Conflict(VinkjeError):
    code = "conflict"


class LinkRefused(VinkjeError):
    code = "link_refused"


class LinkLeaked(LinkRefused):
    """Signed by a key that others may know: no proof of anything."""

    code = "link_leaked"


class Throttled(VinkjeError):
    code = "throttled"

    def __init__(self, message: str, *, seconds: int, **params: object) -> None:
        super().__init__(message, seconds=seconds, **params)
        self.seconds = seconds


class FenceLost(VinkjeError):
    code = "fence_lost"
