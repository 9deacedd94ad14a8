"""What the core logs, in the log of the task run or flow run that it works for.

The core logs what a person may wonder about while nothing seems to happen: that it waits for room or through an outage,
which job it goes on with, which way a file goes. Prefect sends only its own loggers to its API.
"""

from __future__ import annotations

import logging

CORE = "firecrest_core"


class RunLogHandler(logging.Handler):
    """Passes a record on to the logger of the run in whose context it was made, else to the root logger."""

    def emit(self, record: logging.LogRecord) -> None:
        """Pass the record on.

        :param record: what the core has logged
        """
        from prefect.exceptions import MissingContextError
        from prefect.logging import get_run_logger

        try:
            get_run_logger().log(record.levelno, record.getMessage())
        except MissingContextError:
            if record.levelno >= logging.root.level:
                logging.root.callHandlers(record)


def install() -> None:
    """Send what the core logs to the runs' logs. Calling it again changes nothing."""
    logger = logging.getLogger(CORE)
    if any(isinstance(handler, RunLogHandler) for handler in logger.handlers):
        return
    logger.addHandler(RunLogHandler())
    logger.propagate = False
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)
