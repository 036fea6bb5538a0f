"""Event files read back without TensorBoard."""

import struct
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event


def read_events(folder: Path) -> list[Event]:
    """Every event of every file, in order."""
    events = []
    for path in sorted(folder.glob("events.out.tfevents.*")):
        content, at = path.read_bytes(), 0
        while at < len(content):
            (length,) = struct.unpack_from("<Q", content, at)  # length, its checksum, the record, its checksum
            events.append(Event.FromString(content[at + 12 : at + 12 + length]))
            at += length + 16
    return events


def scalar_points(folder: Path) -> list[tuple[int, dict[str, float]]]:
    """(step, tag -> value) of every event that holds numbers."""
    found = []
    for event in read_events(folder):
        values = {v.tag: v.simple_value for v in event.summary.value if v.HasField("simple_value")}
        if values:
            found.append((event.step, values))
    return found
