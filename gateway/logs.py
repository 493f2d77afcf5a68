"""Structured logs: lines for people on a terminal, JSON for machines; never a secret, a token or a code."""

import logging
import sys

import structlog


def configure_logs(level: str, *, as_json: bool) -> None:
    """Sets up structlog and the standard library's loggers, which other libraries use."""
    renderer = structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=False)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.StackInfoRenderer(),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level)),
        # Looked up for each line: whoever runs commands in one process may put another stream there.
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
    )
    logging.basicConfig(
        level=max(getattr(logging, level), logging.WARNING), format="%(levelname)s %(name)s %(message)s"
    )
