"""How fast this worker may go: its share of the relay's connections and rate, and less when the relay has had
enough. Pure; `now` is in seconds, of a clock that only goes forward.
"""

from __future__ import annotations

from collections import deque

CREEP_SECONDS = 2.0  # after trouble: one connection more, each time
CALM_SECONDS = 1.0  # one trouble is heard on many connections at once, and counts once
LEAST_WANT = 20
WINDOW_SECONDS = 5.0  # over which a rate is told
BURST_SECONDS = 2.0  # after a start: what the limit had saved up goes out first, and says nothing of the pace


class Pace:
    """`share` connections; `tokens` messages that may go now, None without a limit."""

    def __init__(self) -> None:
        self.share = 1
        self.tokens: int | None = None
        self._ceiling: int | None = None
        self._moved_at = 0.0
        self._slowed_at = float("-inf")
        self._sent = 0
        self._began_at = 0.0
        self._recorded: deque[tuple[float, int]] = deque()

    def connections(self, now: float) -> int:
        if self._ceiling is not None and now - self._moved_at >= CREEP_SECONDS:
            self._ceiling += 1
            self._moved_at = now
            if self._ceiling >= self.share:
                self._ceiling = None
        return self.share if self._ceiling is None else min(self.share, self._ceiling)

    def slower(self, now: float) -> None:
        """The relay said 421, or 4xx before it knew whom the mail was for: half the connections (requirements 1.10)."""
        if now - self._slowed_at < CALM_SECONDS:
            return
        self._slowed_at = now
        self._ceiling = max(1, self.connections(now) // 2)
        self._moved_at = now

    def may_send(self) -> bool:
        return self.tokens is None or self.tokens > 0

    def sent(self) -> None:
        self._sent += 1
        if self.tokens is not None:
            self.tokens -= 1

    def want(self) -> int:
        """What to ask of the bucket that all workers share: enough to go twice as fast as until now, no hoard."""
        wanted = max(LEAST_WANT, 2 * self._sent) - max(self.tokens or 0, 0)
        self._sent = 0
        return max(wanted, 0)

    def granted(self, tokens: int | None) -> None:
        self.tokens = None if tokens is None else (self.tokens or 0) + tokens

    def rate(self, now: float, recorded: int) -> float:
        """Messages a second over the last seconds, whatever batch they were of; `recorded` of them just now."""
        while self._recorded and now - self._recorded[0][0] > WINDOW_SECONDS:
            self._recorded.popleft()
        if not self._recorded:
            self._began_at = now
        self._recorded.append((now, recorded))
        steady = self._began_at if self.tokens is None else self._began_at + BURST_SECONDS
        while len(self._recorded) > 1 and self._recorded[0][0] < steady:
            self._recorded.popleft()
        since, first = self._recorded[0]
        together = sum(count for _, count in self._recorded) - first  # of before the first
        return together / (now - since) if now > since else 0.0
