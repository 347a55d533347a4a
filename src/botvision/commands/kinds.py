"""Commands that serve both kinds of checkpoint: flags that belong to one kind alone."""

from botvision.checkpoint import Kind
from botvision.errors import UserError


def refuse_flags(kind: Kind, given: dict[str, bool]) -> None:
    """Refuse flags that mean nothing for a checkpoint.

    Args:
        kind: of the checkpoint.
        given: for each flag of the other kind whether it was given.

    Raises:
        UserError: naming the first of them.
    """
    for flag, is_given in given.items():
        if is_given:
            raise UserError(f"{flag} does not belong to a {kind} checkpoint, which this is")
