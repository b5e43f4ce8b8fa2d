"""Labels that are numbers: are they the run's?"""

from __future__ import annotations

from prismkd.errors import UserError


def check_labels(labels: list[int], num_classes: int, source: str) -> list[int]:
    """The labels themselves, each of which must be one of ``num_classes``.

    Raises:
        UserError: some are not.
    """
    unknown = sorted({label for label in labels if not 0 <= label < num_classes})
    if unknown:
        raise UserError(
            f"expected labels from 0 to {num_classes - 1} in {source}, got {str(unknown[:5])[1:-1]}"
            f"{' and more' if len(unknown) > 5 else ''}; check that it has the run's classes"
        )
    return labels
