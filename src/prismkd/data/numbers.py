"""Labels that are numbers."""

from __future__ import annotations

from prismkd.errors import UserError


def check_labels(labels: list[int], num_classes: int, source: str) -> list[int]:
    """The labels, if each is one of the classes'.

    Raises:
        UserError: some are not.
    """
    strange = sorted({label for label in labels if not 0 <= label < num_classes})
    if strange:
        raise UserError(
            f"expected labels from 0 to {num_classes - 1} in {source}, got {str(strange[:5])[1:-1]}"
            f"{' and more' if len(strange) > 5 else ''}; check that it has the run's classes"
        )
    return labels
