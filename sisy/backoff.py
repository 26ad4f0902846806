"""Waiting longer and longer while something outside fails: the layer, the database, a child process.

layer.py and the loops of worker/ use it; one warning a step is all that an operator sees of an outage.
"""

import logging


class Backoff:
    """Waits that double while something fails.

    Args:
        what: what fails, as the beginning of a sentence.
        meanwhile: what sisy does until it works again.
        log: where the warnings go.
        first: the first wait, in seconds.
        longest: the longest wait, in seconds.
    """

    def __init__(
        self, what: str, *, meanwhile: str, log: logging.Logger, first: float = 1.0, longest: float = 30.0
    ) -> None:
        self._what = what
        self._meanwhile = meanwhile
        self._log = log
        self._first = first
        self._longest = longest
        self.seconds = 0.0

    def failed(self, error: BaseException | str) -> float:
        """Note a failure, with one warning; return how many seconds to wait.

        >>> backoff = Backoff("This example", meanwhile="nothing happens", log=logging.getLogger("sisy.doctest"))
        >>> [backoff.failed("it has to") for _ in range(3)]
        [1.0, 2.0, 4.0]
        """
        self.seconds = min(self.seconds * 2 or self._first, self._longest)
        why = error if isinstance(error, str) else f"{type(error).__name__}: {str(error).strip()}".rstrip(": ")
        self._log.warning("%s failed: %s. Until it works, %s; next try in %g s", self._what, why.rstrip(". "),
                          self._meanwhile, self.seconds)  # fmt: skip
        return self.seconds

    def worked(self) -> None:
        """Note a success."""
        if self.seconds:
            self._log.info("%s works again", self._what)
        self.seconds = 0.0
