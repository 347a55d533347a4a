"""The limits of the page's server."""

from botvision.configuration import Config, Count, Positive


class ServeLimits(Config):
    """What one user of the page can take from the others, and from the machine."""

    max_megabytes: Positive = 32.0
    """Largest image file that is taken."""
    max_seconds: Positive = 120.0
    """Longest time for one image, from its first byte to the answer, with the wait for others."""
    max_uploads: Count = 4
    """Images in memory at once; others wait."""
    max_waiting: Count = 100
    """Images that wait or are worked on; more are turned away."""
