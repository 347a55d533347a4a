"""The one kind of error that a user can mend; the command line prints it as a single line, exit status 2."""


class UserError(ValueError):
    """Something in the user's files, flags or arguments is wrong: the message names it and says what would be right.

    An error raised in a DataLoader worker reaches the main process with the worker's traceback as its text; only
    the last line of it, the message itself, is kept.
    """

    def __init__(self, message: str) -> None:
        if "Original Traceback" in message:
            message = message.strip().splitlines()[-1].partition(": ")[2]
        super().__init__(message)


class NotFiniteError(UserError):
    """A loss or an answer of a network is infinite or no number: its weights have blown up."""
