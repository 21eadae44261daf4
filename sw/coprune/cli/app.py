"""The application that the commands join, and how it ends: done, or one line that says why not."""

from __future__ import annotations

import logging
import sys
import warnings

import typer

app = typer.Typer(
    name="coprune",
    help="Prune, quantize, compile and verify networks for a sparse INT8 FPGA accelerator.",
    add_completion=False,
    pretty_exceptions_enable=False,
)
INTERRUPTED = 130
"""What typer makes of Ctrl-C, or else `typer.Abort`."""
LONGEST_MESSAGE = 1200
"""Characters of an error: PyTorch can say a page, and a build's log more."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line: exit code 0, or 1 with one line that says what is wrong.

    Parameters
    ----------
    arguments : list of str
        Those of the process, where it is None.
    """
    # PyTorch's warnings concern its developers.
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            code = app(arguments, standalone_mode=False)
    except typer.Abort:
        _fail("interrupted")
    except Exception as error:
        _fail(_explain(error))
    finally:
        logging.disable(logging.NOTSET)
    if code == INTERRUPTED:
        _fail("interrupted")
    sys.exit(code or 0)


def _explain(error: Exception) -> str:
    """An error in one line."""
    if hasattr(error, "format_message"):
        # A usage error, of click or of the click in typer.
        return f"{error.format_message().rstrip('.')}; see coprune --help"
    message = " ".join(str(error).split())
    if not isinstance(error, ValueError | TypeError | OSError | RuntimeError | OverflowError):
        message = f"{type(error).__name__}: {message}"
    if len(message) > LONGEST_MESSAGE:
        # A PyTorch error says most at its beginning, a build's log at its end.
        half = LONGEST_MESSAGE // 2
        message = f"{message[:half]} ... {message[-half:]}"
    return message


def _fail(message: str) -> None:
    print(f"coprune: {message}", file=sys.stderr)
    sys.exit(1)
