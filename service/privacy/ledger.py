"""The ledger: who was erased, who may not be mailed and who left which theme, as keyed hashes, beside the database.

A backup knows nothing of an erasure that came after it, or of who left. So the tick keeps a copy in DATA_DIR, and
`vinkje privacy replay` brings a restored database back in line with it. The copy and the database both know when it was
written: a database that knows less was restored, and the copy is left as it is until it was replayed.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

import structlog
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service import errors, folder, heartbeat, settings
from service.privacy import forgetting, numbers
from service.subscribers import leavings, unsubscribe
from service.subscribers.models import Consent, Erasure, Suppression, SuppressionReason

FILE = "ledger.csv"
HEADER = ["what", "of", "value", "at"]
HASH = re.compile(r"[0-9a-f]{64}")
WRITTEN = "ledger"  # the heartbeat that says when

log = structlog.get_logger()
_glanced: dict[Path, tuple[object, ...]] = {}  # what `_glance` saw when this process last compared copy and database
_told: list[tuple[datetime | None, ...]] = []  # of which copy and database this process said already: not replayed


@dataclass
class Ledger:
    """`erasures`, `suppressions` and `left` by keyed hash; `used`: numbers.py."""

    erasures: dict[str, datetime] = field(default_factory=dict)
    suppressions: dict[str, tuple[SuppressionReason, datetime]] = field(default_factory=dict)
    left: dict[str, datetime] = field(default_factory=dict)
    used: dict[str, int] = field(default_factory=dict)
    written_at: datetime | None = None


def of(*, session: Session, now: datetime) -> Ledger:
    """Of who left longer ago than any backup is old it says nothing."""
    erased = session.execute(select(Erasure.address_hash, Erasure.at))
    refused = session.execute(select(Suppression.address_hash, Suppression.reason, Suppression.at))
    return Ledger(  # columns, not rows as objects: there may be a hundred thousand
        erasures={row.address_hash: row.at for row in erased},
        suppressions={hashed: (reason, at) for hashed, reason, at in refused},
        left=leavings.known(session=session, since=now - forgetting.ERASURES),
        used=numbers.used(session=session),
    )


def text(found: Ledger, now: datetime) -> str:
    """As CSV. In order of hash, so that nobody sees from it who came before whom."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(HEADER)
    writer.writerows(["number", table, number, ""] for table, number in sorted(found.used.items()))
    writer.writerows(["erasure", of, "", at.isoformat()] for of, at in sorted(found.erasures.items()))
    writer.writerows(["left", of, "", at.isoformat()] for of, at in sorted(found.left.items()))
    for hashed, (reason, at) in sorted(found.suppressions.items()):
        writer.writerow(["suppression", hashed, str(reason), at.isoformat()])
    writer.writerow(["written", "", "", now.isoformat()])  # last: a file that was cut off lacks it
    return out.getvalue()


def read(lines: Iterable[str]) -> Ledger:
    """Raises Refused on the first line that isn't one of ours: half a ledger must not pass for a whole one."""
    rows = csv.reader(lines)
    if next(rows, None) != HEADER:
        raise errors.Refused(
            "", "This is no ledger of ours: its first line must be %(header)s.", header=",".join(HEADER)
        )
    found = Ledger()
    for number, row in enumerate(rows, start=2):
        try:
            _take(found, *row)
        except (ValueError, TypeError):
            raise errors.Refused("", "Line %(line)s of the ledger can’t be read.", line=number) from None
    if found.written_at is None:
        raise errors.Refused("", "The ledger doesn’t say when it was written. Is it whole?")
    return found


