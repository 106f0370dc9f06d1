"""What happens to groups in Ray, and how long it took."""

from __future__ import annotations

import dataclasses
import statistics

# Ray's Gloo and ours, as ray_rank.py calls them.
FLAVOURS = {"gloo": "Ray's Gloo", "tutti": "Tutti"}


@dataclasses.dataclass
class Event:
    """Something that happens to a group, some times. `status`: "ok", or what went wrong."""

    what: str
    world_size: int
    flavour: str
    samples_ns: list[float] = dataclasses.field(default_factory=list)
    status: str = "ok"

    def median_ns(self) -> float | None:
        return statistics.median(self.samples_ns) if self.samples_ns else None
