"""Percentiles, and how the load clients print them."""


def percentile(values: list[float], share: float) -> float:
    """Nearest rank; not a number if there are no values."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    return ordered[round(share * (len(ordered) - 1))]


def milliseconds(values: list[float], *shares: float) -> dict[str, float]:
    """{"p50": …} in milliseconds, from seconds."""
    return {f"p{share * 100:g}": round(percentile(values, share) * 1000, 2) for share in shares}