def _take(found: Ledger, what: str, of: str, value: str, at: str) -> None:
    if what == "number":
        found.used[of] = int(value)
        return
    moment = datetime.fromisoformat(at)
    if moment.tzinfo is None:
        raise ValueError(at)
    if what == "written":
        found.written_at = moment
    elif not HASH.fullmatch(of):
        raise ValueError(of)
    elif what == "erasure":
        found.erasures[of] = moment
    elif what == "left":
        found.left[of] = moment
    elif what == "suppression":
        found.suppressions[of] = (SuppressionReason(value), moment)
    else:
        raise ValueError(what)


def keep(*, session: Session, now: datetime) -> None:
    """For the tick: write the copy when something changed. A fault is told, and stops nobody.

    All marks are read only when a glance says so, for the tick comes often and holds SQLite's lock; and once an hour.
    """
    path = settings.current().data_dir / FILE
    try:
        if _glanced.get(path) != _glance(session, now, path):
            _compare(session, now, path)
            _glanced[path] = _glance(session, now, path)
    except (OSError, errors.VinkjeError) as fault:
        log.error("ledger_unkept", fault=type(fault).__name__)


def _glance(session: Session, now: datetime, path: Path) -> tuple[object, ...]:
    """What differs when the copy or the database does. It can miss a mark that comes with an old date while another
    goes, and one of who came back to a theme: hence the hour.
    """
    ended = select(Consent.id).where(Consent.event.in_(unsubscribe.EVIDENCE.values())).order_by(Consent.id.desc())
    refused = select(Suppression.reason, func.count(), func.max(Suppression.at)).group_by(Suppression.reason)
    return (
        _stamp(path),
        heartbeat.last(session=session, name=WRITTEN),
        tuple(session.execute(select(func.count(), func.max(Erasure.at))).one()),
        {tuple(row) for row in session.execute(refused)},
        session.scalar(ended.limit(1)),
        numbers.used(session=session),
        now.replace(minute=0, second=0, microsecond=0),
    )


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _compare(session: Session, now: datetime, path: Path) -> None:
    found = of(session=session, now=now)
    found.written_at = heartbeat.last(session=session, name=WRITTEN)
    kept = _kept(path)
    if kept is not None and _restored(kept, found, now):
        both = (kept.written_at, found.written_at)
        if both not in _told:
            log.error("ledger_not_replayed", file=FILE)
            _told.append(both)
    elif kept is None or replace(kept, written_at=None) != replace(found, written_at=None):
        folder.make(path.parent)
        folder.write_whole(path, text(found, now))
        heartbeat.beat(session=session, now=now, name=WRITTEN)
    elif kept.written_at is not None and (found.written_at is None or found.written_at < kept.written_at):
        # Alike, but whoever wrote it died before the commit. Told now: once marks come and go, it would look restored.
        heartbeat.beat(session=session, now=kept.written_at, name=WRITTEN)


def replayed(*, session: Session, told: Ledger) -> None:
    """The database knows all that was known when `told` was written. A copy that was written later isn't overtaken by
    that: it knows more, and asks to be replayed too.
    """
    assert told.written_at is not None  # `read` saw to it
    before = heartbeat.last(session=session, name=WRITTEN)
    heartbeat.beat(session=session, now=max(told.written_at, before or told.written_at), name=WRITTEN)


def _restored(kept: Ledger, found: Ledger, now: datetime) -> bool:
    """The database was told of a writing before that of `kept`, and lacks something that `kept` has. (A process that
    died just after writing also leaves an older time, and lacks nothing.)
    """
    assert kept.written_at is not None  # `read` saw to it
    if found.written_at is not None and found.written_at >= kept.written_at:
        return False
    return bool(
        kept.erasures.keys() - found.erasures.keys()
        or kept.suppressions.keys() - found.suppressions.keys()
        or {one for one, at in kept.left.items() if at >= now - forgetting.ERASURES} - found.left.keys()
        or any(number > found.used.get(table, 0) for table, number in kept.used.items())
    )


def _kept(path: Path) -> Ledger | None:
    try:
        with path.open(encoding="ascii", newline="") as file:
            return read(file)
    except FileNotFoundError:
        return None
