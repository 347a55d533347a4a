"""The log of what a process meets alone, such as an image that it cannot read: there every process of a run speaks.

What all of them have to say, the first one says; its log is "botvision".
"""

import logging

process_log = logging.getLogger("botvision.process")


def name_process(rank: int) -> None:
    """For every process but the first: put its number before what it meets alone, and log only errors of the rest."""

    def with_rank(record: logging.LogRecord) -> bool:
        record.msg = f"process {rank}: {record.msg}"
        return True

    logging.getLogger("botvision").setLevel(logging.ERROR)
    process_log.setLevel(logging.WARNING)
    process_log.addFilter(with_rank)
