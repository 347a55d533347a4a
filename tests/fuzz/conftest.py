"""How many examples the fuzz tests draw: few by default, many with ``--hypothesis-profile fuzz``."""

from hypothesis import settings

settings.register_profile("fuzz", max_examples=2000, deadline=None)
