"""Sizes as people write them."""

import re

from .errors import Invalid

POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


def parse_size(size: int | float | str) -> int:
    """Bytes. "6GiB", "6 G", "512MB", "1.5g": all units are powers of 1024. Invalid if it is none."""
    if isinstance(size, (int, float)) and not isinstance(size, bool) and size >= 0:
        return int(size)
    matched = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?\s*", size, re.IGNORECASE) if isinstance(size, str) else None
    if matched is None:
        raise Invalid(f"{size!r} is no size", 'bytes, or a text like "6GiB"', "argument")
    return int(float(matched[1]) * 1024 ** POWERS[matched[2].upper()])
