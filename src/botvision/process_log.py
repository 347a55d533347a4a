"""The log of what a process meets alone, such as an image that it cannot read: there every process of a run speaks.

What all of them have to say, the first one says; its log is "botvision".
"""

import logging

process_log = logging.getLogger("botvision.process")


def name_process(rank: int) -> None:
    """Let this process, which is not the first one, log what it meets alone, with its number, and errors otherwise."""

    def with_rank(record: logging.LogRecord) -> bool:
        record.msg = f"process {rank}: {record.msg}"
        return True

    logging.getLogger("botvision").setLevel(logging.ERROR)
    process_log.setLevel(logging.WARNING)
    process_log.addFilter(with_rank)
